"""Handles of variables become values: what a node becomes that gets a handle, in a graph or in a function.

ReadVariableOp(h)        Identity(v)              ResourceGather(h, i)     GatherV2(v, i, axis)
VariableShape(h)         Shape(v)                 ResourceGatherNd(h, i)   GatherNd(v, i)
Identity, Enter, Switch, Merge … (h)              the same op, of the dtype of the value
While, If, Case, PartitionedCall (h)              the same op; its functions get the value
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from graphsplit.formats.graphdef.messages import Message, dtype_number, message
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import BYTES, NodeRange, attributes, encode_field, encode_varint, fields

__all__ = ["CHANGES", "PASSES", "READS", "Handle", "attribute_bytes", "constant_head", "node_bytes", "read_instead"]

#: Ops that pass a handle on.
PASSES = {"Identity", "Enter", "Exit", "Switch", "Merge", "NextIteration", "RefEnter", "RefExit", "RefIdentity", "RefSwitch"}
#: Ops that read a variable through its handle → name of their output in a function, after and before.
READS = {"ReadVariableOp": "value", "ResourceGather": "output", "ResourceGatherNd": "output", "VariableShape": "output"}
#: Beginnings of the names of ops that change a variable through its handle.
CHANGES = (
    "Assign", "ResourceScatter", "ResourceApply", "ResourceSparseApply", "ResourceStridedSliceAssign", "Scatter", "Apply", "Sparse",
)  # fmt: skip
# Attributes that name functions or gradients of the process that wrote them, or what is no longer true.
_DROPPED = {
    "_gradient_op_type", "forward_function_name", "backward_function_name", "api_implements", "_original_func_name",
    "_output_shapes", "_read_only_resource_inputs", "_class",
}  # fmt: skip


class Handle(NamedTuple):
    """A tensor that is the handle of a variable in the file, and its value in the result.

    Attributes:
        variable: The node of the variable; for an argument of a function its name.
        dtype: Of the value, as a DataType number.
        shape: Of the value.
        resource: Whether the tensor is a resource; a variable of old ops is read like any tensor.
    """

    variable: str
    dtype: int
    shape: tuple[int, ...]
    resource: bool = True


def attribute_bytes(key: str, value: Message) -> bytes:
    """An attribute of a node."""
    return encode_field(5, encode_field(1, key.encode()) + encode_field(2, value.SerializeToString(deterministic=True)))


def type_attribute(key: str, dtype: int) -> bytes:
    """An attribute that states a dtype."""
    return attribute_bytes(key, message("AttrValue")(type=dtype))


def node_bytes(
    reader: GraphDefReader,
    node: NodeRange,
    name: str,
    inputs: Iterable[str],
    *,
    op: str = "",
    only: Iterable[str] | None = None,
    changed: Mapping[str, bytes] | None = None,
) -> bytes:
    """The content of a NodeDef with another name and other inputs; its attributes are copied.

    Args:
        reader: The graph.
        node: The original.
        name: Its new name.
        inputs: Its new inputs.
        op: Its new op; empty: as it was.
        only: The attributes to copy; None: all but those of the process that wrote them.
        changed: Attributes in place of the original's, or added.
    """
    changed = dict(changed or {})
    out = [encode_field(1, name.encode()), encode_field(2, (op or node.op).encode())]
    out += [encode_field(3, raw.encode()) for raw in inputs]
    if node.device:
        out.append(encode_field(4, node.device.encode()))
    for key, begin, end, _, _ in attributes(reader.data, node.start, node.end):
        if key in changed:
            out.append(changed.pop(key))
        elif key not in _DROPPED and (only is None or key in only):
            out.append(_no_config() if key == "config_proto" else reader.data[begin:end])
    return b"".join([*out, *changed.values()])


def _no_config() -> bytes:
    return attribute_bytes("config_proto", message("AttrValue")(s=b""))  # how many devices the machine had


def read_instead(
    reader: GraphDefReader, node: NodeRange, name: str, inputs: Sequence[str], handle: Handle, axis: str, *, waits: bool
) -> list[bytes]:
    """The nodes in place of one that reads a variable.

    Args:
        reader: The graph.
        node: The reading node.
        name: Its new name.
        inputs: Its new inputs; the first is the value.
        handle: The variable.
        axis: How the function or graph refers to the first output of a constant ``name/axis``.
        waits: Whether that constant waits for the indices, to be in the same loop.
    """
    if node.op == "ReadVariableOp":
        return [node_bytes(reader, node, name, inputs, op="Identity", only=(), changed={"T": type_attribute("T", handle.dtype)})]
    if node.op == "VariableShape":
        return [
            node_bytes(reader, node, name, inputs, op="Shape", only=("out_type",), changed={"T": type_attribute("T", handle.dtype)})
        ]
    indices = reader.attribute(node, "Tindices")
    types = {"Tparams": type_attribute("Tparams", handle.dtype)}
    if node.op == "ResourceGatherNd":
        return [node_bytes(reader, node, name, inputs, op="GatherNd", only=("Tindices",), changed=types)]
    batch = reader.attribute(node, "batch_dims")
    dims = 0 if batch is None else int(batch.i)
    number = indices.type if indices is not None else dtype_number("int32")
    width = 8 if number == dtype_number("int64") else 4
    content = encode_field(4, dims.to_bytes(width, "little"))
    after = [f"^{inputs[1].partition(':')[0]}"] if waits else []
    const = constant_head(f"{name}/axis", number, (), len(content), after) + content
    data = [i for i in inputs if not i.startswith("^")]
    rest = [i for i in inputs if i.startswith("^")]
    types["Taxis"] = type_attribute("Taxis", number)
    gather = node_bytes(reader, node, name, [*data, axis, *rest], op="GatherV2", only=("Tindices", "batch_dims"), changed=types)
    return [const, gather]


def constant_head(name: str, dtype: int, shape: tuple[int, ...], size: int, waits: Iterable[str] = (), device: str = "") -> bytes:
    """The content of a NodeDef of a constant, without its end: the last fields of its TensorProto.

    Args:
        name: Its name.
        dtype: Its dtype.
        shape: Its shape.
        size: Bytes of what follows.
        waits: Its control inputs.
        device: The device it is pinned to.
    """
    tensor = message("TensorProto")(dtype=dtype)
    tensor.tensor_shape.SetInParent()
    for dim in shape:
        tensor.tensor_shape.dim.add(size=dim)
    head = tensor.SerializeToString(deterministic=True)
    tensor_size = len(head) + size
    value = b"\x42" + encode_varint(tensor_size)  # AttrValue.tensor = 8
    entry = encode_field(1, b"value") + _tag(2, len(value) + tensor_size) + value
    inputs = b"".join(encode_field(3, raw.encode()) for raw in waits) + (encode_field(4, device.encode()) if device else b"")
    start = encode_field(1, name.encode()) + encode_field(2, b"Const") + inputs + type_attribute("dtype", dtype)
    return bytes(start + _tag(5, len(entry) + tensor_size) + entry + head)


def _tag(number: int, size: int) -> bytes:
    return encode_varint(number << 3 | BYTES) + encode_varint(size)


def other_fields(reader: GraphDefReader, start: int, end: int, without: set[int]) -> list[bytes]:
    """The fields of a message but for some."""
    return [reader.data[begin:high] for number, _, begin, _, high in fields(reader.data, start, end) if number not in without]
