"""What a preset requires of a graph: descriptions of nodes and their connections, kept as data.

    {"says":  "Postprocessor/Slice drops the background from Postprocessor/convert_scores",
     "node":  "Postprocessor/Slice", "op": "{Slice,StridedSlice}",
     "reads": "Postprocessor/convert_scores",
     "feeds": "Postprocessor/BatchMultiClassNonMaxSuppression/*"}

*There is a node of that name and op that reads …, feeds …* All keys but `says` are optional:

    node    name; `*` matches anything, `{a,b}` one of several, tried in that order
    op      op, written the same way; a node that calls a function has the ops of the function, too
    kind    "input" for what is fed from outside, "const" for a constant
    reads   a node it takes its value from, directly or through a few ops that keep every element in its place
    feeds   a node that reads one of its outputs directly
    needs   a node that it depends on at any distance
    absent  true: there must be no such node

What `reads`, `feeds` and `needs` name is described in the same way; a plain string is a node's name. Names are those
of the exporter; a graph imported under a prefix (`import/…`) has it on all of them. Sizes are never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from fnmatch import translate
from functools import cache

from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.traversal import reachable, walk

__all__ = ["Condition", "Description", "Search", "alternatives"]

# Ops between a tensor and its source that keep every element in its place: scaling, a score function, a cast.
# (In early TensorFlow 1 the softmax of a rank-3 tensor was Reshape, Softmax, Reshape.)
_LIGHT = {
    "Identity", "StopGradient", "Snapshot", "PlaceholderWithDefault", "CheckNumerics", "Cast", "Reshape", "Squeeze",
    "Mul", "Div", "RealDiv", "Add", "AddV2", "Sub", "Sigmoid", "Softmax",
    "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3",
}  # fmt: skip
_STEPS = 8
_WIDEST = 1000  # nodes among which a source is looked for


def alternatives(pattern: str) -> tuple[str, ...]:
    """The patterns without `{a,b}`: ``'x/{a,b}'`` → ``('x/a', 'x/b')``."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return (pattern,)
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return tuple(whole for part in found[1].split(",") for whole in alternatives(head + part + tail))


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("|".join(translate(p) for p in alternatives(pattern)))


@cache
def _either(pattern: str) -> str:
    return " or ".join(alternatives(pattern))


@dataclass(frozen=True, slots=True)
class Description:
    """A description of a node. The module explains the fields."""

    node: str = "*"
    op: str = "*"
    kind: str | None = None
    reads: Description | None = None
    feeds: Description | None = None
    needs: Description | None = None

    def __str__(self) -> str:
        op = _either(self.op)
        if self.node != "*":
            return self.node if op == "*" else f"{op} in {self.node}" if "*" in self.node else f"{self.node} ({op})"
        return op if op != "*" else "any node" if self.kind is None else f"any {self.kind}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A description that some node of the graph must match, or with `absent` none; `says` is the same in words."""

    says: str
    described: Description
    absent: bool = False


