"""The ops that replacements are written with, with their types filled in."""

from __future__ import annotations

from graphsplit.formats.graphdef.edit import NodeWriter

__all__ = ["TensorOps"]


class TensorOps:
    """Writes ops; tensors are named ``node:port``, and a method returns the name of what it computes. Constants are shared."""

    def __init__(self, write: NodeWriter) -> None:
        self.write = write
        self._constants: dict[tuple[str, str], str] = {}

    def const(self, value: object, dtype: str = "int32") -> str:
        key = (repr(value), dtype)
        if key not in self._constants:
            self._constants[key] = self.write.const(value, dtype)
        return self._constants[key]

    def two(self, op: str, one: str, other: str, dtype: str = "int32") -> str:
        return self.write(op, one, other, T=dtype)

    def reshape(self, x: str, shape: str, dtype: str = "float32") -> str:
        return self.write("Reshape", x, shape, T=dtype, Tshape="int32")

    def rows(self, x: str, indices: str, dtype: str = "float32") -> str:
        return self.write("GatherV2", x, indices, self.const(0), Tparams=dtype, Tindices="int32", Taxis="int32")

    def size(self, x: str, axis: int, dtype: str = "float32") -> str:
        shape = self.write("Shape", x, T=dtype, out_type="int32")
        return self.item(shape, axis, "int32")

    def item(self, x: str, which: int, dtype: str) -> str:
        ends = [self.const([i]) for i in (which, which + 1, 1)]
        return self.write("StridedSlice", x, *ends, T=dtype, Index="int32", shrink_axis_mask=1)

    def top(self, x: str, k: str, dtype: str = "float32") -> tuple[str, str]:
        values = self.write("TopKV2", x, k, T=dtype)
        return values, f"{values.removesuffix(':0')}:1"

    def switch(self, x: str, which: str, dtype: str) -> tuple[str, str]:
        """(x where `which` is false, x where it is true)."""
        false = self.write("Switch", x, which, T=dtype)
        return false, f"{false.removesuffix(':0')}:1"

    def merge(self, one: str, other: str, dtype: str) -> str:
        return self.write("Merge", one, other, T=dtype, N=2)

    def cast(self, x: str, source: str, target: str) -> str:
        return self.write("Cast", x, SrcT=source, DstT=target)

    def choose(self, condition: str, one: str, other: str, dtype: str) -> str:
        return self.write("SelectV2", condition, one, other, T=dtype)

    def reduce(self, op: str, x: str, axes: list[int], **attributes: str) -> str:
        return self.write(op, x, self.const(axes), Tidx="int32", keep_dims=False, **attributes)

    def vector(self, *items: str) -> str:
        return self.write("Pack", *items, T="int32", N=len(items), axis=0)

    def transposed(self, x: str) -> str:
        return self.write("Transpose", x, self.const([1, 0]), T="float32", Tperm="int32")
