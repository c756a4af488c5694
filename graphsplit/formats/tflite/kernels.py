"""Where kernels and files disagree: shapes that no run has, types that LiteRT's native code takes for granted.

Sources: tensorflow/lite/kernels/non_max_suppression.cc, tensorflow/lite/kernels/svdf.cc.
"""

from __future__ import annotations

from graphsplit.formats.tflite.schema import tensor_dtype
from graphsplit.formats.tflite.validation import Subgraph
from graphsplit.graph.index import Shape

__all__ = ["overrun", "real_shapes"]

#: Op → shapes of its outputs, whatever the file states: converters keep the batch of what it replaced.
_SHAPES: dict[str, tuple[Shape, ...]] = {
    "NON_MAX_SUPPRESSION_V4": ((None,), ()),
    "NON_MAX_SUPPRESSION_V5": ((None,), (None,), ()),
}
_WEIGHTS_TIME, _STATE = 2, 4


def real_shapes(graph: Subgraph) -> dict[int, Shape]:
    """Tensor → the shape it has in a run, where the file states one of another rank."""
    return {
        tensor: shape
        for operator in graph.operators
        for tensor, shape in zip(operator.outputs, _SHAPES.get(operator.op, ()), strict=False)
        if tensor != -1 and len(graph.tensors[tensor].numbers("shape")) != len(shape)
    }


def overrun(graph: Subgraph) -> tuple[int, str] | None:
    """The first operator whose kernel in LiteRT would leave the memory of a tensor, and why; None if there is none."""
    for number, operator in enumerate(graph.operators):
        if operator.op != "SVDF" or len(operator.inputs) <= _STATE or -1 in (operator.inputs[0], operator.inputs[_STATE]):
            continue
        types = [tensor_dtype(graph.tensors[t].number("type")) for t in operator.inputs]
        if types[0] == "int8" and (types[_WEIGHTS_TIME], types[_STATE]) != ("int16", "int16"):
            return number, f"an SVDF with {types[_STATE]} state, which only TFLite Micro has a kernel for"
    return None
