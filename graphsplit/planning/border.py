"""The smallest border between a section and what follows it: which nodes move, and which are computed on both sides.

    F ─┬─▶ conv ─▶ head ║─▶ …        head is named. The feature map F crosses only because Shape reads it, so Shape
       └────────────────║─▶ Shape    moves before the border, and 16 bytes cross

Each node has two variables: whether it is computed before the border, and whether it is not computed after it. That
something must compute it, that what is computed before the border can only read what is there, and that a tensor
crosses if it is computed before the border only and read after it, are all of the form "where this is true, so is
that": a minimum cut solves it exactly. Bytes count first, then nodes that are computed twice, then nodes that move, so
that nothing changes where nothing is gained.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Set
from dataclasses import dataclass

from graphsplit.graph.index import GraphIndex
from graphsplit.graph.traversal import reachable
from graphsplit.planning.flow import SINK, SOURCE
from graphsplit.planning.ranked import RankedNetwork

__all__ = ["Border", "Choice", "crossing_tensors"]

_BYTES, _COPIES, _MOVES = range(3)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is decided about a border.

    Attributes:
        moved: Nodes from after the border that are computed before it.
        kept: Nodes that are computed after the border: all that are there without `moved`, and copies of those before it.
    """

    moved: frozenset[str]
    kept: frozenset[str]


@dataclass(frozen=True)
class Border:
    """A border, and what may change about it.

    Nodes that are after it or owned by no section (inputs of the whole, what passes them on, constants) are on both sides and
    cost nothing; all others are before it.

    Attributes:
        index: The graph.
        after: Nodes after the border.
        owned: All nodes that a section owns.
        free: Those of them that may be computed before it. What they read is before the border or free as well.
        twice: Nodes that may be computed on both sides: free ones, and ones before the border.
        paid: Tensors that cross an earlier border, so that they may cross this one for nothing.
    """

    index: GraphIndex
    after: Set[str]
    owned: Container[str]
    free: Set[str]
    twice: Set[str]
    paid: Set[str] = frozenset()

    def smallest(self, nbytes: Callable[[str], int]) -> Choice:
        """The choice with which the fewest bytes cross; of equal ones that with the fewest copies, then the fewest moves.

        Args:
            nbytes: Bytes of a tensor; a tensor of none counts as one byte.
        """
        region = self._region()
        if not region:
            return Choice(frozenset(), frozenset(self.after))
        # Where nothing need cross, sizes do not matter: finding them out may take seconds.
        choice = self._cut(region, lambda _: 1)
        if any(self._is_open(t, region) for t in crossing_tensors(self.index, choice.kept, self.owned) if t not in self.paid):
            choice = self._cut(region, nbytes)
        return choice

    def _is_before(self, name: str) -> bool:
        return name in self.owned and name not in self.after

    def _is_variable(self, name: str) -> bool:
        return name in self.free or (name in self.twice and self._is_before(name))

    def _is_open(self, tensor: str, region: Set[str]) -> bool:
        """Whether it is to be decided that a tensor crosses."""
        readers = self.index.consumers.get(tensor, ())
        return self.index.producer[tensor] in region or all(r in region for r in readers if r in self.after)

    def _region(self) -> set[str]:
        """The nodes about which there is something to decide: those that hang together with a tensor that crosses."""
        index = self.index
        nodes, producer, consumers = index.name_to_node_map, index.producer, index.consumers

        def neighbours(name: str) -> Iterator[str]:
            for tensor in nodes[name].inputs:
                if self._is_variable(producer[tensor]):
                    yield producer[tensor]
            for tensor in nodes[name].outputs:
                yield from (r for r in consumers.get(tensor, ()) if r in self.free)

        crossing = [t for t in crossing_tensors(index, self.after, self.owned) if t not in self.paid]
        start = [producer[t] for t in crossing if self._is_variable(producer[t])]
        return reachable([*start, *(n for t in crossing for n in consumers[t] if n in self.free)], neighbours)

    def _cut(self, region: Set[str], nbytes: Callable[[str], int]) -> Choice:
        index, nodes = self.index, self.index.name_to_node_map
        network = RankedNetwork(3)
        tensors: dict[str, None] = {}
        for name in region:
            early, only = self._early(name, region), self._only(name, region)
            if name in self.twice:
                network.bind(only, early)
                network.cost(early, only, 1, rank=_COPIES)
            if name in self.free:
                network.cost(early, SINK, 1, rank=_MOVES)
                for tensor in nodes[name].inputs:
                    if index.producer[tensor] in region:
                        network.bind(early, self._early(index.producer[tensor], region))
            tensors |= dict.fromkeys(t for t in (*nodes[name].inputs, *nodes[name].outputs) if t in index.consumers)
        for tensor in tensors.keys() - self.paid:
            source = self._only(index.producer[tensor], region)
            sinks = {self._only(r, region) for r in index.consumers[tensor] if r in self.owned} - {SOURCE, source}
            if source == SINK or not sinks or (source == SOURCE and SINK in sinks):
                continue
            # One vertex stands for the tensor, so that many readers cost no more than one.
            crosses: Hashable = SINK if SINK in sinks else ("tensor", tensor)
            network.cost(source, crosses, max(1, nbytes(tensor)), rank=_BYTES)
            for sink in sinks if crosses != SINK else ():
                network.bind(crosses, sink)
        before = network.smallest_source()
        moved = frozenset(n for n in region if n in self.free and self._early(n, region) in before)
        copies = {n for n in region if n not in self.after or n in moved if self._only(n, region) not in before}
        return Choice(moved, frozenset((self.after - moved) | copies))

    def _early(self, name: str, region: Set[str]) -> Hashable:
        """The variable that a node is computed before the border."""
        return SOURCE if name not in self.after else self._only(name, region) if name not in self.twice else ("early", name)

    def _only(self, name: str, region: Set[str]) -> Hashable:
        """The variable that a node is not computed after the border."""
        if name in region:
            return name
        return SOURCE if self._is_before(name) else SINK


def crossing_tensors(index: GraphIndex, after: Set[str], owned: Container[str]) -> list[str]:
    """Tensors that the nodes after a border read from before it, in the order of the file.

    Args:
        index: The graph.
        after: Names of those nodes.
        owned: Names of all nodes that a section owns; others are on both sides.
    """
    nodes = index.name_to_node_map
    crossing: dict[str, None] = {}
    for name in sorted(after, key=index.node_seq.__getitem__):
        for tensor in nodes[name].inputs:
            producer = index.producer[tensor]
            if producer in owned and producer not in after:
                crossing[tensor] = None
    return list(crossing)
