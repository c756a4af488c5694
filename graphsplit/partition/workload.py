"""What is divided: units with their costs, tensors that move, and the devices there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import networkx as nx

__all__ = ["DeviceClass", "Tensor", "Unit", "Workload"]


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Devices that are alike.

    Attributes:
        name: Its name, as in the costs of a unit.
        count: How many there are; each runs one section at most.
        transfers: Whether it pays for the tensors that its section reads and hands over.
        memory: Bytes that a section on it may have.
    """

    name: str
    count: int = 1
    transfers: bool = True
    memory: float = inf


@dataclass(frozen=True, slots=True)
class Unit:
    """Nodes that stay together.

    Attributes:
        name: Of the unit.
        costs: Device class → milliseconds for a frame. A class that is missing cannot run it.
        nbytes: Memory that it needs wherever it runs.
        merged: The units that were merged into it; empty if it is one of the first.
    """

    name: str
    costs: Mapping[str, float]
    nbytes: float = 0.0
    merged: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """The units that it stands for, itself if none were merged."""
        return self.merged or (self.name,)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that moves once for each section that reads it.

    Attributes:
        producer: The unit that computes it.
        consumers: The units that read it.
        cost: Milliseconds to move it between a device and the host.
    """

    producer: str
    consumers: tuple[str, ...]
    cost: float


@dataclass(frozen=True)
class Workload:
    """Units, the tensors between them, and devices. Units that need each other, directly or not, have to be one; see `merged`.

    Attributes:
        units: In any order.
        tensors: What moves; one without a cost only orders its units.
        devices: The classes; their order decides between equals.
    """

    units: Sequence[Unit]
    tensors: Sequence[Tensor]
    devices: Sequence[DeviceClass]
    _graph: nx.DiGraph[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(unit.name for unit in self.units)
        graph.add_edges_from((t.producer, reader) for t in self.tensors for reader in t.consumers if reader != t.producer)
        object.__setattr__(self, "_graph", graph)

    def order(self) -> list[str]:
        """The units, each after those whose tensors it reads, and near to them.

        Raises:
            ValueError: Units need each other.
        """
        try:
            position = {unit.name: i for i, unit in enumerate(self.units)}
            return list(nx.lexicographical_topological_sort(self._graph, position.__getitem__))
        except nx.NetworkXUnfeasible as error:
            raise ValueError("units of a workload need each other; merge them first") from error

    def merged(self, together: Iterable[Iterable[str]]) -> Workload:
        """The workload with units that stay together as one, and with all that lies on a path between two of them.

        Args:
            together: Units of each group; one that is in two groups joins them.
        """
        graph = self._graph.copy()
        for group in together:
            names = list(group)
            graph.add_edges_from((a, b) for a, b in zip(names, names[1:] + names[:1], strict=True) if a != b)
        of: dict[str, str] = {}
        for component in nx.strongly_connected_components(graph):
            of |= dict.fromkeys(component, min(component))
        members: dict[str, list[Unit]] = {}
        for unit in self.units:
            members.setdefault(of[unit.name], []).append(unit)
        return Workload(
            [_one(name, units) for name, units in members.items()],
            [
                Tensor(of[t.producer], readers, t.cost)
                for t in self.tensors
                if (readers := tuple(dict.fromkeys(of[r] for r in t.consumers if of[r] != of[t.producer])))
            ],
            self.devices,
        )


def _one(name: str, units: Sequence[Unit]) -> Unit:
    """Units as one: what one of them cannot run on, none can."""
    if len(units) == 1:
        return units[0]
    common = set(units[0].costs).intersection(*(u.costs for u in units))
    costs = {d: sum(u.costs[d] for u in units) for d in units[0].costs if d in common}
    return Unit(name, costs, sum(u.nbytes for u in units), tuple(m for u in units for m in u.members))
