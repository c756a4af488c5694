"""Positions in a picture: items in rows, rows from top to bottom, edges from row to row.

    row 0        [image]                    inputs of the whole
    row 1..n     [scope] [scope] | pass     a section; `pass` is a point on a longer edge
    row n+1      [border] [border]          border tensors
    …

Layered drawing (Sugiyama, Tagawa and Toda 1981) with known rows: items are ordered by the mean of their neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Item", "Placed", "arrange", "layers"]

_GAP = 18.0  # pixels between neighbours of a row
_SWEEPS = 12
_POINT = 6.0


@dataclass(frozen=True, slots=True)
class Item:
    """An item to place.

    Attributes:
        name: Unique in the picture.
        row: Number of its row, from the top.
        width: Pixels.
        height: Pixels.
    """

    name: str
    row: int
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Placed:
    """The positions of all items.

    Attributes:
        centres: Item → x of its centre, in pixels.
        paths: (from, to) → items on that edge, ends included, from top to bottom.
        width: Width of the picture, in pixels.
    """

    centres: Mapping[str, float]
    paths: Mapping[tuple[str, str], tuple[str, ...]]
    width: float


def layers(names: Sequence[str], edges: Iterable[tuple[str, str]], wide: int) -> list[list[str]]:
    """Arrange names in layers such that edges go downwards.

    Args:
        names: In the order that decides cycles: an edge against it goes upwards.
        edges: Pairs of names.
        wide: The most names in a layer.
    """
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from(edges)
    place = {name: i for i, name in enumerate(names)}
    whole = nx.condensation(graph)
    order: dict[str, int] = {}
    key = {c: min(place[n] for n in whole.nodes[c]["members"]) for c in whole}
    for component in nx.lexicographical_topological_sort(whole, key=key.__getitem__):
        for name in sorted(whole.nodes[component]["members"], key=place.__getitem__):
            order[name] = len(order)
    graph.remove_edges_from([(a, b) for a, b in graph.edges if order[a] >= order[b]])
    rows: list[list[str]] = []
    for generation in nx.topological_generations(graph):
        ordered = sorted(generation, key=order.__getitem__)
        rows += [ordered[i : i + wide] for i in range(0, len(ordered), wide)]
    return rows


def arrange(items: Sequence[Item], edges: Iterable[tuple[str, str]]) -> Placed:
    """Assign an x to every item and a path to every edge; an edge that does not go downwards has no points in between."""
    rows: dict[int, list[Item]] = {}
    by_name = {item.name: item for item in items}
    for item in items:
        rows.setdefault(item.row, []).append(item)
    paths: dict[tuple[str, str], tuple[str, ...]] = {}
    neighbours: dict[str, list[str]] = {item.name: [] for item in items}
    for one, other in dict.fromkeys(edges):
        path = [one]
        for row in range(by_name[one].row + 1, by_name[other].row):
            # Edges from the same item share their points, as in a cable.
            point = f"{one}\0{row}"
            if point not in neighbours:
                rows.setdefault(row, []).append(Item(point, row, _POINT, 0))
                neighbours[point] = []
            path.append(point)
        path.append(other)
        paths[one, other] = tuple(path)
        for a, b in pairwise(path):
            neighbours[a].append(b)
            neighbours[b].append(a)
    centres = _pack([rows[r] for r in sorted(rows)])
    for sweep in range(_SWEEPS):
        numbers = sorted(rows, reverse=sweep % 2 == 1)
        for row in numbers:
            ideal = {item.name: _mean([centres[n] for n in neighbours[item.name]], centres[item.name]) for item in rows[row]}
            rows[row].sort(key=lambda item: ideal[item.name])
            centres |= _spread(rows[row], ideal)
    left = min((centres[i.name] - i.width / 2 for r in rows.values() for i in r), default=0.0)
    right = max((centres[i.name] + i.width / 2 for r in rows.values() for i in r), default=0.0)
    return Placed({name: x - left for name, x in centres.items()}, paths, right - left)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _pack(rows: Iterable[Sequence[Item]]) -> dict[str, float]:
    """Each row packed around 0."""
    centres: dict[str, float] = {}
    for row in rows:
        x = -(sum(i.width for i in row) + _GAP * (len(row) - 1)) / 2
        for item in row:
            centres[item.name] = x + item.width / 2
            x += item.width + _GAP
    return centres


def _spread(row: Sequence[Item], ideal: Mapping[str, float]) -> dict[str, float]:
    """Each item as close to its ideal x as its neighbours allow: neighbours that would overlap form a block around the mean of
    their ideals (isotonic regression by pooling adjacent violators).
    """
    offsets = [0.0]  # of each item from the first, packed
    for one, other in pairwise(row):
        gap = _GAP if one.height or other.height else _POINT  # points may be closer
        offsets.append(offsets[-1] + (one.width + other.width) / 2 + gap)
    blocks: list[tuple[float, int]] = []  # (mean of the ideal x of the first, number of items)
    for item, offset in zip(row, offsets, strict=True):
        mean, count = ideal[item.name] - offset, 1
        while blocks and blocks[-1][0] >= mean:
            earlier, number = blocks.pop()
            mean, count = (earlier * number + mean * count) / (number + count), number + count
        blocks.append((mean, count))
    starts = [mean for mean, count in blocks for _ in range(count)]
    return {item.name: start + offset for item, start, offset in zip(row, starts, offsets, strict=True)}