class Search:
    """Looks for described nodes in one graph, whose names all begin with `prefix`."""

    def __init__(self, index: GraphIndex, prefix: str = "") -> None:
        self.index, self.prefix = index, prefix
        self._known: dict[tuple[str, Description], tuple[int, str] | None] = {}
        self._ops: dict[str, tuple[Callable[[str], re.Match[str] | None], Set[str]]] = {}  # pattern → ops, functions
        self._below: dict[Description, Set[str]] = {}  # description → nodes that depend on one that matches

    def all(self, described: Description) -> Iterator[str]:
        """Names of the nodes that match: alternatives in their order, else in file order."""
        return (n.name for n in self._named(described) if self._misfit(n, described) is None)

    def first(self, described: Description) -> str | None:
        """Name of the first node that matches, or None."""
        return next(self.all(described), None)

    def why_not(self, condition: Condition) -> str:
        """Why a condition does not hold: the node, and the value that differs."""
        described = condition.described
        if condition.absent:
            name = self.first(described) or ""
            return f"{name} ({self.index.name_to_node_map[name].op}) is there"
        if described.node == "*" and not any(self._has(n, described.op) for n in self.index.nodes):
            return f"there is no {' or '.join(alternatives(described.op))}"
        misfits = [m for m in (self._misfit(n, described) for n in self._named(described)) if m is not None]
        if not misfits:
            return f"there is no {' or '.join(self.prefix + name for name in alternatives(described.node))}"
        return max(misfits, key=lambda m: m[0])[1]

    def _named(self, described: Description) -> Iterator[Node]:
        if "*" in described.node:
            match, start = _regex(described.node).match, len(self.prefix)
            under = (n for n in self.index.nodes if n.name.startswith(self.prefix))
            yield from under if described.node == "*" else (n for n in under if match(n.name, start))
            return
        for name in alternatives(described.node):
            if (node := self.index.name_to_node_map.get(self.prefix + name)) is not None:
                yield node

    def _misfit(self, node: Node, described: Description) -> tuple[int, str] | None:
        """How much of a description a node of the right name matches, and what differs; None if it matches."""
        if described.op != "*" and not self._has(node, described.op):
            return 0, f"{node.name} ({node.op}) is not {_either(described.op)}"
        key = (node.name, described)
        if key not in self._known:
            self._known[key] = self._compare(node, described)
        return self._known[key]

    def _compare(self, node: Node, described: Description) -> tuple[int, str] | None:
        title = f"{node.name} ({node.op})"
        if described.kind is not None and node.kind != described.kind:
            return 1, f"{title} is not {described.kind}"
        if described.reads is not None and not any(self._fits(n, described.reads) for n in self._sources(node)):
            return 2, f"{title} reads {_names(self._inputs(node))}, not {described.reads}"
        if described.feeds is not None and not any(self._fits(n, described.feeds) for n in self._readers(node)):
            return 3, f"{title} is read by {_names(self._readers(node))}, not by {described.feeds}"
        if described.needs is not None and not self._needs(node, described.needs):
            return 4, f"{title} does not depend on {described.needs}"
        return None

    def _fits(self, node: Node, described: Description) -> bool:
        if not node.name.startswith(self.prefix):
            return False
        named = described.node == "*" or _regex(described.node).match(node.name[len(self.prefix) :]) is not None
        return named and self._misfit(node, described) is None

    def _has(self, node: Node, pattern: str) -> bool:
        """Whether an op is that of a node, or in a function that the node calls."""
        if pattern not in self._ops:
            match: Callable[[str], re.Match[str] | None] = cache(_regex(pattern).match)
            self._ops[pattern] = (match, self.index.functions_with(lambda op: match(op) is not None))
        match, functions = self._ops[pattern]
        return match(node.op) is not None or (bool(functions) and not functions.isdisjoint(self.index.calls.get(node.name, ())))

    def _inputs(self, node: Node) -> list[Node]:
        nodes, producer = self.index.name_to_node_map, self.index.producer
        made_by = (nodes[producer[t]] for t in node.inputs)
        return [n for n in dict.fromkeys(made_by) if n.kind != "const"]

    def _sources(self, node: Node) -> Iterator[Node]:
        seen, layer = {node.name: node}, [node]
        for _ in range(_STEPS):
            if len(seen) > _WIDEST:
                return
            found = {n.name: n for near in layer for n in self._inputs(near) if n.name not in seen}
            yield from found.values()
            seen |= found
            layer = [n for n in found.values() if n.op in _LIGHT]

    def _readers(self, node: Node) -> list[Node]:
        names = (name for t in node.outputs for name in self.index.consumers.get(t, ()))
        return [self.index.name_to_node_map[name] for name in dict.fromkeys(names)]

    def _needs(self, node: Node, described: Description) -> bool:
        index = self.index
        if node.group is not None and self._fits(node, described):  # in a loop it may depend on itself, which does not count
            nodes, edges = index.name_to_node_map, index.edges
            return any(self._fits(nodes[n], described) for n in walk(edges[node.name], edges.__getitem__, skip={node.name}))
        if described not in self._below:
            start = (after for n in index.nodes if self._fits(n, described) for after in index.followers.get(n.name, ()))
            self._below[described] = reachable(start, lambda name: index.followers.get(name, ()))
        return node.name in self._below[described]


def _names(nodes: list[Node]) -> str:
    shown = ", ".join(f"{n.name} ({n.op})" for n in nodes[:3]) + (" …" if len(nodes) > 3 else "")
    return f"[{shown}]" if nodes else "nothing"
