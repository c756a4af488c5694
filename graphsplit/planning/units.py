"""A graph whose groups are one unit each: what a search for cuts moves about."""

from __future__ import annotations

from collections.abc import Iterable, Set

from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.traversal import reachable

__all__ = ["Units"]


class Units:
    """The nodes that some outputs need, without constants and inputs, each group as one unit.

    Args:
        index: The graph.
        outputs: Outputs of the whole to keep.

    Attributes:
        nodes: In file order.
        of: Node name → unit. A unit is named by its group, or by its only node.
        members: Unit → its nodes.
        next: Unit → units that read it or run after it.
        previous: Unit → units that it reads or runs after.
    """

    def __init__(self, index: GraphIndex, outputs: Iterable[str]) -> None:
        self.index = index
        self.outputs = tuple(dict.fromkeys(outputs))
        needed = index.ancestors(index.producer[t] for t in self.outputs)
        self.nodes = [n for n in index.nodes if n.name in needed and n.kind != "input" and not n.is_shared_constant]
        self.of = {n.name: (n.name if n.group is None else f"group {n.group}") for n in self.nodes}
        self.members: dict[str, list[Node]] = {}
        for node in self.nodes:
            self.members.setdefault(self.of[node.name], []).append(node)
        self.next: dict[str, dict[str, None]] = {u: {} for u in self.members}
        self.previous: dict[str, dict[str, None]] = {u: {} for u in self.members}
        for node in self.nodes:
            for name in index.edges[node.name]:
                if name in self.of and self.of[name] != self.of[node.name]:
                    self.next[self.of[name]][self.of[node.name]] = None
                    self.previous[self.of[node.name]][self.of[name]] = None

    def before(self, units: Iterable[str]) -> set[str]:
        """Some units and all that they need."""
        return reachable(units, self.previous.__getitem__)

    def after(self, units: Iterable[str]) -> set[str]:
        """Some units and all that need them."""
        return reachable(units, self.next.__getitem__)

    def leaving(self, units: Set[str], *, of: Set[str] | None = None, whole: bool = False) -> tuple[str, ...]:
        """Tensors that leave a set of units, in file order.

        Args:
            units: The set.
            of: Only the tensors of these.
            whole: Also those that are outputs of the whole, whoever reads them.
        """
        consumers, wanted = self.index.consumers, set(self.outputs) if whole else set()
        return tuple(
            t
            for n in self.nodes
            if self.of[n.name] in (units if of is None else of)
            for t in n.outputs
            if t in wanted or any(self.of.get(r, self.of[n.name]) not in units for r in consumers.get(t, ()))
        )

    def place(self, unit: str) -> str:
        """The name of its first node, or for a loop the scope that holds it."""
        first = self.members[unit][0].name
        return first if len(self.members[unit]) == 1 else first.rpartition("/")[0] or first
