"""The cost of a node, estimated from shapes: good enough to weigh sections and to colour a map; `graphsplit bench` measures."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from graphsplit.graph.index import GraphIndex, Node, TensorSpec, itemsize

__all__ = ["estimate", "multiplications"]

# Op → dimensions of its filter, counted from the end (-) or the start, that number outputs instead of summands.
_FILTERS = {
    "Conv2D": (-1,), "Conv3D": (-1,), "DepthwiseConv2dNative": (-1, -2), "MatMul": (-1,), "BatchMatMulV2": (-1,),
    "CONV_2D": (0,), "DEPTHWISE_CONV_2D": (-1,), "FULLY_CONNECTED": (0,), "TRANSPOSE_CONV": (0,),
}  # fmt: skip


def estimate(index: GraphIndex, sizes: Mapping[str, int]) -> dict[str, int]:
    """Node → arithmetic operations for one frame: two for a multiplication of a layer, one for an element of any other op.

    Nodes of unknown size and constants are left out.

    Args:
        index: The graph.
        sizes: Bytes of tensors for one frame, see `graphsplit.inference.shapes.frame_bytes`.
    """
    costs = {}
    for node in index.nodes:
        if node.kind == "op" and (elements := _outputs(index, node, sizes)):
            summands = _summands(index, node)
            costs[node.name] = elements if summands is None else max(elements, 2 * elements * summands)
    return costs


def multiplications(index: GraphIndex, node: Node, sizes: Mapping[str, int]) -> int:
    """Multiplications of a layer for one frame; at least 1, where sizes are unknown.

    A layer whose filter is not read as that of a convolution or matrix product uses each of its weights once.

    Args:
        index: The graph.
        node: A node of it.
        sizes: As of `estimate`.
    """
    summands = _summands(index, node)
    if summands is not None:
        return max(1, _outputs(index, node, sizes) * summands)
    shapes = [_constant_shape(index, t) for t in node.inputs]
    return max(1, sum(prod(d or 1 for d in shape) for shape in shapes if shape and len(shape) > 1))


def _outputs(index: GraphIndex, node: Node, sizes: Mapping[str, int]) -> int:
    """Elements that a node outputs."""
    return sum(_elements(index.tensors[t], sizes.get(t, 0)) for t in node.outputs)


def _elements(spec: TensorSpec, nbytes: int) -> int:
    size = itemsize(spec.dtype)
    return int(nbytes / size) if size else 0


def _summands(index: GraphIndex, node: Node) -> int | None:
    """Multiplications for each element of the output; None for an op without a filter."""
    kept = _FILTERS.get(node.op)
    if kept is None or len(node.inputs) < 2:
        return None
    shape = _constant_shape(index, node.inputs[1])
    if not shape or None in shape or len(shape) < len(kept):
        return None
    sizes = [d or 1 for d in shape]
    return max(1, prod(sizes) // max(1, prod(sizes[i] for i in kept)))


def _constant_shape(index: GraphIndex, tensor: str) -> tuple[int | None, ...] | None:
    """The shape of a constant, read directly or through Identity nodes."""
    for _ in range(4):
        node = index.name_to_node_map[index.producer[tensor]]
        if node.kind == "const":
            return index.tensors[tensor].shape
        if not node.inputs:
            return None
        tensor = node.inputs[0]
    return None
