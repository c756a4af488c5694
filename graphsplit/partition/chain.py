"""The best chain of ideals: sections are the differences of neighbours.

Exact dynamic programming (Tarnawski et al., *Efficient Algorithms for Device Placement of DNN Graph Operators*, NeurIPS 2020,
section 5.1): the best way to reach an ideal ends with one section on one device, after the best way to reach a smaller ideal
with the other devices. The loads of all sections that begin at one ideal are computed at once:

    load(J, I) = compute(I) − compute(J) + handed over by J ∪ section − by J + read from J

where only the few tensors that are still to be read at J need a look of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from graphsplit.partition.workload import Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["Section", "best_chain", "needs_of"]

_SLACK = 1e-9  # relative; sums of the same figures in another order


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a chain: its units (as they were before merging), the class of its device, its load in milliseconds."""

    units: tuple[str, ...]
    device: str
    load: float


def needs_of(workload: Workload, order: Sequence[str]) -> list[int]:
    """Unit → mask of the units whose tensors it reads, numbered as in `order`."""
    number = {name: i for i, name in enumerate(order)}
    needs = [0] * len(order)
    for tensor in workload.tensors:
        for reader in tensor.consumers:
            if reader != tensor.producer:
                needs[number[reader]] |= 1 << number[tensor.producer]
    return needs


def best_chain(
    workload: Workload, order: Sequence[str], ideals: Sequence[int], *, bound: float = inf, latency: bool = False
) -> tuple[Section, ...] | None:
    """The chain whose largest load is smallest, or among those within a bound, the one whose loads have the smallest sum.

    Args:
        workload: What is divided.
        order: Its units in topological order; bit i of an ideal is the i-th.
        ideals: The ideals at which a section may end, smaller ones first, from the empty one to all units.
        bound: The largest load that is of interest.
        latency: Minimise the sum of the loads instead of the largest.

    Returns:
        The sections in order; None if no chain is within the bound.
    """
    import numpy as np

    loads = _Loads(workload, order, ideals)
    classes = workload.devices
    counts = tuple(d.count + 1 for d in classes)
    strides = [int(np.prod(counts[i + 1 :], dtype=np.int64)) for i in range(len(classes))]
    states = int(np.prod(counts, dtype=np.int64))
    used = np.stack(np.unravel_index(np.arange(states), counts))  # devices of each class in use, by state
    best: Floats = np.full((states, len(ideals)), inf)
    best[0, 0] = 0.0
    came_from = np.zeros((states, len(ideals)), dtype=np.int32)
    came_by = np.full((states, len(ideals)), -1, dtype=np.int16)
    bound *= 1 + _SLACK
    for start in range(len(ideals) - 1):
        reached = np.flatnonzero(np.isfinite(best[:, start]))
        if not reached.size:
            continue
        ends = loads.ends(start, bound)
        for kind, device in enumerate(classes):
            free = reached[used[kind, reached] < device.count]
            if not free.size or not ends.size:
                continue
            all_loads = loads.of(start, ends, kind)
            to, load = ends[all_loads <= bound], all_loads[all_loads <= bound]
            for state in free:
                value = best[state, start] + load if latency else np.maximum(best[state, start], load)
                row = state + strides[kind]
                better = value < best[row, to]
                if better.any():
                    at = to[better]
                    best[row, at] = value[better]
                    came_from[row, at] = start
                    came_by[row, at] = kind
    state, ideal = int(np.argmin(best[:, -1])), len(ideals) - 1
    if not np.isfinite(best[state, ideal]):
        return None
    members = {u.name: u.members for u in workload.units}
    sections: list[Section] = []
    while ideal:
        start, kind = int(came_from[state, ideal]), int(came_by[state, ideal])
        mask = ideals[ideal] & ~ideals[start]
        units = tuple(m for i, name in enumerate(order) if mask >> i & 1 for m in members[name])
        sections.append(Section(units, classes[kind].name, float(loads.of(start, np.array([ideal]), kind)[0])))
        state, ideal = state - strides[kind], start
    return tuple(reversed(sections))


