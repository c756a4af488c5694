"""Builders of small graphs, NodeDef by NodeDef, so that a test shows exactly what stands in the file.

model(
    node("x", "Placeholder", dtype=tf.float32, shape=[None, 2]),
    const("two", 2.0),
    node("y", "Mul", "x", "two"),
)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, function_pb2, graph_pb2, node_def_pb2, op_def_pb2, tensor_shape_pb2
from tensorflow.python.framework import op_def_registry

from graphsplit.formats import GraphDefModel
from graphsplit.parts.parts import Part, Parts
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import verify

GraphDef, NodeDef = graph_pb2.GraphDef, node_def_pb2.NodeDef
INT = {"T": tf.int32}
FunctionDef, Func = function_pb2.FunctionDef, attr_value_pb2.NameAttrList


def node(name: str, op: str, *inputs: str, device: str = "", **attrs: Any) -> NodeDef:
    """A NodeDef. Python values become attributes; ``T`` and ``dtype`` are float32 where the op wants them and nothing is said."""
    made = NodeDef(name=name, op=op, input=inputs, device=device)
    known = op_def_registry.get(op)
    for attr in known.attr if known is not None else ():
        if attr.name in ("T", "dtype") and attr.type == "type" and not attr.HasField("default_value"):
            attrs.setdefault(attr.name, tf.float32)
    for key, value in attrs.items():
        made.attr[key].CopyFrom(_attribute(key, value))
    return made


def _attribute(key: str, value: Any) -> attr_value_pb2.AttrValue:
    made = attr_value_pb2.AttrValue()
    if key in ("shape", "element_shape"):
        made.shape.CopyFrom(_shape(value))
    elif isinstance(value, bool):
        made.b = value
    elif isinstance(value, int):
        made.i = value
    elif isinstance(value, float):
        made.f = value
    elif isinstance(value, str | bytes):
        made.s = value.encode() if isinstance(value, str) else value
    elif isinstance(value, tf.DType):
        made.type = value.as_datatype_enum
    elif isinstance(value, np.ndarray):
        made.tensor.CopyFrom(tf.make_tensor_proto(value))
    elif isinstance(value, Func):
        made.func.CopyFrom(value)
    else:
        items = [_attribute("", v) for v in value]
        kind = items[0].WhichOneof("value") if items else "i"
        getattr(made.list, kind).extend(getattr(item, kind) for item in items)
    return made


def _shape(dims: Iterable[int | None] | None) -> tensor_shape_pb2.TensorShapeProto:
    return tf.TensorShape(dims).as_proto()


def placeholder(name: str, shape: Iterable[int | None] | None = (None, 2), dtype: tf.DType = tf.float32) -> NodeDef:
    """An input of the whole; a shape of None is an unknown rank."""
    return node(name, "Placeholder", dtype=dtype, shape=shape)


def const(name: str, value: Any, dtype: Any = None, *after: str) -> NodeDef:
    """A constant: float32 for Python floats, int32 for Python ints."""
    array = np.asarray(value)
    if dtype is None:
        dtype = {"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype)
    array = array.astype(dtype)
    return node(name, "Const", *after, dtype=tf.dtypes.as_dtype(array.dtype), value=array)


def function(
    name: str,
    inputs: Mapping[str, tf.DType],
    outputs: Mapping[str, tf.DType],
    nodes: Iterable[NodeDef],
    returns: Mapping[str, str],
) -> FunctionDef:
    """A library function. Inside, a node reads an argument by its name and another node as ``node:output:index``."""
    signature = op_def_pb2.OpDef(name=name)
    for into, ports in ((signature.input_arg, inputs), (signature.output_arg, outputs)):
        for port, dtype in ports.items():
            into.add(name=port, type=dtype.as_datatype_enum)
    return FunctionDef(signature=signature, node_def=nodes, ret=returns)


def graph(
    *nodes: NodeDef,
    functions: Iterable[FunctionDef] = (),
    gradients: Mapping[str, str] | None = None,
    producer: int = tf.version.GRAPH_DEF_VERSION,
) -> GraphDef:
    """A GraphDef of nodes in this order."""
    made = GraphDef(node=nodes)
    made.versions.producer = producer
    made.library.function.extend(functions)
    for name, gradient in (gradients or {}).items():
        made.library.gradient.add(function_name=name, gradient_func=gradient)
    return made


def model(*nodes: NodeDef, **rest: Any) -> GraphDefModel:
    """The same as a model."""
    return GraphDefModel([graph(*nodes, **rest).SerializeToString(deterministic=True)])


def two_ports(*more: NodeDef, zero: str = "s", one: str = "s:1") -> GraphDefModel:
    """A node of two ports, both of them read.

            ┌─ s:0 ─▶ a ─┐
     x ─▶ s ┤            ├─▶ y
            └─ s:1 ──────┘

    zero, one  how the file writes them
    """
    return model(
        placeholder("x", [None, 4]),
        const("axis", 1),
        node("s", "Split", "axis", "x", num_split=2),
        node("a", "Exp", zero),
        *more,
        node("y", "Sub", "a", one),
    )


def proven(whole: GraphDefModel, **cut: Any) -> Parts:
    """The sections of a cut, shown to compute what the whole computes, bit by bit, in TensorFlow."""
    parts = split(whole, **cut)
    verify(whole, parts).check()
    return parts


def intruded(parts: Parts, section: str, path: Path) -> Parts:
    """The same parts, one of which writes a file first whenever it runs: what a split from a stranger may hold."""
    part = parts[section]
    graph_def = part.graph_def
    graph_def.node.extend(
        [
            const("intruder/path", str(path).encode(), object),
            const("intruder/text", b"ran", object),
            node("intruder/write", "WriteFile", "intruder/path", "intruder/text"),
        ]
    )
    for output in part.outputs:
        node_named(graph_def, output.name.split(":")[0]).input.append("^intruder/write")
    changed = GraphDefModel([graph_def.SerializeToString()], output_names=[p.name for p in part.outputs])
    return replace(parts, sections=tuple(replace(p, model=changed) if p is part else p for p in parts))


def names(part: Part) -> list[str]:
    """Names of the nodes in a section's file, in order."""
    return [n.name for n in part.graph_def.node]


