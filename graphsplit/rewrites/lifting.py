"""The body of a loop over images, applied to the whole batch: each of its values becomes a tensor outside of the loop."""

from __future__ import annotations

from typing import Literal

from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.graph.index import Node
from graphsplit.rewrites.counted_loop import counted_rows
from graphsplit.rewrites.matching import Matcher, NoMatch

__all__ = ["RESIZERS", "Lift", "Value"]

#: Kind and tensor, see `Lift`.
Value = tuple[Literal["same", "each", "one"], str]

RESIZERS = ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
_ONE_BY_ONE = ("Cast", "Neg", "Abs", "Square", "Sqrt", "Rsqrt", "Exp", "Log", "Relu", "Relu6", "Floor", "Round")
_TWO = ("Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum")
_UNIFORM = (
    *_ONE_BY_ONE, *_TWO, "Pack", "ConcatV2", "Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "LogicalAnd", "Select",
    "SelectV2", "StridedSlice", "Slice", "Reshape", "ExpandDims", "Squeeze", "FloorDiv", "FloorMod", "ToFloat", "ToInt32", "Min",
    "Max", "Unpack", "Size", "Rank", "Split",
)  # fmt: skip


class Lift:
    """Values of the body as tensors outside of the loop.

    A value is ("same", t): t is the same for every image; ("each", t): t has one row per image; ("one", t): likewise, and the
    body sees each row as a batch of one.

    Attributes:
        ops: Ops that are applied to all images at once.
    """

    def __init__(self, match: Matcher, write: NodeWriter, group: str, images: str) -> None:
        self.match, self.write, self.group, self.images = match, write, group, images
        self.ops: set[str] = set()
        self._known: dict[str, Value] = {}
        self._copies: dict[str, str] = {}

    def value(self, tensor: str) -> Value:
        """Kind and tensor of a value of the body. Raises NoMatch."""
        tensor = self.match.plain(tensor)
        if tensor not in self._known:
            self._known[tensor] = self._lift(tensor)
        return self._known[tensor]

    def _lift(self, tensor: str) -> Value:
        match, node = self.match, self.match.maker(tensor)
        if tensor not in match.index.captive and node.group != self.group and node.op != "Const":
            return "same", tensor
        if node.op == "Const":
            return "same", self._constant(tensor)
        if node.op == "TensorArrayReadV3":
            return "each", self._read(node)
        if node.op not in (*_UNIFORM, *RESIZERS, "Shape"):
            raise NoMatch(f"the body holds a {node.op} ({node.name!r})")
        inputs = [self.value(i) for i in node.inputs]
        kinds = [kind for kind, _ in inputs]
        tensors = [t for _, t in inputs]
        if set(kinds) == {"same"}:
            return "same", self._copy(node, tensors, match.port(tensor))
        if node.op == "Shape" and kinds == ["each"]:
            return "same", self._shape(node, tensors[0])
        self.ops.add(node.op)
        if node.op == "ExpandDims" and kinds == ["each", "same"] and match.is_number(node.inputs[1], 0):
            return "one", tensors[0]
        if node.op == "Squeeze" and kinds == ["one"]:
            axes = match.attribute(node, "squeeze_dims")
            if axes is None or list(axes.list.i) != [0]:
                raise NoMatch(f"{node.name!r} may remove more than the batch of one")
            return "each", tensors[0]
        if node.op in RESIZERS and kinds == ["one", "same"]:
            return "one", self._copy(node, tensors, 0)
        if node.op in _ONE_BY_ONE:
            return kinds[0], self._copy(node, tensors, 0)
        if node.op in _TWO and sorted(kinds) in (["each", "same"], ["one", "same"]):
            constant = match.value(node.inputs[kinds.index("same")])
            if constant is None or constant.ndim > 1:
                raise NoMatch(f"{node.name!r} may mix images")
            return next(k for k in kinds if k != "same"), self._copy(node, tensors, 0)
        raise NoMatch(f"{node.op} ({node.name!r}) is not known to treat each image independently")

    def _read(self, node: Node) -> str:
        match = self.match
        scatter = match.node(node.inputs[2], "TensorArrayScatterV3")
        if not match.same(scatter.inputs[0], node.inputs[0]):
            raise NoMatch(f"{node.name!r} reads the elements of another array")
        images = match.plain(scatter.inputs[2])
        if (
            match.rows_of(match.first(scatter.inputs[1])) != images
            or counted_rows(match, node.inputs[1], match.first(scatter.inputs[1])) != images
        ):
            raise NoMatch(f"{node.name!r} does not read one image after the other")
        if images != self.images:
            raise NoMatch("the loop runs over more than its images")
        return images

    def _constant(self, tensor: str) -> str:
        value, spec = self.match.value(tensor), self.match.index.tensors[tensor]
        if value is None or spec.dtype is None:
            raise NoMatch(f"{tensor} is a constant too large to copy")
        return self.write.const(value, spec.dtype)

    def _copy(self, node: Node, inputs: list[str], port: int) -> str:
        if node.stateful:
            raise NoMatch(f"{node.name!r} holds state")
        if node.name not in self._copies:
            reader = self.match.model.reader
            self._copies[node.name] = self.write.copy(reader.by_name[node.name], reader, inputs)
        return f"{self._copies[node.name]}:{port}"

    def _shape(self, node: Node, tensor: str) -> str:
        """The shape of one image: that of the batch without its first dimension."""
        kind = self.match.attribute(node, "out_type")
        dtype = "int64" if kind is not None and kind.type == 9 else "int32"
        spec = self.match.index.tensors.get(tensor)
        source = None if spec is None else spec.dtype
        if source is None:  # a tensor written by this class
            stated = self.match.attribute(node, "T")
            source = "float32" if stated is None else op_table().dtypes[stated.type]
        whole = self.write("Shape", tensor, T=source, out_type=dtype)
        ends = [self.write.const([i]) for i in (1, 0, 1)]
        return self.write("StridedSlice", whole, *ends, T=dtype, Index="int32", end_mask=1)
