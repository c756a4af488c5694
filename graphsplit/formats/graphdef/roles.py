"""What kind of work each of TensorFlow's ops does, as far as planning and feeds depend on it; see `graphsplit.graph.index.Role`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from graphsplit.graph.index import Role

__all__ = ["ROLES", "role_of"]

_OPS: Mapping[Role, str] = {
    "shape": "Shape ShapeN Size Rank",
    "arithmetic": """
        Cast StridedSlice Slice Pack Unpack Concat ConcatV2 Gather GatherV2
        Squeeze ExpandDims Reshape Transpose Range Fill Tile ZerosLike OnesLike BroadcastTo Add AddV2 Sub Mul Div RealDiv FloorDiv
        FloorMod TruncateDiv Minimum Maximum Neg Sqrt Round Floor Ceil Prod Sum Max Min Equal NotEqual Greater GreaterEqual Less
        LessEqual LogicalAnd LogicalOr LogicalNot Select SelectV2
    """,
    "same": "Identity IdentityN StopGradient PreventGradient Snapshot",
    "resize": "ResizeBilinear ResizeNearestNeighbor ResizeBicubic ResizeArea CropAndResize",
    "decode": "DecodeJpeg DecodeAndCropJpeg DecodePng DecodeImage",  # each of them takes a JPEG
    "neural": "Conv2D DepthwiseConv2dNative MatMul Conv2DBackpropInput",
}

#: Op → role; ops without one are left out.
ROLES: Mapping[str, Role] = {op: role for role, ops in _OPS.items() for op in ops.split()}

# The names of the Identity nodes at the ends of a function: TensorFlow gives the first kind to what the function returns, and
# Grappler the second to what enters and leaves it where it is inlined.
_CHOSEN = re.compile(r"(.*/)?Identity(_\d+)?|Func/.*/(input|output)/_\d+", re.DOTALL)


def role_of(op: str, name: str) -> Role:
    """The role of a node."""
    role = ROLES.get(op, "")
    return "alias" if role == "same" and _CHOSEN.fullmatch(name) else role
