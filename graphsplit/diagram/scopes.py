"""Nodes collapsed to a few dozen boxes: name scopes, the largest opened first as long as there is room.

FeatureExtractor/MobilenetV1/Conv2d_0/Relu6 …    ─▶   FeatureExtractor/MobilenetV1   (142 nodes)
Postprocessor/Slice, Postprocessor/Decode/…      ─▶   Postprocessor                  (73 nodes)
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphsplit.graph.index import GraphIndex, Node

__all__ = ["Cluster", "collapse"]

_SILENT = {"Identity", "NoOp", "DEQUANTIZE"}  # they do not tell what a scope does

_RUNS = 8  # the most boxes for a scope with too many children


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes drawn as one box.

    Attributes:
        title: The scope, or the name of a single node.
        nodes: Their names, in file order, without constants.
        ops: Their most frequent ops, with counts.
    """

    title: str
    nodes: tuple[str, ...]
    ops: tuple[tuple[str, int], ...]


def collapse(index: GraphIndex, names: Iterable[str], room: int) -> tuple[Cluster, ...]:
    """Collapse nodes to at most `room` clusters, in file order; constants and inputs are left out."""
    nodes = [n for name in names if (n := index.name_to_node_map[name]).kind == "op"]
    if not nodes:
        return ()
    closed: list[tuple[str, list[Node]]] = []
    # The largest scope is opened first (-size), equal ones in file order (position).
    heap = [(-len(nodes), 0, "", nodes)]
    count, position = 1, 0
    while heap:
        _, _, scope, inside = heapq.heappop(heap)
        children = _children(scope, inside)
        if len(inside) == 1 or count - 1 + len(children) > room:
            closed.append((scope, inside))
            continue
        count += len(children) - 1
        for child, members in children:
            position += 1
            heapq.heappush(heap, (-len(members), position, child, members))
    largest = max(closed, key=lambda c: len(c[1]))
    if len(largest[1]) > max(1, len(nodes) // 2) and room > count:
        # Most nodes would be one box, since their names have no scopes that divide them into a few.
        closed.remove(largest)
        closed += _runs(*largest, room - count + 1)
    clusters = [_cluster(scope, members) for scope, members in closed]
    return tuple(sorted(clusters, key=lambda c: index.node_seq[c.nodes[0]]))


def _children(scope: str, nodes: Sequence[Node]) -> list[tuple[str, list[Node]]]:
    """The scopes and nodes directly inside a scope; a scope whose only child is a scope is replaced by it."""
    start = len(scope) + 1 if scope else 0
    children: dict[str, list[Node]] = {}
    for node in nodes:
        # A TFLite name may consist of several names separated by `;`; the first one has the scope.
        name = node.name.partition(";")[0]
        end = name.find("/", start)
        key = node.name if end < 0 or len(name) <= start else name[:end]
        children.setdefault(key, []).append(node)
    if len(children) == 1:
        only, members = next(iter(children.items()))
        if only != scope and len(members) > 1 and len(only) > len(scope):
            return _children(only, members)
    return list(children.items())


def _runs(scope: str, nodes: Sequence[Node], room: int) -> list[tuple[str, list[Node]]]:
    """The children of a scope in runs, in file order; large ones are separate."""
    children = _children(scope, nodes)
    size = -(-len(children) // min(room, _RUNS))
    groups: list[list[tuple[str, list[Node]]]] = []
    filled = True
    for child in children:
        large = len(child[1]) * _RUNS > len(nodes)
        if large or filled or len(groups[-1]) == size:
            groups.append([])
        groups[-1].append(child)
        filled = large
    return [
        (
            group[0][0] if len(group) == 1 else f"{_last(group[0][0])} … {_last(group[-1][0])}",
            [node for _, members in group for node in members],
        )
        for group in groups
    ]


def _last(name: str) -> str:
    return name.partition(";")[0].rpartition("/")[2] or name


def _cluster(scope: str, nodes: list[Node]) -> Cluster:
    title = nodes[0].name.partition(";")[0] if len(nodes) == 1 else scope
    names = [n.op for n in nodes if n.op not in _SILENT] or [n.op for n in nodes]
    ops = Counter(names).most_common(4)
    return Cluster(title or f"{len(nodes)} nodes", tuple(n.name for n in nodes), tuple(ops))
