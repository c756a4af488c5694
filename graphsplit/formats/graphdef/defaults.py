"""Inputs with a default: placeholders that may be left unfed, as ``tf.compat.v1.placeholder_with_default`` writes them."""

from __future__ import annotations

from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import NodeRange

__all__ = ["OP", "default_nodes"]

OP = "PlaceholderWithDefault"
_PASSING = {"Identity", "StopGradient", "Snapshot"}
_STEPS = 16


def default_nodes(reader: GraphDefReader, node: NodeRange) -> tuple[str, ...]:
    """The nodes that hold the default of an input, a constant last, perhaps after some that pass it on.

    Empty for a node of any other op, and for one whose default is computed: it is no input, since which section would compute
    the default depends on whether it is fed.
    """
    found: list[str] = []
    at = node
    while at.op == OP or at.op in _PASSING:
        if (not found and at.op != OP) or len(found) > _STEPS or len(at.inputs) != 1 or at.inputs[0].startswith("^"):
            return ()
        at = reader.by_name.get(at.inputs[0].removesuffix(":0"), node)
        found.append(at.name)
    return tuple(found) if found and at.op == "Const" and not at.inputs else ()
