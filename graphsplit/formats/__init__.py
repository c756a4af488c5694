"""Files ↔ models, one module a format. A format's own libraries are imported when a file of it is met."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import TypeGuard, Union

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats.base import Stored
from graphsplit.formats.detect import FORMATS, check_readable, detect_format
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.model import Model
from graphsplit.formats.staging import recover
from graphsplit.graph.options import hinted

__all__ = ["GraphDefModel", "Model", "ModelLike", "as_graphdef", "as_model", "is_model", "load", "locate"]

#: A model, or what `load` takes: a path, "demo", or a model in memory.
ModelLike = Union[Model, str, PathLike[str], object]  # noqa: UP007  # object: TensorFlow's types cannot be named here

_DEMO = Path(__file__).parents[1] / "demo" / "data" / "shapes_ssd.pb"


def as_graphdef(model: Model, what: str) -> GraphDefModel:
    """The model, where it is a GraphDef. Raises FormatError that says `what` needs one."""
    if not isinstance(model, GraphDefModel):
        raise FormatError(f"{what} needs a GraphDef, and this is a {model.section_format} model", path=model.path)
    return model


def as_model(model: ModelLike, *, trust: bool = False, isolate: bool = True) -> Model:
    """The model itself, or what `load` makes of it. Raises what `load` raises."""
    return model if is_model(model) else load(model, trust=trust, isolate=isolate)


def is_model(value: object) -> TypeGuard[Model]:
    """Whether this is a model already."""
    return isinstance(value, Stored)


def locate(path: str | PathLike[str]) -> Path:
    """The path of a model; "demo" is the detector that comes with the package, if there is no such file."""
    where = Path(path)
    return _DEMO if str(path) == "demo" and not where.exists() else where


@hinted
def load(model: ModelLike, format: str | None = None, *, trust: bool = False, isolate: bool = True) -> Model:
    """Read a model: a frozen ``.pb`` or ``.pbtxt``, a SavedModel folder, a ``.keras`` or a ``.tflite`` file, or one in memory.

    Args:
        model: The path of a file or folder; "demo" for the detector that comes with the package, if there is no such
            file; or a model in memory, see `graphsplit.formats.objects.load_object`.
        format: One of "graphdef", "pbtxt", "saved_model", "keras", "tflite"; None: detected from the content.
        trust: Load a SavedModel that reaches files, the network or Python; loading runs parts of it.
        isolate: Have TensorFlow and Keras load in a child process, with a deadline and a bound on memory; False: in this one.

    Raises:
        FormatError: for a file that cannot be read as a model.
        TrustError: for a SavedModel that needs trust.
    """
    if not isinstance(model, (str, PathLike)):
        from graphsplit.formats.objects import load_object

        return model if is_model(model) else load_object(model)
    where = locate(model)
    if not os.path.lexists(where):
        recover(where.parent)  # a folder that a killed run has moved aside
    kind = detect_format(where) if format is None else format
    if kind not in FORMATS:
        raise FormatError(f"unknown format {kind!r}; there are {', '.join(FORMATS)}", path=where)
    try:
        check_readable(where)
        return _load(where, kind, trust, isolate)
    except OSError as error:
        if isinstance(error, GraphSplitError):  # a TrustError is a PermissionError
            raise
        raise FormatError(f"cannot be read: {error.strerror or error}", path=where) from error


def _load(path: Path, kind: str, trust: bool, isolate: bool) -> Model:
    if kind == "saved_model":
        from graphsplit.formats.saved_model import load_saved_model

        return load_saved_model(path, trust=trust, isolate=isolate)
    if kind == "keras":
        from graphsplit.formats.keras import load_keras

        return load_keras(path, isolate=isolate)
    if kind == "tflite":
        from graphsplit.formats.tflite.model import load_tflite

        return load_tflite(path)
    from graphsplit.formats.graphdef.files import load_graphdef, load_pbtxt

    return load_pbtxt(path) if kind == "pbtxt" else load_graphdef(path)
