"""SavedModel folders → frozen models.

    load    scan the bytes (nothing is run) → refuse what reaches outside → TensorFlow loads it → freeze → prune
    scan    the graph as it is in the file, unfrozen, to look at before trusting it

A SavedModel of TensorFlow 1 is a graph with a saver: it is imported into a separate graph and session, restored, frozen. One of
TensorFlow 2 is objects that hold functions: it is loaded, and the function of the signature frozen. Loops are as TensorFlow's
freezing leaves them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from graphsplit.errors import FormatError, TrustError
from graphsplit.formats.freeze import loading, on_one_line
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.wire import Buffer, GraphError, WireError
from graphsplit.formats.isolated import Frozen, answer, freeze_apart
from graphsplit.formats.meta_graph import MetaGraph, Outside, read_meta_graphs, signature_keys, signature_tensors
from graphsplit.formats.saved_model_freezing import freeze_saved_model
from graphsplit.formats.source import SourceFile, read_source
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.signature import Signature

if TYPE_CHECKING:
    from graphsplit.isolation.messages import Answer, Array

__all__ = ["freeze_task", "load_saved_model", "scan"]

_TAG = "serve"
_SIGNATURE = "serving_default"
_READ_BY_TENSORFLOW = ("variables", "assets", "debug", "fingerprint.pb")


def load_saved_model(path: Path, *, trust: bool = False, isolate: bool = True) -> GraphDefModel:
    """The signature "serving_default" (or the only one) of a SavedModel, frozen.

    Args:
        path: The folder.
        trust: Load it even if it reaches files, the network or Python, or has files outside of its folder.
        isolate: Load it in the child process. A model that reaches outside itself, and is trusted, is loaded here if TensorFlow
            has been imported here: its custom ops and Python functions may be registered in this process only.

    Raises:
        FormatError: It is damaged, incomplete or has no such signature.
        TrustError: It reaches outside itself; raised before anything is run.
    """
    state = _files(path)
    source, meta = _open(path)
    with _damage(path):
        key = _signature_key(meta, path)
        meta.reader.library.check_calls()
        if not trust:
            _check_trust(meta.outside)
            _check_files(path, meta)
        if isolate and not ("tensorflow" in sys.modules and meta.outside):
            data, outputs, signature = freeze_apart(freeze_task, {"path": str(path), "key": key}, path, patient=bool(meta.outside))
        else:
            data, outputs, signature = _freeze_here(path, meta, key)
        if _files(path) != state:
            raise FormatError("changed while it was loaded; try again when nothing writes to it", path=path)
        return GraphDefModel([data], path=path, source=source, format="saved_model", output_names=outputs, signature=signature)


def freeze_task(said: Any, arrays: Sequence[Array]) -> Answer:
    """A task of the child process: a signature of a SavedModel, frozen."""
    path = Path(said["path"])
    _, meta = _open(path)
    return answer(*_freeze_here(path, meta, said["key"]))


def _freeze_here(path: Path, meta: MetaGraph, key: str) -> Frozen:
    """Load and freeze a signature in this process."""
    then = "save it again, or pass the frozen graph (frozen_inference_graph.pb)"
    with loading(path, "TensorFlow cannot load this SavedModel", then):
        return Frozen(*freeze_saved_model(path, meta, key))


def scan(path: Path) -> GraphDefModel:
    """The graph of a SavedModel as it is in the file: not frozen, nothing run, no TensorFlow.

    Its `reaches_outside` is what keeps `load_saved_model` from loading it without trust, initialisers and functions
    included. (A ``saved_model.pbtxt`` is parsed with TensorFlow's definitions, which imports it but runs nothing.)

    Raises FormatError.
    """
    source, meta = _open(path)
    with _damage(path):
        signatures = meta.signatures
        chosen = signatures.get(_SIGNATURE) or (next(iter(signatures.values())) if len(signatures) == 1 else None)
        inputs, outputs = (None, None) if chosen is None else (signature_tensors(chosen.inputs), signature_tensors(chosen.outputs))
        keys = (chosen.inputs, chosen.outputs) if chosen is not None else ((), ())
        return _Unfrozen(meta, path, source, inputs, outputs, Signature(*map(signature_keys, keys)))


class _Unfrozen(GraphDefModel):
    """A graph that still needs its folder."""

    def __init__(
        self,
        meta: MetaGraph,
        path: Path,
        source: SourceFile,
        inputs: tuple[str, ...] | None,
        outputs: tuple[str, ...] | None,
        signature: Signature,
    ) -> None:
        super().__init__(
            [meta.graph_def], path=path, source=source, format="saved_model", output_names=outputs or None, signature=signature
        )
        self._inputs, self._outside = inputs, meta.outside

    @cached_property
    def index(self) -> GraphIndex:
        """The index of the graph. Its inputs are those of the signature, without a saver's file name."""
        index = super().index
        return index if self._inputs is None else replace(index, inputs=tuple(t for t in self._inputs if t in index.tensors))

    @cached_property
    def reaches_outside(self) -> tuple[str, ...]:
        """What reaches outside, by node; ``function/node`` for what only a function holds."""
        return tuple(o.name for o in self._outside)

    def check_trust(self, trust: bool) -> None:
        """Refuse to load it. Raises TrustError that names the nodes."""
        if not trust:
            _check_trust(self._outside)


# what is in the file


def _files(path: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time of the last change, and identity of every file in the folder."""
    states = ((p, p.lstat()) for p in path.rglob("*") if not p.is_dir())
    return {str(p): (s.st_size, s.st_mtime_ns, s.st_ino) for p, s in states}


def _open(path: Path) -> tuple[SourceFile, MetaGraph]:
    """The file with the graph, and the meta graph to serve. Raises FormatError."""
    file = path / "saved_model.pb"  # if both exist, TensorFlow reads this one
    if not file.is_file():
        file = path / "saved_model.pbtxt"
    if not file.is_file():
        raise FormatError("a folder without saved_model.pb; pass the SavedModel folder itself", path=path)
    data, source = _binary(file, path)
    with _damage(path):
        found = read_meta_graphs(data)
        exact = [m for m in found if m.tags == (_TAG,)]
        serving = exact or [m for m in found if _TAG in m.tags]
        if serving:
            return source, serving[0]
        tags = _listed("{" + ", ".join(m.tags) + "}" for m in found)
        raise FormatError(f"no graph tagged {_TAG!r} in it; there are {tags}; save it for serving", path=path)


def _binary(file: Path, path: Path) -> tuple[Buffer, SourceFile]:
    """The bytes of the SavedModel message, whichever form the file has."""
    try:
        data, source = read_source(file)
    except OSError as error:
        raise FormatError(f"{file.name} cannot be read: {error.strerror or error}", path=path) from error
    if not data:
        raise FormatError(f"{file.name} cannot be read: it is empty", path=path)
    source = source.summed(data)
    if file.suffix == ".pb":
        return data, source
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        parsed = text_format.Parse(data[:].decode(), saved_model_pb2.SavedModel())
    except (text_format.ParseError, ValueError, RecursionError, TypeError) as error:
        raise FormatError(f"saved_model.pbtxt is damaged: {on_one_line(error)}", path=path) from error
    return bytes(parsed.SerializeToString(deterministic=True)), source


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    from google.protobuf.message import DecodeError

    try:
        yield
    except (WireError, GraphError, DecodeError) as error:
        raise FormatError(f"saved_model.pb is damaged: {error}; copy or save it again", path=path) from error


def _signature_key(meta: MetaGraph, path: Path) -> str:
    """The key of the signature to freeze."""
    found = meta.signatures
    if _SIGNATURE in found:
        return _SIGNATURE
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise FormatError("no signature in it, so nothing states what it computes; save it with signatures=…", path=path)
    raise FormatError(
        f"no signature {_SIGNATURE!r}, and several others: {_listed(sorted(found))}; save it with one of them as {_SIGNATURE!r}",
        path=path,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# trust


def _check_trust(outside: tuple[Outside, ...]) -> None:
    if outside:
        shown = ", ".join(f"{o.name} ({o.op})" for o in outside[:5]) + (" …" if len(outside) > 5 else "")
        raise TrustError(
            f"the SavedModel reaches outside itself ({shown}): loading or running it may read or write files, open "
            "connections or call unknown code; trust=True loads it all the same",
            nodes=[o.name for o in outside],
        )


def _check_files(path: Path, meta: MetaGraph) -> None:
    """Refuse files that TensorFlow would read elsewhere than in the folder."""
    then = "put the file itself into the folder, or trust the model (trust=True)"
    for asset in meta.assets:
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(asset.filename).is_absolute() or kind(asset.filename).drive or ".." in kind(asset.filename).parts:
                raise FormatError(f"the asset {asset.filename!r} is outside of the SavedModel; {then}", path=path)
    root = path.resolve()
    for name in _READ_BY_TENSORFLOW:
        top = path / name
        for file in (top, *sorted(top.rglob("*"))) if top.is_dir() else (top,):
            if not file.exists() and not file.is_symlink():
                continue
            try:
                inside = file.resolve().is_relative_to(root)
            except (OSError, RuntimeError):  # a link that leads to itself
                inside = False
            where = file.relative_to(path).as_posix()
            if not inside:
                raise FormatError(f"{where} is a link out of the SavedModel; {then}", path=path)
            if file.exists() and not file.is_file() and not file.is_dir():
                raise FormatError(f"{where} is a pipe or a device, which is never opened; {then}", path=path)
