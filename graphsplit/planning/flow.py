"""Minimum cuts of a network with capacities. Ford and Fulkerson 1956, by networkx."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

from graphsplit.graph.traversal import reachable

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["SINK", "SOURCE", "Network"]

SOURCE, SINK = "source", "sink"


class Network:
    """A network between `SOURCE` and `SINK`. Of edges given twice between two vertices the capacities add up."""

    def __init__(self) -> None:
        import networkx as nx

        self._graph: nx.DiGraph[Any] = nx.DiGraph()
        self._graph.add_nodes_from((SOURCE, SINK))

    def cost(self, one: Hashable, other: Hashable, capacity: int) -> None:
        """Pay `capacity` if `one` is on the source's side and `other` on the sink's."""
        if one == other or not capacity:
            return
        if not self._graph.has_edge(one, other):
            self._graph.add_edge(one, other, capacity=capacity)
        elif "capacity" in self._graph[one][other]:
            self._graph[one][other]["capacity"] += capacity

    def bind(self, one: Hashable, other: Hashable) -> None:
        """Where `one` is on the source's side, so is `other`."""
        if one != other:
            self._graph.add_edge(one, other)
            self._graph[one][other].pop("capacity", None)

    def smallest_source(self) -> set[Any]:
        """The source's side of a minimum cut that has the fewest vertices there."""
        residual = self._residual()
        return reachable([SOURCE], _not_full(residual.succ))

    def smallest_sink(self) -> set[Any]:
        """The sink's side of a minimum cut that has the fewest vertices there."""
        residual = self._residual()
        return reachable([SINK], _not_full(residual.pred))

    def _residual(self) -> nx.DiGraph[Any]:
        from networkx.algorithms.flow import shortest_augmenting_path

        residual: nx.DiGraph[Any] = shortest_augmenting_path(self._graph, SOURCE, SINK)
        return residual


def _not_full(neighbours: Any) -> Callable[[Any], Iterable[Any]]:
    return lambda vertex: (other for other, edge in neighbours[vertex].items() if edge["flow"] < edge["capacity"])
