"""A graph whose groups are one unit each: what a search for cuts moves about."""

from __future__ import annotations

from collections.abc import Iterable, Set

from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.traversal import reachable

__all__ = ["Units"]


class Units:
    """The nodes that some outputs need, without constants, inputs and what passes inputs on, each group as one unit.

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
        needed = index.ancestors(index.producer[t] for t in self.outputs) - index.relays
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
        wanted = set(self.outputs) if whole else set()
        return tuple(dict.fromkeys(
            t if t in wanted else self._own(t, units)
            for n in self.nodes
            if self.of[n.name] in (units if of is None else of)
            for t in n.outputs
            if t in wanted or self._leaves(t, units)
        ))  # fmt: skip

    def _leaves(self, tensor: str, units: Set[str]) -> bool:
        here = self.of[self.index.producer[tensor]]
        return any(self.of.get(r, here) not in units for r in self.index.consumers.get(tensor, ()))

    def _own(self, tensor: str, units: Set[str]) -> str:
        """Of a tensor that leaves a set of units and those that it equals, the one with a name of the model's own.

        The planner copies the nodes that pass it on to what reads them.
        """
        index, path = self.index, tensor
        while (node := index.name_to_node_map[index.producer[path]]).role == "alias" and len(node.outputs) == 1:
            source = index.equal_to(path)
            if source is None or source in index.captive or self.of.get(index.producer[source]) not in units:
                break
            path = source
        return path

    def place(self, unit: str) -> str:
        """The name of its first node, or for a loop the scope that holds it."""
        first = self.members[unit][0].name
        return first if len(self.members[unit]) == 1 else first.rpartition("/")[0] or first
