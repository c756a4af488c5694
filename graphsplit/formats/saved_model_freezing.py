"""A SavedModel loaded by TensorFlow and frozen: as objects that hold functions, or as a graph with a saver."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.errors import FormatError
from graphsplit.formats.freeze import freeze_function, tidy
from graphsplit.formats.graphdef.messages import Message
from graphsplit.formats.meta_graph import MetaGraph, signature_keys, signature_tensors
from graphsplit.graph.signature import Signature

if TYPE_CHECKING:
    from tensorflow import Graph
    from tensorflow.compat.v1 import GraphDef

__all__ = ["change_text", "freeze_saved_model"]

_VARIABLES = {"Variable", "VariableV2", "VarHandleOp"}
_FUNCTIONAL = {"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"}
_ASSIGNS = re.compile(r"Assign(Add|Sub)?VariableOp|ResourceScatter\w+|ResourceApply\w+")


def freeze_saved_model(path: Path, meta: MetaGraph, key: str) -> tuple[bytes, tuple[str, ...], Signature]:
    """A signature of a SavedModel as a frozen GraphDef, its outputs, and the keys of the signature.

    Raises:
        FormatError: Values are missing, or change whenever the model runs.
    """
    return _freeze_objects(path, meta, key) if meta.has_objects else _freeze_graph(path, meta, meta.all_signatures[key])


def _freeze_objects(path: Path, meta: MetaGraph, key: str) -> tuple[bytes, tuple[str, ...], Signature]:
    """Freeze a signature of a SavedModel of TensorFlow 2."""
    import tensorflow as tf

    _check_variables(path, meta, None)
    try:
        loaded = tf.saved_model.load(str(path))  # kept while its function is used: it owns the variables
    except Exception:
        # Objects that TensorFlow cannot build again, such as optimizers of Keras 2 with their slots: its graph may need none.
        with suppress(Exception):
            return _freeze_graph(path, meta, meta.all_signatures[key])
        raise
    try:
        return freeze_function(loaded.signatures[key])
    except Exception as error:
        changes = _changes_variables(meta, meta.all_signatures[key])
        if changes is None:
            raise
        raise FormatError(change_text(changes), path=path) from error


def change_text(changes: str) -> str:
    """Why a model with a node that changes a variable is refused."""
    return (
        f"not frozen: {changes} changes a variable each time the model runs, so it has no value to freeze; if that is the "
        "moving average of a batch normalisation, the model was traced for training: export it with training=False"
    )


def _changes_variables(meta: MetaGraph, signature: Message) -> str | None:
    """A node that assigns a variable when the signature runs, with the function it is in."""
    library, by_name = meta.reader.library, meta.reader.by_name
    called = [c for name in meta.needed(signature_tensors(signature.outputs)) for c in library.called(by_name[name])]
    for function in sorted(library.reached(called)):
        for node in library.functions[function].nodes:
            if _ASSIGNS.fullmatch(node.op):
                return f"{function}/{node.name} ({node.op})"
    return None


def _freeze_graph(path: Path, meta: MetaGraph, signature: Message) -> tuple[bytes, tuple[str, ...], Signature]:
    """Freeze a signature of a SavedModel of TensorFlow 1, in a separate graph and session."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_from_session_graph

    sparse = sorted(e.key for e in signature.outputs if not e.value.name)
    if sparse:
        raise FormatError(f"the output {sparse[0]!r} of the signature is not a dense tensor; save it with dense outputs", path=path)
    outputs, inputs = signature_tensors(signature.outputs), signature_tensors(signature.inputs)
    restore = _check_variables(path, meta, outputs)
    graph_def = tf.compat.v1.GraphDef.FromString(meta.graph_def)
    graph = tf.Graph()
    # Read on the CPU, not on the devices that the graph was written for.
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
    if meta.has_objects:  # its signature is one call
        frozen = _inlined(frozen, (*outputs, *inputs))
    return tidy(frozen, outputs, inputs), outputs, Signature(signature_keys(signature.inputs), signature_keys(signature.outputs))


def _inlined(graph_def: GraphDef, tensors: tuple[str, ...]) -> GraphDef:
    """A frozen graph with the calls of its functions replaced by what they compute; loops and branches stay functional."""
    import tensorflow as tf
    from tensorflow.python.grappler import tf_optimizer

    for nodes in (graph_def.node, *(f.node_def for f in graph_def.library.function)):
        for node in nodes:
            if node.op in _FUNCTIONAL:
                node.attr["_lower_using_switch_merge"].b = False
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    meta.collection_def["train_op"].node_list.value.extend(tensors)
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta)


def _check_variables(path: Path, meta: MetaGraph, outputs: tuple[str, ...] | None) -> bool:
    """Whether there are values to restore. Raises FormatError where outputs (None: anything) need them and there are none."""
    if (path / "variables" / "variables.index").is_file():
        return bool(meta.saver.restore_op_name)
    # What the initialiser of a graph sets needs no value in a file.
    needed = None if outputs is None else meta.needed(outputs) - meta.needed(meta.init_ops[:1])
    for node in meta.reader.nodes:
        if node.op in _VARIABLES and (needed is None or node.name in needed):
            raise FormatError(
                f"variables/variables.index is missing, which holds the value of {node.name!r}; copy the whole SavedModel folder",
                path=path,
            )
    return False


def _without_devices(graph_def: GraphDef) -> GraphDef:
    """A copy that runs on any machine, without the devices that the graph was written for."""
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    for nodes in (copy.node, *(f.node_def for f in copy.library.function)):
        for node in nodes:
            node.device = ""
    return copy


def _add_reads(graph: Graph) -> None:
    """Add to each resource variable the reading node that TensorFlow's freezing looks up by name."""
    import tensorflow as tf

    for operation in graph.get_operations():
        if operation.type == "VarHandleOp":
            name = f"{operation.name}/Read/ReadVariableOp"
            try:
                graph.get_operation_by_name(name)
            except KeyError:
                tf.raw_ops.ReadVariableOp(resource=operation.outputs[0], dtype=operation.get_attr("dtype"), name=name)
