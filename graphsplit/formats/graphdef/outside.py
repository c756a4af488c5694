"""What a graph needs that is outside of it: files, the network, Python, unknown native code.

A graph is a program. Running an op that reaches outside, or only inferring shapes over it, opens what the file names. What an
op does is in the op table; an op that is not in it belongs to a custom-op library and counts as well.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from graphsplit.formats.graphdef.messages import Message
from graphsplit.formats.graphdef.ops import NEEDS_TRUST, op_table
from graphsplit.formats.graphdef.wire import NodeRange

if TYPE_CHECKING:
    from graphsplit.formats.graphdef.calls import Call
    from graphsplit.formats.graphdef.reader import GraphDefReader

__all__ = ["KNOWN_CUSTOM", "node_reaches_outside", "outside_nodes", "reaches_outside"]

#: Well-known ops that TensorFlow's registry lacks and that compute on tensors alone.
KNOWN_CUSTOM = {"TFLite_Detection_PostProcess"}
# Op → an attribute that decides, and its harmless values, of which one is the default: any other may name a file.
_DECIDES = {
    "PrintV2": ("output_stream", {b"", b"stderr", b"stdout", b"log(info)", b"log(warning)", b"log(error)"}),
}


def reaches_outside(op: str, attribute: Callable[[str], Message], *, library: Set[str] = frozenset()) -> bool:
    """Whether a node reaches outside the graph.

    Args:
        op: Its op.
        attribute: Returns the AttrValue message of one of its attributes, as its caller binds it, or None.
        library: Names of the functions that the graph itself defines (legal as op names).
    """
    info = op_table().get(op)
    if info is None:
        return op not in library and op not in KNOWN_CUSTOM
    if not info.effects.isdisjoint(NEEDS_TRUST):
        return True
    if op in _DECIDES:
        key, harmless = _DECIDES[op]
        value = attribute(key)
        # What is not a string, such as a placeholder that no caller binds, may be anything.
        return value is not None and (not value.HasField("s") or value.s not in harmless)
    return False


def node_reaches_outside(reader: GraphDefReader, node: NodeRange, within: Call | None = None) -> bool:
    """Whether a node itself reaches outside, not counting the functions it calls; `within` is the call of its function."""
    functions = reader.library.functions.keys()
    return reaches_outside(node.op, lambda key: reader.calls.value(node, key, within), library=functions)


def outside_nodes(reader: GraphDefReader) -> tuple[str, ...]:
    """Names of the nodes that reach outside, themselves or through the functions they call."""
    calls = {n.name: found for n in reader.nodes if (found := reader.calls.of(n))} if reader.library.functions else {}
    made = dict.fromkeys(call for found in calls.values() for call in found)
    bad = reader.calls.reaching(made, lambda node, call: node_reaches_outside(reader, node, call))
    safe: set[str] = set()  # ops that are harmless whatever their attributes: nearly all
    outside = []
    for node in reader.nodes:
        if node.op not in safe:
            if node_reaches_outside(reader, node):
                outside.append(node.name)
                continue
            if node.op not in _DECIDES:
                safe.add(node.op)
        if bad and not bad.isdisjoint(calls.get(node.name, ())):
            outside.append(node.name)
    return tuple(outside)
