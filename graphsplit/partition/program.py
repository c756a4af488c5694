"""A workload as a mixed-integer program, for those with too many ideals to list. Needs SciPy, whose solver is HiGHS.

For each unit u and section k, y[u, k] is 1 if u is in one of the sections 0 … k:

    y[u, k − 1] ≤ y[u, k]            sections come one after the other
    y[reader, k] ≤ y[producer, k]    data flows forward
    out[t, k] ≥ x[producer, k] − y[reader, k]             x[u, k] = y[u, k] − y[u, k − 1]
    in[t, k] ≥ y[producer, k − 1] + x[reader, k] − 1
    period ≥ Σ cost[u] · x[u, k] + Σ cost[t] · (out[t, k] + in[t, k])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphsplit.partition.workload import DeviceClass, Workload

__all__ = ["Solution", "solve"]


@dataclass(frozen=True, slots=True)
class Solution:
    """What the solver says.

    Attributes:
        sections: Units of each section; None if it found nothing in time.
        bound: No period is smaller.
    """

    sections: tuple[tuple[str, ...], ...] | None
    bound: float


def solve(workload: Workload, devices: Sequence[DeviceClass], period: float, seconds: float) -> Solution:
    """The sections with the smallest period, one for each device, in order; sections may be empty.

    Args:
        workload: What is divided.
        devices: The device of each section.
        period: One that is known to be possible; larger ones are of no interest.
        seconds: When to give up and return what was found.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    units = [u.name for u in workload.units]
    tensors = [(t, tuple(r for r in t.consumers if r != t.producer)) for t in workload.tensors]
    tensors = [(t, readers) for t, readers in tensors if readers]
    moving = [(t, readers) for t, readers in tensors if t.cost]
    count = len(devices)
    number = {name: i for i, name in enumerate(units)}
    first_out = len(units) * (count - 1)
    first_in = first_out + len(moving) * count
    last = first_in + len(moving) * count  # the period
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    limits: list[float] = []

    def at_most(terms: Sequence[tuple[int, float]], constant: float) -> None:
        """Σ value · variable ≤ constant."""
        for column, value in terms:
            rows.append(len(limits))
            columns.append(column)
            values.append(value)
        limits.append(constant)

    def y(name: str, section: int, factor: float = 1.0) -> tuple[list[tuple[int, float]], float]:
        """A multiple of y as terms and a constant: nothing is before the first section, and everything in or before the last."""
        if section < 0:
            return [], 0.0
        if section == count - 1:
            return [], factor
        return [(number[name] * (count - 1) + section, factor)], 0.0

    def total(*parts: tuple[list[tuple[int, float]], float], more: Sequence[tuple[int, float]] = (), most: float = 0.0) -> None:
        at_most([*(term for terms, _ in parts for term in terms), *more], most - sum(constant for _, constant in parts))

    for name in units:
        for k in range(1, count - 1):
            total(y(name, k - 1), y(name, k, -1))
    for tensor, readers in tensors:
        for k in range(count - 1):
            for reader in readers:
                total(y(reader, k), y(tensor.producer, k, -1))
    for i, (tensor, readers) in enumerate(moving):
        for k in range(count):
            for reader in readers:
                total(
                    y(tensor.producer, k), y(tensor.producer, k - 1, -1), y(reader, k, -1), more=[(first_out + i * count + k, -1)]
                )
                total(y(tensor.producer, k - 1), y(reader, k), y(reader, k - 1, -1), more=[(first_in + i * count + k, -1)], most=1)

    def within(k: int, weights: dict[str, float]) -> list[tuple[list[tuple[int, float]], float]]:
        """Σ weight · x over the units of a section."""
        return [part for name, w in weights.items() if w for part in (y(name, k, w), y(name, k - 1, -w))]

    nbytes = {u.name: u.nbytes for u in workload.units}
    for k, device in enumerate(devices):
        moves = [(first + i * count + k, t.cost) for i, (t, _) in enumerate(moving) for first in (first_out, first_in)]
        costs = {u.name: u.costs.get(device.name, 0.0) for u in workload.units}
        total(*within(k, costs), more=[*(moves if device.transfers else ()), (last, -1.0)])
        if sum(nbytes.values()) > device.memory:
            total(*within(k, nbytes), most=device.memory)
        for unit in workload.units:
            if device.name not in unit.costs:
                total(*within(k, {unit.name: 1.0}))
    integral = np.zeros(last + 1)
    integral[:first_out] = 1
    upper = np.ones(last + 1)
    upper[last] = period
    target = np.zeros(last + 1)
    target[last] = 1
    matrix = coo_array((values, (rows, columns)), shape=(len(limits), last + 1)).tocsr()
    found = milp(
        target,
        integrality=integral,
        bounds=Bounds(np.zeros(last + 1), upper),
        constraints=LinearConstraint(matrix, ub=np.array(limits)),
        options={"time_limit": seconds, "mip_rel_gap": 1e-6},
    )
    bound = period if found.status == 2 else float(found.mip_dual_bound or 0.0)  # infeasible: nothing is better than what is known
    if found.x is None:
        return Solution(None, bound)
    placed: list[list[str]] = [[] for _ in devices]
    for name in units:
        inside = [found.x[number[name] * (count - 1) + k] > 0.5 for k in range(count - 1)]
        placed[inside.index(True) if True in inside else count - 1].append(name)
    return Solution(tuple(map(tuple, placed)), bound)
