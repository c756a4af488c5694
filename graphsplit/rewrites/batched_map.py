"""The loop over images in front of the network, as ops over the whole batch.

``tf.map_fn`` runs its body for one image after the other. The images of a batch are one tensor, so they share a size, and
what the body does to one image (resize, scale, shift) can be done to all of them at once:

    images [b, h, w, c] ─ scatter ─ while: read, ExpandDims, Resize…, Squeeze, write ─ gather ─ [b, h', w', c]
    images [b, h, w, c] ──────────────────── Resize… ──────────────────────────────────────── [b, h', w', c]

The body is read backwards from what it writes. Each of its tensors is the same for all images (constants, arithmetic on
the shape of an image), or one for each image, to which only ops may be done that treat each image by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.graph.index import Group, Node
from graphsplit.rewrites.matching import Matcher, NoMatch, Unfit

__all__ = ["BatchedMap", "find_maps", "write_batched"]

_RESIZERS = ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
_ONE_BY_ONE = ("Cast", "Neg", "Abs", "Square", "Sqrt", "Rsqrt", "Exp", "Log", "Relu", "Relu6", "Floor", "Round")
_TWO = ("Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum")
_UNIFORM = (
    *_ONE_BY_ONE, *_TWO, "Pack", "ConcatV2", "Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "LogicalAnd", "Select",
    "SelectV2", "StridedSlice", "Slice", "Reshape", "ExpandDims", "Squeeze", "FloorDiv", "FloorMod", "ToFloat", "ToInt32", "Min",
    "Max", "Unpack", "Size", "Rank", "Split",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchedMap:
    """A loop over images that was read.

    group    name of the loop
    images   what it runs over: [b, …]
    results  gathered tensor → the value in the body that it stacks
    ops      ops of the body that are done to all images at once
    """

    group: str
    images: str
    results: tuple[tuple[str, str], ...]
    ops: tuple[str, ...]

    @property
    def where(self) -> str:
        """The name of the loop."""
        return self.group

    @property
    def scope(self) -> tuple[str, ...]:
        """The name scope of the loop."""
        return tuple(self.group.split("/")[:-2])

    def summary(self) -> dict[str, object]:
        """What was read, for people and manifests."""
        return {"images": self.images, "results": [r for r, _ in self.results], "ops": list(self.ops)}


def find_maps(model: GraphDefModel) -> Iterator[BatchedMap | Unfit]:
    """Each loop that resizes images, read, or why it is left alone. Needs no TensorFlow."""
    match = Matcher(model)
    for group in model.index.groups.values():
        nodes = [match.index.name_to_node_map[n] for n in group.nodes]
        if group.kind != "loop" or not any(n.op in _RESIZERS for n in nodes):
            continue
        try:
            yield _read(match, group, nodes)
        except NoMatch as why:
            yield Unfit(group.name, str(why))


def _read(match: Matcher, group: Group, nodes: list[Node]) -> BatchedMap:
    results: list[tuple[str, str]] = []
    images = ""
    for node in nodes:
        if node.op != "TensorArrayGatherV3":
            continue
        if node.outputs[0] in match.index.outputs:
            raise NoMatch(f"{node.outputs[0]} is an output of the model")
        writes = [n for n in nodes if n.op == "TensorArrayWriteV3" and match.same(n.inputs[0], node.inputs[0])]
        if len(writes) != 1:
            raise NoMatch(f"{node.name!r} stacks what is written {len(writes)} times")
        images = _counts(match, writes[0].inputs[1], match.first(node.inputs[1]))
        results.append((node.outputs[0], writes[0].inputs[2]))
    if not results:
        raise NoMatch("nothing is stacked after the loop")
    found = BatchedMap(group.name, images, tuple(results), ())
    dry = _Lift(match, NodeWriter("dry", ()), found)
    kinds = [dry.value(value)[0] for _, value in results]
    if "one" in kinds:
        raise NoMatch("an image keeps a batch of its own")
    return BatchedMap(group.name, images, tuple(results), tuple(sorted(dry.done)))


def _counts(match: Matcher, index: str, size: str) -> str:
    """The tensor whose rows the loop counts through, for the index at which it writes. Raises NoMatch."""
    switch = match.node(index, "Switch", port=1)
    _check_counter(match, match.node(switch.inputs[0], "Merge"))
    if match.maker(match.plain(size)).op == "TensorArraySizeV3":  # as TensorFlow 1 stacks arrays
        size = match.node(match.node(size, "TensorArraySizeV3").inputs[0], "TensorArrayV3").inputs[0]
    images = {match.rows_of(size)}
    conditions = [match.node(switch.inputs[1], "LoopCond").inputs[0]]
    while conditions:
        node = match.node(conditions.pop(), "LogicalAnd", "Less")
        if node.op == "LogicalAnd":
            conditions += node.inputs
        else:
            _check_counter(match, match.node(node.inputs[0], "Merge"))
            images.add(match.rows_of(node.inputs[1]))
    if len(images) != 1:
        raise NoMatch("the loop counts something else than its images")
    return images.pop()


def _check_counter(match: Matcher, merge: Node) -> None:
    """Refuse what does not count from 0 by 1. Raises NoMatch."""
    step, by = match.plus(match.node(merge.inputs[1], "NextIteration").inputs[0])
    source = match.node(match.node(step, "Switch", port=1).inputs[0], "Merge")
    if not match.is_number(merge.inputs[0], 0) or by != 1 or source != merge:
        raise NoMatch("the loop does not count from 0 by 1")


class _Lift:
    """Values of the body as tensors outside of the loop.

    A value is ("same", t): t for every image; ("each", t): t has one row for each image; ("one", t): the same, and the
    body sees each row as a batch of one.
    """

    def __init__(self, match: Matcher, write: NodeWriter, found: BatchedMap) -> None:
        self.match, self.write, self.found = match, write, found
        self.done: set[str] = set()
        self._known: dict[str, tuple[str, str]] = {}
        self._copies: dict[str, str] = {}

    def value(self, tensor: str) -> tuple[str, str]:
        """The kind of a value and its tensor. Raises NoMatch."""
        tensor = self.match.plain(tensor)
        if tensor not in self._known:
            self._known[tensor] = self._lift(tensor)
        return self._known[tensor]

    def _lift(self, tensor: str) -> tuple[str, str]:
        match, node = self.match, self.match.maker(tensor)
        if tensor not in match.index.captive and node.group != self.found.group and node.op != "Const":
            return "same", tensor
        if node.op == "Const":
            return "same", self._constant(tensor)
        if node.op == "TensorArrayReadV3":
            return "each", self._read(node)
        if node.op not in (*_UNIFORM, *_RESIZERS, "Shape"):
            raise NoMatch(f"the body holds a {node.op} ({node.name!r})")
        inputs = [self.value(i) for i in node.inputs]
        kinds = [kind for kind, _ in inputs]
        tensors = [t for _, t in inputs]
        if set(kinds) == {"same"}:
            return "same", self._copy(node, tensors, match.port(tensor))
        if node.op == "Shape" and kinds == ["each"]:
            return "same", self._shape(node, tensors[0])
        self.done.add(node.op)
        if node.op == "ExpandDims" and kinds == ["each", "same"] and match.is_number(node.inputs[1], 0):
            return "one", tensors[0]
        if node.op == "Squeeze" and kinds == ["one"]:
            axes = match.attribute(node, "squeeze_dims")
            if axes is None or list(axes.list.i) != [0]:
                raise NoMatch(f"{node.name!r} may take away more than the batch of one")
            return "each", tensors[0]
        if node.op in _RESIZERS and kinds == ["one", "same"]:
            return "one", self._copy(node, tensors, 0)
        if node.op in _ONE_BY_ONE:
            return kinds[0], self._copy(node, tensors, 0)
        if node.op in _TWO and sorted(kinds) in (["each", "same"], ["one", "same"]):
            constant = match.value(node.inputs[kinds.index("same")])
            if constant is None or constant.ndim > 1:
                raise NoMatch(f"{node.name!r} may mix images")
            return next(k for k in kinds if k != "same"), self._copy(node, tensors, 0)
        raise NoMatch(f"{node.op} ({node.name!r}) is not known to treat each image by itself")

    def _read(self, node: Node) -> str:
        match = self.match
        scatter = match.node(node.inputs[2], "TensorArrayScatterV3")
        if not match.same(scatter.inputs[0], node.inputs[0]):
            raise NoMatch(f"{node.name!r} reads what another array was given")
        images = match.plain(scatter.inputs[2])
        if (
            match.rows_of(match.first(scatter.inputs[1])) != images
            or _counts(match, node.inputs[1], match.first(scatter.inputs[1])) != images
        ):
            raise NoMatch(f"{node.name!r} does not read one image after the other")
        if images != self.found.images:
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
        """The shape of one image: that of the batch without its first size."""
        kind = self.match.attribute(node, "out_type")
        dtype = "int64" if kind is not None and kind.type == 9 else "int32"
        spec = self.match.index.tensors.get(tensor)
        source = self.match.attribute(node, "T")
        whole = self.write(
            "Shape", tensor, T=_dtype(source.type) if spec is None or spec.dtype is None else spec.dtype, out_type=dtype
        )
        ends = [self.write.const([i]) for i in (1, 0, 1)]
        return self.write("StridedSlice", whole, *ends, T=dtype, Index="int32", end_mask=1)


def _dtype(number: int) -> str:
    from graphsplit.formats.graphdef.ops import op_table

    return op_table().dtypes[number]


def write_batched(model: GraphDefModel, write: NodeWriter, found: BatchedMap) -> dict[str, str]:
    """Write the replacement; each gathered tensor → the tensor that takes its place."""
    match = Matcher(model)
    lift = _Lift(match, write, found)
    made = {}
    for result, value in found.results:
        kind, tensor = lift.value(value)
        made[result] = tensor if kind == "each" else _repeated(match, write, found, value, tensor)
    return made


def _repeated(match: Matcher, write: NodeWriter, found: BatchedMap, value: str, tensor: str) -> str:
    """A value that is the same for all images, once for each."""
    image, same = (match.index.tensors[match.plain(t)].dtype or "float32" for t in (found.images, value))
    batch = write("Shape", found.images, T=image, out_type="int32")
    ends = [write.const([i]) for i in (0, 1, 1)]
    count = write("StridedSlice", batch, *ends, T="int32", Index="int32")
    shape = write("Shape", tensor, T=same, out_type="int32")
    full = write("ConcatV2", count, shape, write.const(0), T="int32", Tidx="int32", N=2)
    return write("BroadcastTo", tensor, full, T=same, Tidx="int32")
