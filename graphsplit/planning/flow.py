"""Minimum cuts of a network with capacities between vertices of any kind (Ford and Fulkerson 1956).

The flow is found by `graphsplit.planning.max_flow` and not by networkx, whose algorithms have no bound on their steps: a graph
that somebody built to be hard must not keep us for hours.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from graphsplit.errors import CutError
from graphsplit.graph.traversal import reachable
from graphsplit.planning.max_flow import FlowLimitError, FlowNetwork

__all__ = ["SINK", "SOURCE", "Network", "Residual"]

SOURCE, SINK = "source", "sink"


class Network:
    """A network between `SOURCE` and `SINK`. Of edges given twice between two vertices the capacities add up."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {SOURCE: 0, SINK: 1}
        self._capacities: dict[tuple[int, int], int | None] = {}  # None: bound

    def cost(self, one: Hashable, other: Hashable, capacity: int) -> None:
        """Pay `capacity` if `one` is on the source's side and `other` on the sink's."""
        if one == other or not capacity:
            return
        edge = (self._number(one), self._number(other))
        before = self._capacities.get(edge, 0)
        if before is not None:
            self._capacities[edge] = before + capacity

    def bind(self, one: Hashable, other: Hashable) -> None:
        """Where `one` is on the source's side, so is `other`."""
        if one != other:
            self._capacities[self._number(one), self._number(other)] = None

    def smallest_source(self) -> set[Any]:
        """The source's side of a minimum cut that has the fewest vertices there. Raises CutError for a hostile network."""
        return self.residual().source_side()

    def smallest_sink(self) -> set[Any]:
        """The sink's side of a minimum cut that has the fewest vertices there. Raises CutError for a hostile network."""
        return self.residual().sink_side()

    def residual(self) -> Residual:
        """What a maximum flow leaves open.

        Raises:
            CutError: The flow takes too many steps to find.
        """
        endless = 1 + sum(c for c in self._capacities.values() if c is not None)
        network = FlowNetwork(len(self._numbers))
        for (one, other), capacity in self._capacities.items():
            network.add(one, other, endless if capacity is None else capacity)
        try:
            network.fill(0, 1)
        except FlowLimitError as error:
            raise CutError(
                "the graph is too tangled to search it for a minimum cut; name the tensors to cut at with outputs=…, and let "
                'every other tensor cross with repair="border"'
            ) from error
        vertices = list(self._numbers)
        return Residual([(vertices[one], vertices[other]) for one, other in network.open_edges()])

    def _number(self, vertex: Hashable) -> int:
        return self._numbers.setdefault(vertex, len(self._numbers))


class Residual:
    """The residual graph of a maximum flow: no minimum cut pays for one of its edges.

    Args:
        edges: Its edges, from vertex to vertex.
    """

    def __init__(self, edges: list[tuple[Hashable, Hashable]]) -> None:
        self.edges = edges

    def source_side(self) -> set[Any]:
        """What can be reached from `SOURCE`: its side of a minimum cut, with the fewest vertices there."""
        return _reachable(SOURCE, self.edges)

    def sink_side(self) -> set[Any]:
        """What `SINK` can be reached from: its side of a minimum cut, with the fewest vertices there."""
        return _reachable(SINK, ((other, one) for one, other in self.edges))


def _reachable(start: Hashable, edges: Iterable[tuple[Hashable, Hashable]]) -> set[Any]:
    following: dict[Hashable, list[Hashable]] = {}
    for one, other in edges:
        following.setdefault(one, []).append(other)
    return reachable([start], lambda vertex: following.get(vertex, ()))
