"""Constant folding, limited to results that are exact by definition.

Only ops that move values, count, and compute with integers are folded. Floating-point arithmetic is left to the machine that
runs the graph, whose roots and quotients may differ by a bit from those of this one. An identity of a constant is replaced by
the constant, except for weights: a kernel that sees a constant filter may choose another algorithm (observed: convolutions that
differ by a bit from run to run).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from graphsplit.formats import GraphDefModel
from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.graph.index import Node
from graphsplit.rewrites.matching import Matcher
from graphsplit.runtimes.arrays import Array

__all__ = ["fold_constants"]

_LARGEST = 1024  # elements of a folded value, so that files do not grow

_WHOLE = ("int32", "int64", "bool", "string")

_Values = Sequence[Array]
_OPS: Mapping[str, Callable[[Matcher, Node, _Values], Array | None]] = {
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


def _whole(values: _Values, compute: Callable[..., Array | None]) -> Array | None:
    return compute(*values) if all(v.dtype.kind == "i" for v in values) else None


def _cast(value: Array) -> Array | None:
    """Small integers are the same in every dtype."""
    return value if value.dtype.kind == "i" and (np.abs(value) < 1 << 24).all() else None


def _size(op: str, values: _Values) -> int:
    """How many elements an op would output, as far as that is more than its inputs have."""
    if op in ("Fill", "Tile"):
        sizes = [int(n) for n in values[0 if op == "Fill" else 1].ravel()]
        return prod(sizes) * (1 if op == "Fill" else values[0].size)
    if op == "Range":
        start, end, by = (int(v.reshape(())) for v in values)
        return abs(end - start) // abs(by) if by else 0
    if op in ("ConcatV2", "Pack"):
        return sum(v.size for v in values)
    return prod(np.broadcast_shapes(*(v.shape for v in values))) if op in ("Add", "AddV2", "Sub", "Mul") else 0


def fold_constants(model: GraphDefModel, write: NodeWriter) -> dict[str, str]:
    """Write constants that replace constant nodes; tensor → the constant that replaces it."""
    match = Matcher(model)
    outputs = set(model.index.outputs)
    place: dict[str, str] = {}  # tensor → the constant that it is
    known: dict[str, Array] = {}  # tensor → its value
    replaced: dict[str, str] = {}

    def value(tensor: str) -> Array | None:
        if tensor not in known:
            tensor = place.get(tensor, tensor)
        return known[tensor] if tensor in known else match.value(tensor)

    waiting = [n for n in model.index.nodes if n.kind == "op" and n.group is None and not n.control_inputs and len(n.outputs) == 1]
    waiting = [n for n in waiting if n.outputs[0] not in outputs and (n.op == "Identity" or n.op in _OPS)]
    foldable = {n.name for n in waiting}
    queue = deque(waiting)
    while queue:  # files need not be in order: what a node folds may fold its readers
        node = queue.popleft()
        tensor = node.outputs[0]
        if tensor in place or tensor in known:
            continue
        if node.op == "Identity":
            source = place.get(node.inputs[0], node.inputs[0])
            if source in known:
                known[tensor] = known[source]
            elif match.maker(source).is_shared_constant and model.index.tensors[tensor].dtype in _WHOLE:
                place[tensor] = source
        else:
            values = []
            for read in node.inputs:
                if (found := value(read)) is None:
                    break
                values.append(found)
            dtype = model.index.tensors[tensor].dtype
            if len(values) == len(node.inputs) and dtype in ("int32", "int64", "float32"):
                computed = _computed(match, node, values)
                if computed is not None and computed.size <= _LARGEST:
                    known[tensor] = np.asarray(computed, dtype=dtype)
        if tensor in place or tensor in known:
            queue.extend(r for r in match.readers.get(tensor, ()) if r.name in foldable)
    folded = {*place, *known}
    replaced.update(place)
    for tensor, result in known.items():
        readers = match.readers.get(tensor, ())
        if any(not r.outputs or r.outputs[0] not in folded for r in readers):
            replaced[tensor] = write.const(result, model.index.tensors[tensor].dtype or "int32")
    return replaced


def _computed(match: Matcher, node: Node, values: _Values) -> Array | None:
    try:
        if _size(node.op, values) > _LARGEST:  # what the file states is not computed first
            return None
        with np.errstate(over="ignore"):
            return _OPS[node.op](match, node, values)
    except (ValueError, IndexError, OverflowError, TypeError):  # the graph fails when it runs; that is left to it
        return None