class _Loads:
    """The loads of all sections between two ideals."""

    def __init__(self, workload: Workload, order: Sequence[str], ideals: Sequence[int]) -> None:
        import numpy as np

        number = {name: i for i, name in enumerate(order)}
        by_name = {unit.name: unit for unit in workload.units}
        self.devices = workload.devices
        words = max(1, -(-len(order) // 64))
        packed = b"".join(ideal.to_bytes(words * 8, "little") for ideal in ideals)
        self.words: NDArray[np.uint64] = np.frombuffer(packed, dtype="<u8").reshape(len(ideals), words)
        bits = np.unpackbits(self.words.view(np.uint8), axis=1, bitorder="little", count=len(order))
        holds: Floats = bits.astype(np.float64)

        def of_units(values: Sequence[float]) -> Floats:
            return holds @ np.array(values, dtype=np.float64)

        runs = [[by_name[name].costs.get(d.name) for name in order] for d in self.devices]
        #: Class → ideal → its compute; and how many of its units the class cannot run.
        self.compute = [of_units([0.0 if c is None else c for c in costs]) for costs in runs]
        self.refused = [of_units([float(c is None) for c in costs]) for costs in runs]
        self.nbytes = of_units([by_name[name].nbytes for name in order])
        tensors = [t for t in workload.tensors if t.cost and any(r != t.producer for r in t.consumers)]
        self.cost = np.array([t.cost for t in tensors], dtype=np.float64)
        self.consumers = np.array([len(set(t.consumers) - {t.producer}) for t in tensors], dtype=np.int16)
        #: Tensor → ideal → how many of its consumers are in it.
        self.readers = np.zeros((len(tensors), len(ideals)), dtype=np.int16)
        produced = np.zeros((len(tensors), len(ideals)), dtype=bool)
        for i, tensor in enumerate(tensors):
            readers = [number[r] for r in set(tensor.consumers) - {tensor.producer}]
            self.readers[i] = bits[:, readers].sum(axis=1)
            produced[i] = bits[:, number[tensor.producer]].astype(bool)
        self.pending = produced & (self.readers < self.consumers[:, None])  # computed, and still to be read
        self.handed: Floats = self.cost @ self.pending if len(tensors) else np.zeros(len(ideals))

    def ends(self, start: int, bound: float) -> Ints:
        """The ideals that contain one, and are not too far away for any class."""
        import numpy as np

        later = np.arange(start + 1, len(self.words))
        near = np.zeros(later.size, dtype=bool)
        for kind in range(len(self.devices)):
            near |= (self.compute[kind][later] - self.compute[kind][start] <= bound) & (
                self.refused[kind][later] == self.refused[kind][start]
            )
        near &= ((self.words[later] & self.words[start]) == self.words[start]).all(axis=1)
        found: Ints = later[near]
        return found

    def of(self, start: int, ends: Ints, kind: int) -> Floats:
        """The loads of the sections from one ideal to others, on a class of devices; infinite where it cannot run them."""
        import numpy as np

        device = self.devices[kind]
        load = self.compute[kind][ends] - self.compute[kind][start]
        if device.transfers:
            load = load + self.handed[ends]
            for tensor in np.flatnonzero(self.pending[:, start]):
                readers, cost = self.readers[tensor], self.cost[tensor]
                reached = readers[ends]
                # It is read from before the section; what is still to be read after it was handed over by another one.
                load += cost * (reached > readers[start])
                load -= cost * (reached < self.consumers[tensor])
        impossible = (self.refused[kind][ends] != self.refused[kind][start]) | (
            self.nbytes[ends] - self.nbytes[start] > device.memory * (1 + _SLACK)
        )
        return np.where(impossible, inf, load)
