"""The cost of a node, estimated from shapes: two operations per multiplication of a convolution or matrix product, one per
output element of any other op. Good enough for a heat map; `graphsplit bench` measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from graphsplit.graph.index import GraphIndex, Node, TensorSpec, itemsize

__all__ = ["estimate"]

# Op → dimensions of its filter, counted from the end (-) or the start, that number outputs instead of summands.
_FILTERS = {
    "Conv2D": (-1,), "Conv3D": (-1,), "DepthwiseConv2dNative": (-1, -2), "MatMul": (-1,), "BatchMatMulV2": (-1,),
    "CONV_2D": (0,), "DEPTHWISE_CONV_2D": (-1,), "FULLY_CONNECTED": (0,), "TRANSPOSE_CONV": (0,),
}  # fmt: skip


def estimate(index: GraphIndex, sizes: Mapping[str, int]) -> dict[str, int]:
    """Node → arithmetic operations for one frame. Nodes of unknown size and constants are left out.

    Args:
        index: The graph.
        sizes: Bytes of tensors for one frame, see `graphsplit.inference.shapes.frame_bytes`.
    """
    costs = {}
    for node in index.nodes:
        if node.kind != "op":
            continue
        elements = sum(_elements(index.tensors[t], sizes.get(t, 0)) for t in node.outputs)
        if elements:
            costs[node.name] = elements * _sums(index, node)
    return costs


def _elements(spec: TensorSpec, nbytes: int) -> int:
    size = itemsize(spec.dtype)
    return int(nbytes / size) if size else 0


def _sums(index: GraphIndex, node: Node) -> int:
    """Operations for each element of the output."""
    kept = _FILTERS.get(node.op)
    if kept is None or len(node.inputs) < 2:
        return 1
    shape = _constant_shape(index, node.inputs[1])
    if not shape or None in shape or len(shape) < len(kept):
        return 1
    sizes = [d or 1 for d in shape]
    return max(1, 2 * prod(sizes) // max(1, prod(sizes[i] for i in kept)))


def _constant_shape(index: GraphIndex, tensor: str) -> tuple[int | None, ...] | None:
    """The shape of a constant, read directly or through Identity nodes."""
    for _ in range(4):
        node = index.name_to_node_map[index.producer[tensor]]
        if node.kind == "const" or not node.inputs:
            return index.tensors[tensor].shape
        tensor = node.inputs[0]
    return None
