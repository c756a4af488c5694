"""What a TFLite file states of tensors and operators of the first subgraph: specs, values, scales, options."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from graphsplit.formats.tflite.flatbuffer import SCALARS, Table
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.formats.tflite.schema import Field, fields, tensor_dtype
from graphsplit.graph.index import Shape, TensorSpec
from graphsplit.graph.signature import Signature

if TYPE_CHECKING:
    from graphsplit.runtimes.arrays import Array

__all__ = ["constant_value", "operator_options", "quantisation", "tensor_spec"]

_MOST_RANK = 32  # dimensions of an array of NumPy before 2.0
_NUMPY = {
    "float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
}  # fmt: skip


def tensor_spec(reader: TFLiteReader, tensor: int) -> TensorSpec:
    """Name, dtype and shape. The outputs of a custom op often have neither rank nor shape."""
    table = reader.subgraphs[0].tensors[tensor]
    if tensor in reader.real_shapes:
        return TensorSpec(reader.names[tensor], tensor_dtype(table.number("type")), reader.real_shapes[tensor])
    sizes = table.numbers("shape_signature") or table.numbers("shape")
    shape: Shape | None = tuple(s if s >= 0 else None for s in sizes)
    if not sizes and not table.number("has_rank") and not reader.is_constant(table):
        shape = None
    return TensorSpec(reader.names[tensor], tensor_dtype(table.number("type")), shape)


def constant_value(reader: TFLiteReader, name: str, limit: int) -> Array | None:
    """The value of a constant of at most so many bytes; None for any other tensor, and for what NumPy cannot hold."""
    import numpy as np

    if name not in reader.numbers:
        return None
    table = reader.subgraphs[0].tensors[reader.numbers[name]]
    dtype = tensor_dtype(table.number("type"))
    held = dtype in _NUMPY and len(table.numbers("shape")) <= _MOST_RANK
    if not held or table.has("sparsity") or not reader.is_constant(table):
        return None
    raw, shape = reader.content(table.number("buffer")), table.numbers("shape")
    kind, count = np.dtype(dtype).newbyteorder("<"), prod(shape)
    if len(raw) > limit or min(shape, default=0) < 0 or len(raw) != count * kind.itemsize:
        return None
    return np.frombuffer(raw, kind).reshape(shape)


def quantisation(reader: TFLiteReader, name: str) -> tuple[float, int] | None:
    """Scale and zero point of a tensor that has exactly one of each."""
    table = reader.subgraphs[0].tensors[reader.numbers[name]].table("quantization") if name in reader.numbers else None
    scale = table.numbers("scale") if table is not None else ()
    zero = table.numbers("zero_point") if table is not None else ()
    return (float(scale[0]), int(zero[0])) if len(scale) == len(zero) == 1 and scale[0] > 0 else None


def operator_options(reader: TFLiteReader, name: str) -> dict[str, str]:
    """The options of an operator as text; of another node none. If its tensor has another name in the file, that too."""
    found: dict[str, str] = {}
    if name in reader.numbers and (own := reader.raw_names[reader.numbers[name]]) != name:
        found["name_in_file"] = own
    if name not in reader.operator_numbers:
        return found
    table = reader.subgraphs[0].operators[reader.operator_numbers[name]].table
    for where in ("builtin_options", "builtin_options_2"):
        options = table.table(where)
        for field in fields(options.kind).values() if options is not None else ():
            if options is not None and options.has(field.name):
                found[field.name] = _text(options, field)
    if custom := len(table.raw("custom_options")):
        found["custom_options"] = f"{custom} bytes"
    return found


def _text(options: Table, field: Field) -> str:
    if field.kind in SCALARS:
        return str(options.scalar(field.name))
    if field.kind == "string":
        return options.text(field.name).decode("utf-8", "backslashreplace")
    if field.kind[1:-1] in SCALARS:
        return str(list(options.numbers(field.name)))
    return field.kind


def signature_of(reader: TFLiteReader) -> Signature:
    """The keys of the first signature of the first subgraph; none if it has no signature."""
    names = reader.names
    for signature in reader.model.tables("signature_defs"):
        if not signature.number("subgraph_index"):
            sides = (signature.tables("inputs"), signature.tables("outputs"))
            inputs, outputs = (
                {e.text("name").decode("utf-8", "backslashreplace"): names[e.number("tensor_index")] for e in entries}
                for entries in sides
            )
            return Signature(inputs, outputs)
    return Signature()
