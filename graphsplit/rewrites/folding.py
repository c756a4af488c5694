"""Constants that are computed from constants, where what they come to is exact by definition.

Only ops that move values about, count, and compute with whole numbers are done ahead. Arithmetic with floats is left to
the machine that runs the graph: its roots and quotients need not be those of this one, and a result computed here could
differ there by a bit. An identity of a constant is the constant, but for weights: they stay behind theirs, since kernels that
see that a filter is constant may choose another way to compute (seen: convolutions that differ by a bit from run to run).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.graph.index import Node
from graphsplit.rewrites.matching import Matcher

__all__ = ["fold_constants"]

_LARGEST = 1024  # elements of a value that is computed ahead: files must not grow by it

_WHOLE = ("int32", "int64", "bool", "string")

_Values = Sequence[Any]
_OPS: Mapping[str, Callable[[Matcher, Node, _Values], Any]] = {
    "Reshape": lambda match, node, v: v[0].reshape(v[1].tolist()),
    "ExpandDims": lambda match, node, v: np.expand_dims(v[0], int(v[1].reshape(()))),
    "Tile": lambda match, node, v: np.tile(v[0], v[1].tolist()) if len(v[1]) == v[0].ndim else None,
    "Fill": lambda match, node, v: np.full(v[0].tolist(), v[1]),
    "ConcatV2": lambda match, node, v: np.concatenate(v[:-1], int(v[-1].reshape(()))),
    "Pack": lambda match, node, v: np.stack(v, 0 if (a := match.attribute(node, "axis")) is None else int(a.i)),
    "Shape": lambda match, node, v: np.array(v[0].shape),
    "Add": lambda match, node, v: _whole(v, np.add),
    "AddV2": lambda match, node, v: _whole(v, np.add),
    "Sub": lambda match, node, v: _whole(v, np.subtract),
    "Mul": lambda match, node, v: _whole(v, np.multiply),
    "Range": lambda match, node, v: _whole(v, lambda start, end, by: np.arange(start, end, by) if by else None),
    "Cast": lambda match, node, v: _cast(v[0]),
}


def _whole(values: _Values, compute: Callable[..., Any]) -> Any:
    return compute(*values) if all(v.dtype.kind == "i" for v in values) else None


def _cast(value: Any) -> Any:
    """Small whole numbers are the same in every dtype."""
    return value if value.dtype.kind == "i" and (np.abs(value) < 1 << 24).all() else None


def fold_constants(model: GraphDefModel, write: NodeWriter) -> dict[str, str]:
    """Write the constants that stand for constant nodes; {tensor: the constant that takes its place}."""
    match = Matcher(model)
    outputs = set(model.index.outputs)
    place: dict[str, str] = {}  # tensor → the constant that it is
    known: dict[str, Any] = {}  # tensor → its value
    made: dict[str, str] = {}

    def value(tensor: str) -> Any:
        if tensor not in known:
            tensor = place.get(tensor, tensor)
        return known[tensor] if tensor in known else match.value(tensor)

    waiting = [n for n in model.index.nodes if n.kind == "op" and n.group is None and not n.control_inputs and len(n.outputs) == 1]
    waiting = [n for n in waiting if n.outputs[0] not in outputs and (n.op == "Identity" or n.op in _OPS)]
    before = -1
    while before != len(place) + len(known):  # files need not be in order
        before = len(place) + len(known)
        for node in waiting:
            tensor = node.outputs[0]
            if tensor in place or tensor in known:
                continue
            if node.op == "Identity":
                source = place.get(node.inputs[0], node.inputs[0])
                if source in known:
                    known[tensor] = known[source]
                elif match.maker(source).is_shared_constant and model.index.tensors[tensor].dtype in _WHOLE:
                    place[tensor] = source
                continue
            given = [value(t) for t in node.inputs]
            dtype = model.index.tensors[tensor].dtype
            if all(v is not None for v in given) and dtype in ("int32", "int64", "float32"):
                found = _computed(match, node, given)
                if found is not None and found.size <= _LARGEST:
                    known[tensor] = np.asarray(found, dtype=dtype)
    done = {*place, *known}
    made.update(place)
    for tensor, found in known.items():
        readers = match.readers.get(tensor, ())
        if any(not r.outputs or r.outputs[0] not in done for r in readers):
            made[tensor] = write.const(found, model.index.tensors[tensor].dtype or "int32")
    return made


def _computed(match: Matcher, node: Node, given: _Values) -> Any:
    try:
        with np.errstate(over="ignore"):
            return _OPS[node.op](match, node, given)
    except (ValueError, IndexError, OverflowError, TypeError):  # a graph that fails when it runs, and is left to
        return None
