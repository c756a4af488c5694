"""Nodes that wait for a value which nothing in the graph supplies: such a graph never ends.

FIFOQueue ─▶ QueueDequeueMany ─▶ Conv2D ─▶ y          filled by a thread of the program that trained it, which is not here
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.wire import NodeRange
from graphsplit.graph.index import GraphIndex

__all__ = ["SUPPLIERS", "waiting_node"]

#: Ops that wait until there is something to take → ops that put it there, or end the wait. Whole names.
SUPPLIERS = {
    r"QueueDequeue(Many|UpTo)?(V2)?|ReaderRead(UpTo)?(V2)?": r"Queue(Enqueue(Many)?|Close)(V2)?",
    r"BarrierTakeMany": r"Barrier(InsertMany|Close)",
    r"(Sparse|Resource)?AccumulatorTakeGradient": r"(Sparse|Resource)?AccumulatorApplyGradient",
    r"Unstage|StagePeek": r"Stage",
    r"MapUnstage(NoKey)?|MapPeek": r"MapStage",
    r"OrderedMapUnstage(NoKey)?|OrderedMapPeek": r"OrderedMapStage",
}


def waiting_node(reader: GraphDefReader, index: GraphIndex, outputs: Iterable[str]) -> NodeRange | None:
    """The first node that waits for ever when some outputs are computed, or None.

    Only what is certain counts: a node is taken to be supplied as soon as one of its group, or a function that one of them
    calls, may supply it and does not itself wait for that node.
    """
    blocking = {op for op in _all_ops(reader) if (info := op_table().get(op)) is not None and "blocks" in info.effects}
    takers = {op: put for op in blocking for take, put in SUPPLIERS.items() if re.fullmatch(take, op)}
    if not takers:
        return None
    nodes, fed = index.name_to_node_map, {index.producer[t] for t in index.inputs if t in index.producer}
    needed = index.ancestors(
        (index.producer[t] for t in outputs if t in index.producer), known={n for n in fed if nodes[n].kind != "input"}
    )
    for node in reader.nodes:
        if node.name in needed:
            ops = _ops(reader, node)
            group = index.groups.get(nodes[node.name].group or "")
            members = [node.name] if group is None else [n for n in group.nodes if n in needed]
            loop = group is not None and group.kind == "loop"
            for op in ops & takers.keys():
                if not any(_supplies(reader, index, n, takers[op], node.name, loop) for n in members):
                    return node
    return None


def _supplies(reader: GraphDefReader, index: GraphIndex, name: str, put: str, taker: str, loop: bool) -> bool:
    """Whether a node may supply what another waits for, before that one has ended."""
    if not any(re.fullmatch(put, op) for op in _ops(reader, reader.by_name[name])):
        return False
    return name == taker or loop or taker not in index.ancestors([name])


def _all_ops(reader: GraphDefReader) -> Set[str]:
    return {n.op for n in reader.nodes} | {n.op for f in reader.library.functions.values() for n in f.nodes}


def _ops(reader: GraphDefReader, node: NodeRange) -> Set[str]:
    """The op of a node and those of the functions it calls, directly or through others."""
    functions = reader.library.functions
    called = reader.library.reached(reader.library.called(node)) if functions else ()
    return {node.op, *(inner.op for name in called for inner in functions[name].nodes)}
