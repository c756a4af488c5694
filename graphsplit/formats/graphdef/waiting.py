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

_MOST_WORK = 5_000_000  # nodes visited for a group

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
    there = {n.op for n in reader.nodes} | {n.op for f in reader.library.functions.values() for n in f.nodes}
    blocking = {op for op in there if (info := op_table().get(op)) is not None and "blocks" in info.effects}
    takers = {op: put for op in blocking for take, put in SUPPLIERS.items() if re.fullmatch(take, op)}
    if not takers:
        return None
    nodes, fed = index.name_to_node_map, {index.producer[t] for t in index.inputs if t in index.producer}
    needed = index.ancestors(
        (index.producer[t] for t in outputs if t in index.producer), known={n for n in fed if nodes[n].kind != "input"}
    )
    takes = {put: _holders(reader, {op for op, other in takers.items() if other == put}) for put in set(takers.values())}
    puts = {put: _holders(reader, {op for op in there if re.fullmatch(put, op)}) for put in takes}
    too_late: dict[tuple[str | None, str], Set[str]] = {}
    for node in reader.nodes:
        if node.name not in needed:
            continue
        for put, taking in takes.items():
            if node.name not in taking or node.name in puts[put]:
                continue
            group = index.groups.get(nodes[node.name].group or "")
            if group is None:
                return node
            if (group.name, put) not in too_late:
                suppliers = [n for n in group.nodes if n in needed and n in puts[put]]
                # In a loop anything may come before anything else.
                early = group.kind == "loop" and suppliers
                too_late[group.name, put] = frozenset() if early else _before_all(index, suppliers, group.nodes)
            if node.name in too_late[group.name, put]:
                return node
    return None


def _holders(reader: GraphDefReader, ops: Set[str]) -> Set[str]:
    """The nodes of some ops, and those that call a function which holds one, directly or through others."""
    library = reader.library
    functions = library.reaching(name for name, f in library.functions.items() if any(n.op in ops for n in f.nodes))
    return {n.name for n in reader.nodes if n.op in ops or (functions and not functions.isdisjoint(library.called(n)))}


def _before_all(index: GraphIndex, suppliers: Iterable[str], among: Iterable[str]) -> Set[str]:
    """The nodes of a group for which every supplier waits."""
    common = set(among)
    work = 0
    for name in suppliers:
        if not common or work > _MOST_WORK:  # not certain, then
            return frozenset()
        before = index.ancestors([name])
        common &= before
        work += len(before)
    return common
