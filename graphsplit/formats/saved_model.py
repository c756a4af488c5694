"""SavedModel folders → frozen models.

    load    freeze by reading (nothing is run)
            what that does not understand: refuse what reaches outside → TensorFlow loads it → freeze → prune
    scan    the graph as it is in the file, unfrozen, to look at before trusting it

TensorFlow loads a SavedModel of TensorFlow 1 as a graph with a saver: it is imported into a separate graph and session, restored,
frozen. One of TensorFlow 2 is objects that hold functions: it is loaded, and the function of the signature frozen.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from mmap import mmap
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from graphsplit.errors import FormatError, OptionError, TrustError
from graphsplit.formats.freeze import loading, on_one_line
from graphsplit.formats.freezing.freeze import read_frozen
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.wire import Buffer, GraphError, WireError
from graphsplit.formats.graphdef.writer import Chunk
from graphsplit.formats.isolated import Frozen, answer, freeze_apart
from graphsplit.formats.meta_graph import MetaGraph, Outside, read_meta_graphs, signature_keys, signature_tensors
from graphsplit.formats.saved_model_freezing import freeze_saved_model
from graphsplit.formats.signature_inputs import fed_at, stated_specs
from graphsplit.formats.source import SourceFile, read_source
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.signature import Choice, Signature, chosen, tags_text

if TYPE_CHECKING:
    from graphsplit.isolation.messages import Answer, Array

__all__ = ["freeze_task", "load_saved_model", "scan"]

_LOG = logging.getLogger("graphsplit")
_TAG = "serve"
_SIGNATURES = ("serving_default", "default")  # the second is that of the modules of TensorFlow Hub
_CHANGES = re.compile(r"Assign(Add|Sub)?(VariableOp)?|(Resource)?(Scatter|Apply|SparseApply)\w+")
_READ_BY_TENSORFLOW = ("variables", "assets", "debug", "fingerprint.pb")


def load_saved_model(
    path: Path,
    *,
    trust: bool = False,
    signature: str | None = None,
    tags: tuple[str, ...] | None = None,
    isolate: bool = True,
) -> GraphDefModel:
    """A signature of a SavedModel, frozen.

    Args:
        path: The folder.
        trust: Load it even if it has files outside of its folder, or if TensorFlow has to load it and it reaches files, the
            network or Python.
        signature: As of `graphsplit.load`.
        tags: As of `graphsplit.load`.
        isolate: Where TensorFlow has to load it, let it do so in the child process. A model that reaches outside itself, and is
            trusted, is loaded here if TensorFlow has been imported here: its custom ops and Python functions may be registered in
            this process only.

    Raises:
        FormatError: It is damaged, incomplete or has no signature, or one of several has to be chosen.
        OptionError: It has no such signature, or no meta graph of these tags.
        TrustError: TensorFlow has to load it, and it reaches outside itself; raised before anything is run.
    """
    state = _files(path)
    source, meta, tag_sets = _open(path, tags)
    with _damage(path):
        key = _signature_key(meta, path, signature)
        _check_constant(meta, key, path)
        if not trust:
            _check_files(path, meta)
        data: Chunk | mmap
        read, reason = read_frozen(path, meta, key)
        if read is not None:
            data, outputs, keys = read
        else:
            meta.reader.library.check_calls()
            if not trust:
                _check_trust(meta.outside)
            _LOG.info("%s: frozen by TensorFlow, since %s", path, reason)
            if isolate and not ("tensorflow" in sys.modules and meta.outside):
                said = {"path": str(path), "key": key, "tags": None if tags is None else list(tags)}
                data, outputs, keys = freeze_apart(freeze_task, said, path, patient=bool(meta.outside))
            else:
                data, outputs, keys = _freeze_here(path, meta, key)
        if _files(path) != state:
            raise FormatError("changed while it was loaded; try again when nothing writes to it", path=path)
        infos = {tensor: e.value for e in meta.all_signatures[key].inputs for tensor in signature_tensors([e])}
        whole = GraphDefModel([data], path=path, source=source, format="saved_model", output_names=outputs, signature=keys)
        model = fed_at(whole, stated_specs(infos))
        model.choice = Choice(key, meta.tags, tuple(meta.signatures), tag_sets)
        return model


def freeze_task(said: Any, arrays: Sequence[Array]) -> Answer:
    """A task of the child process: a signature of a SavedModel, frozen."""
    path = Path(said["path"])
    tags = said["tags"]
    _, meta, _ = _open(path, None if tags is None else tuple(tags))
    return answer(*_freeze_here(path, meta, said["key"]))


def _freeze_here(path: Path, meta: MetaGraph, key: str) -> Frozen:
    """Load and freeze a signature in this process."""
    then = "save it again, or pass the frozen graph (frozen_inference_graph.pb)"
    with loading(path, "TensorFlow cannot load this SavedModel", then):
        return Frozen(*freeze_saved_model(path, meta, key))


def scan(path: Path, *, signature: str | None = None, tags: tuple[str, ...] | None = None) -> GraphDefModel:
    """The graph of a SavedModel as it is in the file: not frozen, nothing run, no TensorFlow.

    Args:
        path: The folder.
        signature: As of `graphsplit.load`.
        tags: As of `graphsplit.load`.

    Its `reaches_outside` is what keeps `load_saved_model` from loading it without trust, initialisers and functions
    included. (A ``saved_model.pbtxt`` is parsed with TensorFlow's definitions, which imports it but runs nothing.)

    Raises FormatError, and OptionError for a signature or tags that it does not have.
    """
    source, meta, tag_sets = _open(path, tags)
    with _damage(path):
        key = _signature_key(meta, path, signature) if signature is not None or len(_usual(meta)) == 1 else None
        stated = None if key is None else meta.signatures[key]
        inputs, outputs = (None, None) if stated is None else (signature_tensors(stated.inputs), signature_tensors(stated.outputs))
        keys = (stated.inputs, stated.outputs) if stated is not None else ((), ())
        model = _Unfrozen(meta, path, source, inputs, outputs, Signature(*map(signature_keys, keys)))
        model.choice = Choice(key, meta.tags, tuple(meta.signatures), tag_sets)
        return model


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

    def check_trust(self, trust: bool, outputs: Sequence[str] | None = None) -> None:
        """Refuse to load it. Raises TrustError that names the nodes."""
        if not trust:
            _check_trust(self._outside)


# what is in the file


def _files(path: Path) -> dict[str, tuple[int, int, int]]:
    """Size, time of the last change, and identity of every file in the folder."""
    states = ((p, p.lstat()) for p in path.rglob("*") if not p.is_dir())
    return {str(p): (s.st_size, s.st_mtime_ns, s.st_ino) for p, s in states}


def _open(path: Path, tags: tuple[str, ...] | None = None) -> tuple[SourceFile, MetaGraph, tuple[tuple[str, ...], ...]]:
    """The file with the graph, the meta graph to serve, and the tags of all. Raises FormatError, OptionError."""
    file = path / "saved_model.pb"  # if both exist, TensorFlow reads this one
    if not file.is_file():
        file = path / "saved_model.pbtxt"
    if not file.is_file():
        raise FormatError("a folder without saved_model.pb; pass the SavedModel folder itself", path=path)
    data, source = _binary(file, path)
    with _damage(path):
        found = read_meta_graphs(data)
        return source, _tagged(found, path, tags), tuple(m.tags for m in found)


def _tagged(found: Sequence[MetaGraph], path: Path, tags: tuple[str, ...] | None) -> MetaGraph:
    """The meta graph of those tags; without tags the one to serve, or the only one, whatever its tags."""
    known = _listed(tags_text(m.tags) for m in found)
    if tags is not None:
        same = [m for m in found if set(m.tags) == set(tags)]
        if same:
            return same[0]
        raise OptionError(f"no meta graph tagged {tags_text(tags)}; there are {known}", option="tags")
    exact = [m for m in found if m.tags == (_TAG,)]
    serving = exact or [m for m in found if _TAG in m.tags] or (found if len(found) == 1 else [])
    if serving:
        return serving[0]
    raise FormatError(f"no graph tagged {_TAG!r} in it; there are {known}; name one with tags=…", path=path)


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


def _usual(meta: MetaGraph) -> list[str]:
    """The signature that is meant if none is named: the usual one, or all there are."""
    names = list(meta.signatures)
    return next(([name] for name in _SIGNATURES if name in names), names)


def _signature_key(meta: MetaGraph, path: Path, asked: str | None) -> str:
    """The key of the signature to freeze. Raises FormatError, OptionError."""
    if asked is not None:
        return chosen(asked, list(meta.signatures))
    names = _usual(meta)
    if not names:
        raise FormatError("no signature in it, so nothing states what it computes; save it with signatures=…", path=path)
    if len(names) > 1:
        raise FormatError(
            f"several signatures and none is {_SIGNATURES[0]!r}: {_listed(names)}; name one with signature=…", path=path
        )
    return names[0]


def _check_constant(meta: MetaGraph, key: str, path: Path) -> None:
    """Refuse a signature of a graph of TensorFlow 1 that changes variables. Raises FormatError."""

    def changing(name: str) -> str | None:
        nodes = meta.needed(signature_tensors(meta.signatures[name].outputs))
        return next((n for n in sorted(nodes) if _CHANGES.fullmatch(meta.reader.by_name[n].op)), None)

    node = None if meta.has_objects else changing(key)
    if node is None:
        return
    others = [name for name in meta.signatures if changing(name) is None]
    then = (
        f"choose another with signature=…: {_listed(others)}" if others else "no signature of it leaves its variables as they are"
    )
    op = meta.reader.by_name[node].op
    raise FormatError(
        f"signature {key!r} changes a variable each time it runs ({node!r}, {op}), so there is no value to freeze; {then}",
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
