"""Maximum flow, and the minimum cuts that it shows, over nodes that are integers.

Dinic's algorithm (Dinitz 1970) with an explicit stack. A graph that somebody built to be hard for it is given up after a number
of steps.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["FlowLimitError", "FlowNetwork"]

_MOST_STEPS = 5_000_000  # edges looked at, and 15 for each edge; some seconds


class FlowLimitError(Exception):
    """The flow takes too many steps to find."""


class FlowNetwork:
    """Edges with capacities.

    Args:
        size: How many nodes there are; they are numbered from 0.
    """

    def __init__(self, size: int) -> None:
        self._edges: list[list[int]] = [[] for _ in range(size)]  # node → edges that leave it, in the residual graph
        self._to: list[int] = []  # edge → its end; an edge and its reverse differ in the last bit
        self._left: list[int] = []  # edge → capacity that is left

    def add(self, tail: int, head: int, capacity: int) -> None:
        """Add an edge."""
        self._edges[tail].append(len(self._to))
        self._edges[head].append(len(self._to) + 1)
        self._to += [head, tail]
        self._left += [capacity, 0]

    def fill(self, source: int, sink: int) -> None:
        """Send as much as possible from source to sink. Raises FlowLimitError."""
        limit = _MOST_STEPS + 15 * len(self._to)
        steps = 0
        while (levels := self._levels(source, sink)) is not None:
            steps += len(self._to) + self._block(source, sink, levels, limit - steps)
            if steps > limit:
                raise FlowLimitError

    def open_edges(self) -> Iterator[tuple[int, int]]:
        """The edges, and reverses of edges, that could carry more: after `fill`, the residual graph."""
        return ((self._to[e ^ 1], self._to[e]) for e in range(len(self._to)) if self._left[e])

    def _open(self, node: int) -> Iterator[int]:
        return (self._to[e] for e in self._edges[node] if self._left[e])

    def _levels(self, source: int, sink: int) -> list[int] | None:
        """The distance of each node from the source, as far as the sink; None if the sink is out of reach."""
        levels = [-1] * len(self._edges)
        levels[source] = 0
        layer = [source]
        while layer and levels[sink] < 0:
            following = []
            for node in layer:
                for after in self._open(node):
                    if levels[after] < 0:
                        levels[after] = levels[node] + 1
                        following.append(after)
            layer = following
        return None if levels[sink] < 0 else levels

    def _block(self, source: int, sink: int, levels: list[int], most: int) -> int:
        """Send what fits along ways on which each edge leads one level on; returns the number of steps."""
        edges, to, left = self._edges, self._to, self._left
        place = [0] * len(edges)  # node → how many of its edges are done with
        path: list[int] = []
        node, steps = source, 0
        while steps <= most:
            if node == sink:
                sent = min(left[e] for e in path)
                first = len(path)
                for number in range(len(path) - 1, -1, -1):
                    edge = path[number]
                    left[edge] -= sent
                    left[edge ^ 1] += sent
                    if not left[edge]:
                        first = number
                steps += len(path)
                node = to[path[first] ^ 1]
                del path[first:]
                continue
            begin = place[node]
            for number in range(begin, len(edges[node])):
                edge = edges[node][number]
                if left[edge] and levels[to[edge]] == levels[node] + 1:
                    path.append(edge)
                    break
            else:
                if not path:
                    break
                node = to[path.pop() ^ 1]
                place[node] += 1
                steps += 1
                continue
            place[node] = number
            steps += number - begin + 1
            node = to[edge]
        return steps
