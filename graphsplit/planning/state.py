"""The order of state across sections: which control inputs a border may drop, and which it must not cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from functools import cached_property

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.graph.traversal import reachable

__all__ = ["StateOrder"]


class StateOrder:
    """Nodes with state, and what runs after them.

    Args:
        index: The graph.
        owner: Node → number of the section that owns it.
    """

    def __init__(self, index: GraphIndex, owner: Mapping[str, int]) -> None:
        self.index, self.owner = index, owner
        self.nodes = index.name_to_node_map

    def is_ordered(self, name: str) -> bool:
        """Whether running before or after this node makes a difference."""
        node = self.nodes[name]
        return node.stateful and node.op != "Assert"

    @cached_property
    def ordered(self) -> list[str]:
        """Nodes whose state is their own: state reached through a handle or inside a loop is touched by one section only."""
        return [n.name for n in self.index.nodes if n.name in self.owner and n.group is None and self.is_ordered(n.name)]

    @cached_property
    def after_state(self) -> Set[str]:
        """Those nodes and all that run after them, directly or not."""
        if not self.ordered:
            return frozenset()
        return self._after(*self.ordered)

    @cached_property
    def _held_constants(self) -> Set[str]:
        """Constants that wait for state, directly or through other constants."""
        constants = {n.name: n for n in self.index.nodes if n.is_shared_constant and n.control_inputs}
        held = (name for name, n in constants.items() if any(map(self._orders, n.control_inputs)))
        return reachable(held, lambda name: (n for n in self.index.followers.get(name, ()) if n in constants))

    def _orders(self, name: str) -> bool:
        return self.is_ordered(name) or name in self.after_state

    def copyable_without_control_inputs(self, node: Node) -> bool:
        """Whether a copy of a node may drop its control inputs."""
        return not any(self._orders(c) or c in self._held_constants for c in node.control_inputs)

    def check_control_inputs(self, section: int, names: Collection[str], sections: list[str]) -> None:
        """Refuse a section whose nodes must run after state in another one.

        A control input across a border is dropped where it orders nothing: on pure nodes and on an Assert.

        Args:
            section: Its number.
            names: Its nodes.
            sections: Names of all sections.

        Raises:
            CutError: names both nodes.
        """
        later: Set[str] | None = None  # nodes that state of this section or a later one waits for
        for name in sorted(names, key=self.index.node_seq.__getitem__):
            for before in self.nodes[name].control_inputs:
                if before in names:
                    continue
                first, then = before, name
                if not self.is_ordered(before):
                    if before not in self.after_state:
                        continue
                    # It only passes an order on, as a NoOp does: lost if there is state on both sides.
                    if later is None:
                        later = self.index.ancestors(n for n in self.ordered if self.owner[n] >= section)
                    if name not in later:
                        continue
                    earlier, after = self.index.ancestors([before]), self._after(name)
                    first = next(n for n in self.ordered if n in earlier)
                    then = next(n for n in self.ordered if self.owner[n] >= section and n in after)
                raise CutError(
                    f"{then!r} in section {sections[self.owner.get(then, section)]!r} must run after {first!r} "
                    f"({self.nodes[first].op}, which holds state) in an earlier section, and no border keeps such an order; "
                    f"cut before {first!r} or after {then!r}",
                    cut=(first, then),
                )

    def _after(self, *names: str) -> Set[str]:
        """Nodes and all that read them or run after them, directly or not."""
        return reachable(names, lambda name: self.index.followers.get(name, ()))