def node_of(part: Part, name: str) -> NodeDef:
    """The node of that name in a section's file."""
    return node_named(part.graph_def, name)


def node_named(graph_def: GraphDef, name: str) -> NodeDef:
    """The node of that name in a graph."""
    (found,) = [n for n in graph_def.node if n.name == name]
    return found


def crossing(part: Part) -> list[str]:
    """Tensors that a section is given, by their names in the whole."""
    return [p.tensor for p in part.inputs]


def given(part: Part) -> list[str]:
    """Tensors that a section gives, by their names in the whole."""
    return [p.tensor for p in part.outputs]


def loop(name: str, start: str, body: Iterable[NodeDef], result: str, *after: str) -> list[NodeDef]:
    """``value = start``, three times ``value = body(value)``, as control flow v1 writes it.

        zero ─▶ enter_i ─▶ merge_i ─▶ less ─▶ cond                 body reads   {name}/value
                             ▲  └─▶ switch_i ─▶ i ─▶ next_i         it gives     `result`
                             └─────────────────────────┘            read         {name}/exit
        start ─▶ enter ─▶ merge ─▶ switch ─▶ value ─▶ body ─▶ next
                             ▲        └─▶ exit                  │
                             └──────────────────────────────────┘

    after  control inputs of the constants before the loop, for a loop inside another one
    """
    whole = {"T": tf.int32}
    made = [
        const(f"{name}/zero", 0, None, *after),
        const(f"{name}/three", 3, None, *after),
        node(f"{name}/enter_i", "Enter", f"{name}/zero", frame_name=name, **whole),
        node(f"{name}/enter", "Enter", start, frame_name=name),
        node(f"{name}/enter_n", "Enter", f"{name}/three", frame_name=name, is_constant=True, **whole),
        node(f"{name}/merge_i", "Merge", f"{name}/enter_i", f"{name}/next_i", N=2, **whole),
        node(f"{name}/merge", "Merge", f"{name}/enter", f"{name}/next", N=2),
        node(f"{name}/less", "Less", f"{name}/merge_i", f"{name}/enter_n", **whole),
        node(f"{name}/cond", "LoopCond", f"{name}/less"),
        node(f"{name}/switch_i", "Switch", f"{name}/merge_i", f"{name}/cond", **whole),
        node(f"{name}/switch", "Switch", f"{name}/merge", f"{name}/cond"),
        node(f"{name}/i", "Identity", f"{name}/switch_i:1", **whole),
        node(f"{name}/value", "Identity", f"{name}/switch:1"),
        const(f"{name}/one", 1, None, f"^{name}/i"),
        node(f"{name}/add", "AddV2", f"{name}/i", f"{name}/one", **whole),
        *body,
        node(f"{name}/next_i", "NextIteration", f"{name}/add", **whole),
        node(f"{name}/next", "NextIteration", result),
        node(f"{name}/exit_i", "Exit", f"{name}/switch_i", **whole),
        node(f"{name}/exit", "Exit", f"{name}/switch"),
    ]
    return made
