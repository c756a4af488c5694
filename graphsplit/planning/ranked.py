"""Minimum cuts with costs of several ranks: of all cuts with the least cost of the first rank, one with the least of the next.

The minimum cuts of a network are exactly the sets that its residual graph does not lead out of (Picard and Queyranne
1980). So each rank is a flow of its own over the vertices that the ranks before it left open; weights that make one rank
outweigh the next would give the same cut, a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Hashable

from graphsplit.planning.flow import SINK, SOURCE, Network

__all__ = ["RankedNetwork"]


class RankedNetwork:
    """A network between `SOURCE` and `SINK`.

    Args:
        ranks: How many ranks of costs there are.
    """

    def __init__(self, ranks: int) -> None:
        self._bound: list[tuple[Hashable, Hashable]] = []
        self._costs: list[list[tuple[Hashable, Hashable, int]]] = [[] for _ in range(ranks)]

    def cost(self, one: Hashable, other: Hashable, capacity: int, rank: int) -> None:
        """Pay `capacity` of a rank if `one` is on the source's side and `other` on the sink's."""
        self._costs[rank].append((one, other, capacity))

    def bind(self, one: Hashable, other: Hashable) -> None:
        """Where `one` is on the source's side, so is `other`."""
        self._bound.append((one, other))

    def smallest_source(self) -> set[Hashable]:
        """The source's side of a minimum cut that has the fewest vertices there."""
        bound = self._bound
        before: set[Hashable] = {SOURCE}
        after: set[Hashable] = {SINK}

        def place(vertex: Hashable) -> Hashable:
            return SOURCE if vertex in before else SINK if vertex in after else vertex

        for costs in self._costs:
            network = Network()
            for one, other in bound:
                network.bind(place(one), place(other))
            for one, other, capacity in costs:
                if (start := place(one)) != SINK and (end := place(other)) != SOURCE:
                    network.cost(start, end, capacity)
            residual = network.residual()
            before |= residual.source_side()
            after |= residual.sink_side()
            decided = before | after
            bound = [(one, other) for one, other in residual.edges if one not in decided and other not in decided]
        return before
