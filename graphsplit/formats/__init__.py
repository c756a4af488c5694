"""Files ↔ models, one module a format. A format's own libraries are imported when a file of it is met."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats.detect import FORMATS, check_opens, recognise
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.model import Model

__all__ = ["GraphDefModel", "Model", "as_graphdef", "load"]


def as_graphdef(model: Model, what: str) -> GraphDefModel:
    """The model, where it is a GraphDef. Raises FormatError that says `what` needs one."""
    if not isinstance(model, GraphDefModel):
        raise FormatError(f"{what} needs a GraphDef, and this is a {model.section_format} model", path=model.path)
    return model


def load(path: str | PathLike[str], format: str | None = None, *, trust: bool = False) -> Model:
    """Read a model: a frozen ``.pb`` or ``.pbtxt``, a SavedModel folder, a ``.keras`` or a ``.tflite`` file.

    format  one of "graphdef", "pbtxt", "saved_model", "keras", "tflite"; None: found out from the content
    trust   whether a SavedModel that reaches files, the network or Python may be loaded, which runs parts of it

    Raises FormatError, and TrustError for a SavedModel that would need trust.
    """
    where = Path(path)
    kind = recognise(where) if format is None else format
    if kind not in FORMATS:
        raise FormatError(f"unknown format {kind!r}; there are {', '.join(FORMATS)}", path=where)
    try:
        check_opens(where)
        return _load(where, kind, trust)
    except OSError as error:
        if isinstance(error, GraphSplitError):  # a TrustError is a PermissionError
            raise
        raise FormatError(f"cannot be read: {error.strerror or error}", path=where) from error


def _load(path: Path, kind: str, trust: bool) -> Model:
    if kind == "saved_model":
        from graphsplit.formats.saved_model import load_saved_model

        return load_saved_model(path, trust=trust)
    if kind == "keras":
        from graphsplit.formats.keras import load_keras

        return load_keras(path)
    if kind == "tflite":
        from graphsplit.formats.tflite.model import load_tflite

        return load_tflite(path)
    from graphsplit.formats.graphdef.files import load_graphdef, load_pbtxt

    return load_pbtxt(path) if kind == "pbtxt" else load_graphdef(path)
