"""What the nodes that read an input require of it: rank, sizes, and what kind of value makes sense.

    x ─▶ Identity ─▶ Transpose(0,2,3,1) ─▶ Conv2D(filter 3×3×3×8)      x: [?, 3, ?, ?]
    keep_prob ─▶ Add(random) ─▶ Floor                                   keep_prob: a number, 1.0
    phase_train ─▶ Switch                                               phase_train: False

Requirements move from the output of a node to its input, through ops that keep or rearrange sizes. What nothing requires stays
unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from graphsplit.formats import Model
from graphsplit.graph.index import Node, Shape, itemsize
from graphsplit.inference.operands import COUNTS, SHAPES
from graphsplit.inference.rearranging import before_einsum, before_slice, before_split, before_squeeze

__all__ = ["Demand", "by_name", "demands", "merged_shapes"]

_STEPS = 2_000  # nodes that are looked at for one input
_DEEPEST = 40  # nodes between an input and what states its size

_SAME = {  # ops whose first output has the rank and sizes of their only input that matters
    "Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "Cast", "PlaceholderWithDefault", "Relu", "Relu6",
    "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Abs", "Neg", "Square", "Sqrt", "Rsqrt", "Exp", "Log", "Log1p", "Floor", "Round",
    "Softmax", "Softplus", "ClipByValue", "LogicalNot", "ZerosLike", "OnesLike", "Enter", "Exit", "RefEnter", "NextIteration",
    "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs", "Dequantize", "QuantizeV2", "AdjustContrastv2", "AdjustHue",
    "AdjustSaturation", "RGBToHSV", "ReverseV2",
}  # fmt: skip
_PAIRED = {"Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum", "SquaredDifference", "Pow", "FloorDiv", "FloorMod"}
_IMAGES = {  # rank 4 at the first input
    "MaxPool", "AvgPool", "MaxPoolV2", "LRN", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea",
    "CropAndResize", "DepthToSpace", "SpaceToDepth", "ExtractImagePatches", "FusedBatchNorm", "FusedBatchNormV2",
    "FusedBatchNormV3", "QuantizedConv2D",
}  # fmt: skip
_CONVOLUTIONS = {"Conv2D": 4, "DepthwiseConv2dNative": 4, "Conv3D": 5, "Dilation2D": 4, "MaxPool3D": 5, "AvgPool3D": 5}
_FLAGS = {("Switch", 1), ("RefSwitch", 1), ("If", 0), ("StatelessIf", 0), ("LoopCond", 0), ("Assert", 0)}
_COMPARED = {"Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "LogicalXor"}
_CELLS = {"LSTMBlockCell": 3, "BlockLSTM": 4, "BlockLSTMV2": 4, "GRUBlockCell": 2}  # the operand that holds the weights
_GATHERS = {"Gather": 0, "GatherV2": 0, "ResourceGather": 0, "EmbeddingLookup": 0}
_CONTENTS = {"DecodeWav": "wav", "DecodeBmp": "bmp", "DecodePng": "picture", "DecodeJpeg": "picture", "DecodeImage": "picture"}
_EXAMPLES = {"ParseExample", "ParseExampleV2", "ParseSingleExample"}
_CONTENTS |= {"DecodeAndCropJpeg": "picture", "ExtractJpegShape": "picture", "DecodeGif": "gif"}
_RANDOM = re.compile(r"Random(Uniform|StandardNormal)(V2|Int)?|TruncatedNormal|StatelessRandom\w+")
_KEEP = re.compile(r"keep_?(prob|rate|proba)|prob(ability)?_?keep|dropout_?keep", re.IGNORECASE)
_DROP = re.compile(r"drop(out)?_?(rate|prob|ratio)|(^|/)rate$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Demand:
    """Requirements of an input.

    Attributes:
        shape: Rank and sizes that its readers need; None: no reader says.
        content: What strings hold: "picture", "gif", "bmp", "wav", "raw", "example", "number", "text"; empty: nobody says.
        value: The number that switches off what only training does: a share that is kept or dropped, a flag.
        below: Integers have to be smaller than this, since they index a table.
        elements: How many elements one frame has, where a Reshape says so; of "raw" strings, how many bytes.
        count: A number that makes sense: how many, how large.
        encoded: Whether strings are encoded in base64.
        reader: The node that parses an "example".
    """

    shape: Shape | None = None
    content: str = ""
    value: float | bool | None = None
    below: int | None = None
    elements: int | None = None
    count: int | None = None
    encoded: bool = False
    reader: str = ""

    def merged(self, other: Demand) -> Demand:
        """Both requirements; where they contradict each other, the first."""
        return Demand(
            merged_shapes(self.shape, other.shape),
            self.content or other.content,
            other.value if self.value is None else self.value,
            min((b for b in (self.below, other.below) if b is not None), default=None),
            self.elements or other.elements,
            other.count if self.count is None else self.count,
            self.encoded or other.encoded,
            self.reader or other.reader,
        )


def demands(model: Model) -> dict[str, Demand]:
    """Input → what its readers require, of a GraphDef; empty for a format whose files state all shapes."""
    if model.section_format != "graphdef":
        return {}
    return {tensor: _Reading(model).of(tensor) for tensor in model.index.inputs}


def merged_shapes(one: Shape | None, two: Shape | None) -> Shape | None:
    """What two statements about a shape say together; where they contradict each other, the first."""
    if one is None or two is None:
        return two if one is None else one
    if len(one) != len(two):
        return one
    return tuple(b if a is None else a for a, b in zip(one, two, strict=True))


@dataclass
class _Reading:
    """The search of one input: every tensor is looked at once."""

    model: Model
    known: dict[str, Demand] = field(default_factory=dict)
    steps: int = 0

    def of(self, tensor: str, depth: int = 0) -> Demand:
        """What the readers of a tensor require of it."""
        if tensor in self.known:
            return self.known[tensor]
        self.known[tensor] = Demand()  # what a loop brings back adds nothing
        index = self.model.index
        found = Demand()
        for name in index.consumers.get(tensor, ()):
            self.steps += 1
            if depth > _DEEPEST or self.steps > _STEPS:
                break
            node = index.name_to_node_map[name]
            for place, read in enumerate(node.inputs):
                if read == tensor:
                    found = found.merged(self.read_by(node, place, depth))
        self.known[tensor] = found
        return found

    # by one reader

    def read_by(self, node: Node, place: int, depth: int) -> Demand:
        """What a node requires of its input number `place`."""
        op = node.op
        if op in _SAME and (place == 0 or op in ("Enter", "Exit")):
            return self.of(node.outputs[0], depth + 1)
        if (op, place) in _FLAGS:
            return Demand((), value=False)
        if op in _CONVOLUTIONS and place == 0:
            return Demand(self.channels(node, _CONVOLUTIONS[op], self.sizes(node, 1, -2)))
        if op == "Conv2DBackpropInput" and place == 2:
            return Demand(self.channels(node, 4, self.sizes(node, 1, -1)))
        if op in _IMAGES and place == 0:
            return Demand(self.channels(node, 4, self.sizes(node, 1, 0) if op.startswith("FusedBatchNorm") else None))
        if place in SHAPES.get(op, {}) or place in COUNTS.get(op, {}):
            return Demand(SHAPES.get(op, {}).get(place), count=COUNTS.get(op, {}).get(place))
        if op in _CELLS:
            return Demand(self.cell(node, place))
        if op == "Einsum":
            equation = self.attribute(node, "equation").partition(": ")[2].strip('"')
            return Demand(before_einsum(equation, place, [self.shape(node, i) for i in range(len(node.inputs))]))
        if op in _GATHERS and place == _GATHERS[op] + 1:
            return Demand(below=self.sizes(node, _GATHERS[op], 0))
        if op == "EnsureShape":
            return self.of(node.outputs[0], depth + 1).merged(Demand(self.model.index.tensors[node.outputs[0]].shape))
        if op == "OneHot" and place == 0:
            depth_of = self.constant(node, 1)
            return Demand(below=int(depth_of[0]) if depth_of else None)
        if op in _CONTENTS and place == 0:
            return Demand((), content=_CONTENTS[op])
        if op == "DecodeBase64":
            return replace(self.of(node.outputs[0], depth + 1), encoded=True)
        if op in ("DecodeRaw", "DecodePaddedRaw") and place == 0:
            dtype = self.attribute(node, "out_type").rpartition("_")[2].lower()
            size = itemsize({"float": "float32", "double": "float64"}.get(dtype, dtype)) or 1
            after = self.of(node.outputs[0], depth + 1)
            return Demand(content="raw", elements=int(size * (after.elements or 1)))
        if op in _EXAMPLES and place == 0:
            return Demand(content="example", reader=node.name)
        if op == "StringToNumber":
            return Demand(content="number")
        if op in ("StringSplit", "StringSplitV2", "UnicodeDecode", "RegexReplace", "StringLower", "StringToHashBucketFast"):
            return Demand(content="text")
        return self.layer(node, place).merged(self.rearranged(node, place, depth))

    def layer(self, node: Node, place: int) -> Demand:
        """Matrix products and biases."""
        op, other = node.op, 1 - place
        if op in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "SparseMatMul") and place < 2:
            attributes = self.model.attributes(node.name)
            names = ("adj_x", "adj_y") if op.startswith("Batch") else ("transpose_a", "transpose_b")
            adjoint = ["true" in attributes.get(name, "") for name in names]
            weights = self.shape(node, other)
            if weights is None or len(weights) < 2:
                return Demand((None, None)) if op == "MatMul" else Demand()
            inner = weights[-2 if (other == 1) != adjoint[other] else -1]
            mine = (None, inner) if (place == 0) != adjoint[place] else (inner, None)
            return Demand((*(None for _ in weights[2:]), *mine) if op != "MatMul" else mine)
        if op == "BiasAdd" and place == 0 and (bias := self.sizes(node, 1, 0)) and "NCHW" in self.attribute(node, "data_format"):
            return Demand((None, bias, None, None))
        return Demand()

    def rearranged(self, node: Node, place: int, depth: int) -> Demand:
        """Ops that change a shape in a way that can be undone."""
        op = node.op
        if op in _PAIRED and place < 2:
            return self.paired(node, place, depth)
        if op in ("Greater", "GreaterEqual", "Less", "LessEqual") and self.is_random(node.inputs[1 - place]):
            return Demand((), value=0.0)  # random >= rate
        if op in _COMPARED and place < 2:
            after = self.of(node.outputs[0], depth + 1)
            return Demand(() if after.shape == () else None)
        if op in ("ConcatV2", "Concat") or op in ("Pack", "AddN"):
            return self.alike(node, place, depth)
        if op in ("Split", "SplitV") and place == (op == "Split"):
            axis = self.constant(node, 0 if op == "Split" else 2)
            pieces = [self.of(t, depth + 1).shape for t in node.outputs]
            return Demand(None if axis is None else before_split(axis[0], len(node.outputs), pieces))
        if place:
            return Demand()
        after = self.of(node.outputs[0], depth + 1) if node.outputs else Demand()
        shape = after.shape
        if op == "Transpose":
            order = self.constant(node, 1)
            if order is None or shape is None or len(order) != len(shape):
                return Demand(None if order is None else tuple(None for _ in order))
            dims: list[int | None] = [None] * len(order)
            for to, of in enumerate(order):
                dims[int(of)] = shape[to]
            return replace(after, shape=tuple(dims))
        if op == "ExpandDims":
            axis = self.constant(node, 1)
            if axis is None or shape is None or not shape:
                return Demand()
            at = int(axis[0]) % len(shape)
            return replace(after, shape=(*shape[:at], *shape[at + 1 :]))
        if op in ("Pad", "PadV2", "MirrorPad"):
            rows = self.shape(node, 1)
            if shape is not None:
                return replace(after, shape=(shape[0], *(None for _ in shape[1:-1]), shape[-1]) if len(shape) > 1 else shape)
            return Demand(tuple(None for _ in range(rows[0] or 0)) if rows else None)
        if op == "Reshape":
            sizes = self.target(node)
            if sizes is None:
                return Demand()
            if shape is not None and len(shape) == len(sizes):
                sizes = [s if n == -1 and s is not None and i else n for i, (n, s) in enumerate(zip(sizes, shape, strict=True))]
            inner = sizes[1:] if sizes and (sizes[0] in (-1, 1) or min(sizes[1:], default=1) > 0) else sizes
            return Demand(elements=prod(inner) if inner and min(inner) > 0 else None)
        if op in ("Mean", "Max", "Min", "Sum", "Prod", "All", "Any", "ArgMax", "ArgMin"):
            axes = self.constant(node, 1)
            keeps = "true" in self.attribute(node, "keep_dims")
            if axes is None or shape is None or keeps or len(axes) + len(shape) > 8:
                return replace(after, elements=None) if keeps else Demand()
            rank, out = len(axes) + len(shape), iter(shape)
            removed = {int(a) % rank for a in axes}
            return Demand(tuple(None if i in removed else next(out) for i in range(rank)))
        if op == "Unpack":
            count = self.attribute(node, "num").rpartition(" ")[2]
            axis_text = self.attribute(node, "axis").rpartition(" ")[2]
            at = int(axis_text) if axis_text.isdigit() else 0
            if not count.isdigit():
                return Demand()
            if shape is None:
                return Demand()
            return Demand((*shape[:at], int(count), *shape[at:]))
        if op == "Squeeze":
            axes = [int(n) for n in re.findall(r"-?\d+", self.attribute(node, "squeeze_dims"))]
            return replace(after, shape=before_squeeze(axes, shape))
        if op == "StridedSlice":
            begin, strides = self.sizes(node, 1, 0), self.constant(node, 3)
            names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
            masks = {n: int(self.attribute(node, n).rpartition(" ")[2] or 0) for n in names}
            unit = [abs(s) == 1 for s in strides or (0,) * (begin or 0)]
            return Demand(None if begin is None else before_slice(begin, masks, unit, shape))
        return Demand()

    def cell(self, node: Node, place: int) -> Shape | None:
        """An operand of a recurrent cell whose weights are [inputs + units, gates · units]."""
        op, at = node.op, _CELLS[node.op]
        weights = self.shape(node, at)
        gates = 2 if op == "GRUBlockCell" else 4
        rows, columns = weights if weights is not None and len(weights) == 2 else (None, None)
        units = None if columns is None else columns // gates
        inputs = None if rows is None or units is None else rows - units
        first = 1 if op.startswith("BlockLSTM") else 0
        if first and place == 0:
            return ()
        if place == first:
            return (None, None, inputs) if first else (None, inputs)
        return (None, units) if place < at else None

    def paired(self, node: Node, place: int, depth: int) -> Demand:
        """Arithmetic of two tensors."""
        other = node.inputs[1 - place]
        if node.op in ("Add", "AddV2") and self.is_random(other):
            return Demand((), value=1.0)  # floor(random + keep)
        after = self.of(node.outputs[0], depth + 1)
        shape = self.shape(node, 1 - place)
        if after.value is not None and node.op == "Sub" and place == 1:  # 1 − rate
            return replace(after, value=1.0 - after.value)
        if shape and after.shape is None and len(shape) > 1:
            return Demand((*(None for _ in shape[:-1]), shape[-1] if (shape[-1] or 0) > 1 else None))
        if shape and after.shape is not None and len(shape) == 1 and (shape[0] or 0) > 1 and after.shape[-1:] == (None,):
            return replace(after, shape=(*after.shape[:-1], shape[0]))
        return after

    def alike(self, node: Node, place: int, depth: int) -> Demand:
        """Inputs of one op that have the same rank."""
        after = self.of(node.outputs[0], depth + 1)
        axis = self.constant(node, len(node.inputs) - 1) if node.op == "ConcatV2" else None
        if after.shape is not None and node.op != "Pack":
            sizes = list(after.shape if node.op == "AddN" else (None for _ in after.shape))
            if axis is not None and -len(sizes) <= axis[0] < len(sizes):
                sizes[axis[0]] = self.share(node, place, after.shape[axis[0]], axis[0])
            return Demand(tuple(sizes))
        for i in range(len(node.inputs)):
            shape = self.shape(node, i) if i != place else None
            if shape is not None and node.op != "Concat" and i < len(node.inputs) - (node.op == "ConcatV2"):
                along = None if axis is None else int(axis[0]) % len(shape)
                return Demand(tuple(None if node.op == "ConcatV2" and along in (None, k) else d for k, d in enumerate(shape)))
        return Demand()

    def share(self, node: Node, place: int, total: int | None, axis: int) -> int | None:
        """The size of one part of a ConcatV2: what the parts of known size leave, in equal shares of the inputs."""
        index = self.model.index
        sizes = [self.sizes(node, i, axis) for i in range(len(node.inputs) - 1)]
        unknown = [i for i, size in enumerate(sizes) if size is None]
        if total is None or any(index.name_to_node_map[index.producer[node.inputs[i]]].kind != "input" for i in unknown):
            return None
        left = total - sum(size for size in sizes if size is not None)
        if place not in unknown or left < len(unknown):
            return None
        each = left // len(unknown)
        return left - each * (len(unknown) - 1) if place == unknown[-1] else each

    # what is known about other tensors

    def channels(self, node: Node, rank: int, count: int | None) -> Shape:
        """The shape of a picture with so many channels, wherever the layout has them."""
        layout = self.attribute(node, "data_format")
        first = "NCHW" in layout or "NCDHW" in layout
        return (None, count, *(None,) * (rank - 2)) if first else (*(None,) * (rank - 1), count)

    def attribute(self, node: Node, name: str) -> str:
        return self.model.attributes(node.name).get(name, "")

    def shape(self, node: Node, place: int) -> Shape | None:
        """The shape of an input of a node, if the file states it, directly or through Identity."""
        index = self.model.index
        if place >= len(node.inputs):
            return None
        tensor = node.inputs[place]
        for _ in range(4):
            if index.tensors[tensor].shape is not None:
                return index.tensors[tensor].shape
            producer = index.name_to_node_map[index.producer[tensor]]
            if producer.op not in ("Identity", "Enter", "Cast", "Dequantize") or not producer.inputs:
                return None
            tensor = producer.inputs[0]
        return None

    def sizes(self, node: Node, place: int, dimension: int) -> int | None:
        """One size of an input of a node."""
        shape = self.shape(node, place)
        if not shape or not -len(shape) <= dimension < len(shape):
            return None
        return shape[dimension]

    def constant(self, node: Node, place: int) -> Sequence[int] | None:
        """The integers of a small constant input."""
        if place >= len(node.inputs):
            return None
        index = self.model.index
        producer = index.name_to_node_map[index.producer[node.inputs[place]]]
        if producer.op == "Identity" and producer.inputs:
            producer = index.name_to_node_map[index.producer[producer.inputs[0]]]
        value = self.model.constant(producer.name, limit=4096)
        if value is None or value.dtype.kind not in "iu":
            return None
        return [int(v) for v in value.reshape(-1)] or None

    def target(self, node: Node) -> list[int] | None:
        """The sizes that a Reshape asks for, -1 where they are computed."""
        if (stated := self.constant(node, 1)) is not None:
            return list(stated)
        index = self.model.index
        pack = index.name_to_node_map[index.producer[node.inputs[1]]]
        if pack.op != "Pack":
            return None
        sizes = [self.constant(pack, i) for i in range(len(pack.inputs))]
        return [-1 if s is None else s[0] for s in sizes]

    def is_random(self, tensor: str) -> bool:
        """Whether a tensor is a random number, perhaps scaled and shifted."""
        index = self.model.index
        for _ in range(6):
            node = index.name_to_node_map[index.producer[tensor]]
            if _RANDOM.fullmatch(node.op):
                return True
            if node.op not in ("Add", "AddV2", "Mul", "Identity", "Cast", "Sub") or not node.inputs:
                return False
            tensor = node.inputs[0]
        return False


def by_name(name: str) -> float | bool | None:
    """The value of a switch for inference by its name, where its readers do not tell."""
    last = name.partition(":")[0]
    if _KEEP.search(last):
        return 1.0
    if _DROP.search(last):
        return 0.0
    return None
