"""SavedModel folders → frozen models.

    load    scan the bytes (nothing is run) → refuse what reaches outside → TensorFlow loads it → freeze → prune
    scan    the graph as it stands in the file, unfrozen, for those who want to look before they trust

A SavedModel of TensorFlow 1 is a graph with a saver: imported into a graph and a session of its own, restored, frozen.
One of TensorFlow 2 is objects that hold functions: loaded, and the function of the signature frozen. Loops come as
TensorFlow's freezing gives them.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from graphsplit.errors import FormatError, TrustError
from graphsplit.formats.freeze import freeze_function, loading, on_one_line, tidy
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.wire import Buffer, GraphError, WireError
from graphsplit.formats.meta_graph import MetaGraph, Outside, read_meta_graphs
from graphsplit.graph.index import GraphIndex

__all__ = ["load_saved_model", "scan"]

_TAG = "serve"
_SIGNATURE = "serving_default"
_READ_BY_TENSORFLOW = ("variables", "assets", "debug", "fingerprint.pb")
_VARIABLES = {"Variable", "VariableV2", "VarHandleOp"}
_ASSIGNS = re.compile(r"Assign(Add|Sub)?VariableOp|ResourceScatter\w+|ResourceApply\w+")


def load_saved_model(path: Path, *, trust: bool = False) -> GraphDefModel:
    """The signature "serving_default" (or the only one) of a SavedModel, frozen.

    trust  load it even if it reaches files, the network or Python, or has files outside of its folder

    Raises FormatError for a SavedModel that is damaged, incomplete or has no such signature, and TrustError, before
    anything is run, for one that reaches outside itself.
    """
    file, meta = _open(path)
    then = "save it again, or give the frozen graph (frozen_inference_graph.pb)"
    with _damage(path):
        key, signature = _signature(meta, path)
        meta.reader.library.check_calls()
        if not trust:
            _check_trust(meta.outside)
            _check_files(path, meta)
        with loading(path, "TensorFlow cannot load this SavedModel", then):
            data, outputs = _freeze_objects(path, meta, key) if meta.has_objects else _freeze_graph(path, meta, signature)
            return GraphDefModel([data], path=path, source=file, format="saved_model", output_names=outputs)


def scan(path: Path) -> GraphDefModel:
    """The graph of a SavedModel as it stands in the file: not frozen, nothing run, no TensorFlow.

    Its `reaches_outside` is what keeps `load_saved_model` from loading it without trust, initialisers and functions
    included. (A ``saved_model.pbtxt`` is parsed with TensorFlow's definitions, which imports it but runs nothing.)

    Raises FormatError.
    """
    file, meta = _open(path)
    with _damage(path):
        signatures = meta.signatures
        chosen = signatures.get(_SIGNATURE) or (next(iter(signatures.values())) if len(signatures) == 1 else None)
        inputs, outputs = (None, None) if chosen is None else (_tensors(chosen.inputs), _tensors(chosen.outputs))
        return _Unfrozen(meta, path, file, inputs, outputs)


class _Unfrozen(GraphDefModel):
    """A graph that still needs its folder."""

    def __init__(
        self, meta: MetaGraph, path: Path, source: Path, inputs: tuple[str, ...] | None, outputs: tuple[str, ...] | None
    ) -> None:
        super().__init__([meta.graph_def], path=path, source=source, format="saved_model", output_names=outputs or None)
        self._inputs, self._outside = inputs, meta.outside

    @cached_property
    def index(self) -> GraphIndex:
        """The index of the graph. Its inputs are those of the signature: a saver's file name is none."""
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


def _open(path: Path) -> tuple[Path, MetaGraph]:
    """The file with the graph, and the meta graph to serve. Raises FormatError."""
    file = path / "saved_model.pb"  # where both are there, TensorFlow reads this one
    if not file.is_file():
        file = path / "saved_model.pbtxt"
    if not file.is_file():
        raise FormatError("a folder without saved_model.pb; give the SavedModel folder itself", path=path)
    data = _binary(file, path)
    with _damage(path):
        found = read_meta_graphs(data)
        exact = [m for m in found if m.tags == (_TAG,)]
        serving = exact or [m for m in found if _TAG in m.tags]
        if serving:
            return file, serving[0]
        tags = _listed("{" + ", ".join(m.tags) + "}" for m in found)
        raise FormatError(f"no graph tagged {_TAG!r} in it; there are {tags}; save it for serving", path=path)


def _binary(file: Path, path: Path) -> Buffer:
    """The bytes of the SavedModel message, whichever form the file has."""
    if file.suffix == ".pb":
        with file.open("rb") as opened:
            try:
                return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            except (ValueError, OSError) as error:
                raise FormatError(f"saved_model.pb cannot be read: {error}", path=path) from error
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        parsed = text_format.Parse(file.read_text(encoding="utf-8"), saved_model_pb2.SavedModel())
    except (text_format.ParseError, ValueError, RecursionError, TypeError) as error:
        raise FormatError(f"saved_model.pbtxt is damaged: {on_one_line(error)}", path=path) from error
    return bytes(parsed.SerializeToString(deterministic=True))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    from google.protobuf.message import DecodeError

    try:
        yield
    except (WireError, GraphError, DecodeError) as error:
        raise FormatError(f"saved_model.pb is damaged: {error}; copy or save it again", path=path) from error


def _signature(meta: MetaGraph, path: Path) -> tuple[str, Any]:
    """The signature to freeze: its key and its definition."""
    found = meta.signatures
    if _SIGNATURE in found:
        return _SIGNATURE, found[_SIGNATURE]
    if len(found) == 1:
        return next(iter(found.items()))
    if not found:
        raise FormatError("no signature in it, so nothing says what it computes; save it with signatures=…", path=path)
    raise FormatError(
        f"no signature {_SIGNATURE!r}, and several others: {_listed(sorted(found))}; save it with one of them as {_SIGNATURE!r}",
        path=path,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _tensors(entries: Any) -> tuple[str, ...]:
    """The tensors of one side of a signature, in the order of their keys; a sparse one has no name and is left out."""
    names = [e.value.name for e in sorted(entries, key=lambda e: str(e.key)) if e.value.name]
    return tuple(dict.fromkeys(name if ":" in name else f"{name}:0" for name in names))


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
                raise FormatError(f"the asset {asset.filename!r} lies outside of the SavedModel; {then}", path=path)
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
                raise FormatError(f"{where} is a link that leads out of the SavedModel; {then}", path=path)
            if file.exists() and not file.is_file() and not file.is_dir():
                raise FormatError(f"{where} is a pipe or a device, which is never opened; {then}", path=path)


# TensorFlow


def _freeze_objects(path: Path, meta: MetaGraph, key: str) -> tuple[bytes, tuple[str, ...]]:
    """Freeze a signature of a SavedModel of TensorFlow 2."""
    import tensorflow as tf

    _check_variables(path, meta, None)
    loaded = tf.saved_model.load(str(path))  # kept while its function is used: it owns the variables
    try:
        return freeze_function(loaded.signatures[key])
    except Exception as error:
        changes = _changes_variables(meta, meta.all_signatures[key])
        if changes is None:
            raise
        raise FormatError(
            f"not frozen: {changes} changes a variable each time the model runs, so it has no value to freeze; if that is the "
            "moving average of a batch normalisation, the model was traced for training: export it with training=False",
            path=path,
        ) from error


def _changes_variables(meta: MetaGraph, signature: Any) -> str | None:
    """A node that assigns a variable when the signature runs, with the function it is in."""
    library, by_name = meta.reader.library, meta.reader.by_name
    called = [c for name in meta.needed(_tensors(signature.outputs)) for c in library.called(by_name[name])]
    for function in sorted(library.reached(called)):
        for node in library.functions[function].nodes:
            if _ASSIGNS.fullmatch(node.op):
                return f"{function}/{node.name} ({node.op})"
    return None


def _freeze_graph(path: Path, meta: MetaGraph, signature: Any) -> tuple[bytes, tuple[str, ...]]:
    """Freeze a signature of a SavedModel of TensorFlow 1, in a graph and a session of its own."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_from_session_graph

    sparse = sorted(e.key for e in signature.outputs if not e.value.name)
    if sparse:
        raise FormatError(f"the output {sparse[0]!r} of the signature is no dense tensor; save it with dense outputs", path=path)
    outputs, inputs = _tensors(signature.outputs), _tensors(signature.inputs)
    restore = _check_variables(path, meta, outputs)
    graph_def = tf.compat.v1.GraphDef.FromString(meta.graph_def)
    graph = tf.Graph()
    # Read on the CPU: the values are wanted, not the machine that the graph was made for.
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True, device_count={"GPU": 0})
    with graph.as_default(), tf.compat.v1.Session(graph=graph, config=config) as session:
        tf.graph_util.import_graph_def(_without_devices(graph_def), name="")
        _add_reads(graph)
        if restore:
            session.run(meta.saver.restore_op_name, {meta.saver.filename_tensor_name: str(path / "variables" / "variables")})
        if meta.init_ops:
            session.run(meta.init_ops[0], {a.tensor: str(path / "assets" / a.filename) for a in meta.assets})
        nodes = [t.partition(":")[0] for t in (*outputs, *inputs)]
        frozen = convert_variables_to_constants_from_session_graph(session, graph_def, nodes)
    return tidy(frozen, outputs, inputs), outputs


def _check_variables(path: Path, meta: MetaGraph, outputs: tuple[str, ...] | None) -> bool:
    """Whether there are values to restore. Raises FormatError where outputs (None: anything) need them and there are none."""
    if (path / "variables" / "variables.index").is_file():
        return bool(meta.saver.restore_op_name)
    # What the initialiser of a graph sets needs no value in a file.
    needed = None if outputs is None else meta.needed(outputs) - meta.needed(meta.init_ops[:1])
    for node in meta.reader.nodes:
        if node.op in _VARIABLES and (needed is None or node.name in needed):
            raise FormatError(
                f"variables/variables.index is not there, which holds the value of {node.name!r}; copy the whole SavedModel folder",
                path=path,
            )
    return False


def _without_devices(graph_def: Any) -> Any:
    """A copy that runs on this machine, whatever devices the graph was made for."""
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    for nodes in (copy.node, *(f.node_def for f in copy.library.function)):
        for node in nodes:
            node.device = ""
    return copy


def _add_reads(graph: Any) -> None:
    """Give each resource variable the reading node that TensorFlow's freezing asks for by name."""
    import tensorflow as tf

    for operation in graph.get_operations():
        if operation.type == "VarHandleOp":
            name = f"{operation.name}/Read/ReadVariableOp"
            try:
                graph.get_operation_by_name(name)
            except KeyError:
                tf.raw_ops.ReadVariableOp(resource=operation.outputs[0], dtype=operation.get_attr("dtype"), name=name)
