"""Files ↔ models, one module a format. A format's own libraries are imported when a file of it is met."""

from __future__ import annotations

import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TypeGuard, Union

from graphsplit.errors import FormatError, GraphSplitError, OptionError
from graphsplit.formats.base import Stored
from graphsplit.formats.detect import FORMATS, check_readable, detect_format
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.model import Model
from graphsplit.formats.model_file import ModelFile
from graphsplit.formats.staging import recover
from graphsplit.graph.options import hinted

__all__ = ["GraphDefModel", "Model", "ModelFile", "ModelLike", "as_graphdef", "as_model", "is_model", "load", "locate", "scanned"]

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
def load(
    model: ModelLike,
    format: str | None = None,
    *,
    trust: bool = False,
    signature: str | None = None,
    tags: str | Iterable[str] | None = None,
    isolate: bool = True,
) -> Model:
    """Read a model: a frozen ``.pb`` or ``.pbtxt``, a SavedModel folder, a ``.keras`` or a ``.tflite`` file, or one in memory.

    Args:
        model: The path of a file or folder; "demo" for the detector that comes with the package, if there is no such
            file; or a model in memory, see `graphsplit.formats.objects.load_object`.
        format: One of "graphdef", "pbtxt", "saved_model", "keras", "tflite"; None: detected from the content.
        trust: Load a SavedModel that reaches files, the network or Python; loading runs parts of it.
        signature: Name of the signature, of a SavedModel or ``.tflite`` file with several. None: "serving_default", or
            "default", or the only one; of a ``.tflite`` file the one of the first subgraph.
        tags: Of the meta graph, of a SavedModel with several: names, or one string with commas between. None: "serve", or the
            only meta graph.
        isolate: Have TensorFlow and Keras load in a child process, with a deadline and a bound on memory; False: in this one.

    Raises:
        FormatError: for a file that cannot be read as a model.
        OptionError: for a signature or tags that the file does not have.
        TrustError: for a SavedModel that needs trust.
    """
    if isinstance(model, ModelFile):
        signature, tags = model.signature if signature is None else signature, model.tags if tags is None else tags
    if not isinstance(model, (str, PathLike)):
        from graphsplit.formats.objects import load_object

        _refuse_choice("a model in memory", signature, tags)
        return model if is_model(model) else load_object(model)
    where = locate(model)
    if not os.path.lexists(where):
        recover(where.parent)  # a folder that a killed run has moved aside
    kind = detect_format(where) if format is None else format
    if kind not in FORMATS:
        raise FormatError(f"unknown format {kind!r}; there are {', '.join(FORMATS)}", path=where)
    try:
        check_readable(where)
        return _load(where, kind, trust, signature, _tags(tags), isolate)
    except OSError as error:
        if isinstance(error, GraphSplitError):  # a TrustError is a PermissionError
            raise
        raise FormatError(f"cannot be read: {error.strerror or error}", path=where) from error


def scanned(model: str | PathLike[str]) -> Model:
    """A SavedModel as it is in its file, not frozen: nothing is run. Raises FormatError, OptionError."""
    from graphsplit.formats.saved_model import scan

    file = model if isinstance(model, ModelFile) else ModelFile(os.fspath(model))
    return scan(locate(file), signature=file.signature, tags=_tags(file.tags))


def _tags(tags: object) -> tuple[str, ...] | None:
    """Tags as users write them, each once."""
    if tags is None:
        return None
    several = list(tags) if isinstance(tags, Iterable) and not isinstance(tags, (str, bytes)) else [tags]
    if not all(isinstance(text, str) for text in several):
        raise OptionError(f"tags are strings, not {tags!r:.100}", option="tags")
    return tuple(dict.fromkeys(tag.strip() for text in several for tag in str(text).split(",") if tag.strip()))


def _refuse_choice(what: str, signature: str | None, tags: object) -> None:
    for option, value, holders in (
        ("signature", signature, "a SavedModel folder or a .tflite file"),
        ("tags", tags, "a SavedModel folder"),
    ):
        if value is not None:
            raise OptionError(f"{option}=… is for {holders}, and this is {what}; leave it out", option=option)


def _load(path: Path, kind: str, trust: bool, signature: str | None, tags: tuple[str, ...] | None, isolate: bool) -> Model:
    if kind == "saved_model":
        from graphsplit.formats.saved_model import load_saved_model

        return load_saved_model(path, trust=trust, signature=signature, tags=tags, isolate=isolate)
    if kind == "tflite":
        from graphsplit.formats.tflite.model import load_tflite

        _refuse_choice("a TFLite file", None, tags)
        return load_tflite(path, signature=signature)
    _refuse_choice({"keras": "a .keras file"}.get(kind, "a GraphDef"), signature, tags)
    if kind == "keras":
        from graphsplit.formats.keras import load_keras

        return load_keras(path, isolate=isolate)
    from graphsplit.formats.graphdef.files import load_graphdef, load_pbtxt

    return load_pbtxt(path) if kind == "pbtxt" else load_graphdef(path)
