"""The value of a constant: a TensorProto → a NumPy array.

Source: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.proto
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from graphsplit.formats.graphdef.messages import Message, read_shape
from graphsplit.formats.graphdef.ops import op_table

if TYPE_CHECKING:
    from graphsplit.runtimes.arrays import Array

__all__ = ["tensor_value"]

_MOST = 2**22  # elements; one value in the file may be repeated for all of them
_MOST_RANK = 32  # dimensions of an array of NumPy before 2.0
# dtype → the field that lists its values, unless their bytes are stored as they are in memory; float16 as its bits
_FIELDS = {
    "float16": "half_val", "float32": "float_val", "float64": "double_val", "bool": "bool_val",
    "int8": "int_val", "int16": "int_val", "int32": "int_val", "int64": "int64_val",
    "uint8": "int_val", "uint16": "int_val", "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip


def tensor_value(tensor: Message) -> Array | None:
    """The value of a TensorProto, strings as objects; None for a dtype that NumPy lacks and for a shape that does not fit."""
    import numpy as np

    dtype, shape = op_table().dtypes.get(tensor.dtype, ""), read_shape(tensor.tensor_shape)
    if (dtype not in _FIELDS and dtype != "string") or shape is None or len(shape) > _MOST_RANK or any(d is None for d in shape):
        return None
    sizes = [d for d in shape if d is not None]
    count = prod(sizes)
    if count > _MOST:
        return None
    if dtype == "string":
        texts = list(tensor.string_val)[:count] or [b""]
        return np.array(texts + [b""] * (count - len(texts)), object)[:count].reshape(sizes)
    if tensor.tensor_content:
        kind = np.dtype(dtype).newbyteorder("<")
        if len(tensor.tensor_content) != count * kind.itemsize:
            return None
        return np.frombuffer(tensor.tensor_content, kind).reshape(sizes)
    field = _FIELDS[dtype]
    listed = np.array(list(getattr(tensor, field))[:count] or [0], "int32" if field in ("int_val", "half_val") else dtype)
    values = listed.astype(np.uint16).view(np.float16) if dtype == "float16" else listed.astype(dtype, copy=False)
    # Where the file lists fewer, the last one is repeated; a single one is not even copied.
    if values.size > 1:
        values = np.concatenate([values, np.repeat(values[-1:], count - values.size)])
    return np.broadcast_to(values, count).reshape(sizes) if values.size == 1 else values.reshape(sizes)
