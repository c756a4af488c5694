"""What kind of work each of TFLite's ops does, as far as planning and feeds depend on it; see `graphsplit.graph.index.Role`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from graphsplit.graph.index import Role

if TYPE_CHECKING:
    from graphsplit.formats.tflite.validation import Operator

__all__ = ["ROLES", "role_of"]

_OPS: Mapping[Role, str] = {
    "shape": "SHAPE RANK",
    "arithmetic": """
        CAST STRIDED_SLICE SLICE PACK UNPACK CONCATENATION GATHER SQUEEZE EXPAND_DIMS RESHAPE RANGE FILL TILE ADD SUB MUL DIV
        FLOOR_DIV FLOOR_MOD MINIMUM MAXIMUM REDUCE_PROD DEQUANTIZE DENSIFY
    """,
    "resize": "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR",
    "neural": "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED",
}

#: Op → role; ops without one are left out.
ROLES: Mapping[str, Role] = {op: role for role, ops in _OPS.items() for op in ops.split()}


def role_of(operator: Operator) -> Role:
    """The role of an operator."""
    return "custom" if operator.custom else ROLES.get(operator.op, "")
