"""A workload divided: exactly where its ideals can be listed, else by a program that states how far from the optimum it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice, permutations
from math import factorial, inf
from time import monotonic

from graphsplit.partition.chain import Section, best_chain, needs_of
from graphsplit.partition.coarsening import coarsened
from graphsplit.partition.contraction import contracted
from graphsplit.partition.ideals import all_ideals, prefixes
from graphsplit.partition.workload import Workload

__all__ = ["Partition", "partition"]

_IDEALS = 20_000  # more are not listed
_COARSE = 2_000  # ideals of a coarser workload
_CLOSE = 1e-3  # a gap that is not worth a program
_ORDERS = 5_040  # of the devices that are looked at
_SHARE = 1e-4  # of the whole: units that cost less are merged first


@dataclass(frozen=True, slots=True)
class Partition:
    """Sections and how good they are.

    Attributes:
        sections: In order of the data; each names the units as they were given.
        bound: No period is smaller, in milliseconds.
        ideals: How many sets a section could end with, after contraction; None: too many to list.
    """

    sections: tuple[Section, ...]
    bound: float
    ideals: int | None = None

    @property
    def period(self) -> float:
        """Milliseconds between two frames: the largest load."""
        return max((s.load for s in self.sections), default=0.0)

    @property
    def latency(self) -> float:
        """Milliseconds from a frame to its answer: the sum of the loads."""
        return sum(s.load for s in self.sections)

    @property
    def gap(self) -> float:
        """How far the period may be above the optimum, as a share of it; 0.0: it is the optimum."""
        return max(0.0, 1 - self.bound / self.period) if self.period else 0.0


def partition(workload: Workload, *, bound: float = inf, seconds: float = 30.0) -> Partition:
    """The sections with the smallest period, and among those the ones with the smallest latency.

    Args:
        workload: What is divided.
        bound: The largest period of interest, in milliseconds.
        seconds: When to stop a search that is not exact; the best that was found is returned.

    Raises:
        ValueError: The devices cannot run it within the bound: an op that none has, too little memory, or too few devices.
    """
    end = monotonic() + seconds
    small = contracted(workload)
    order = small.order()
    quick = best_chain(small, order, prefixes(len(order)), bound=bound)
    limit = bound if quick is None else _period(quick)
    ideals = all_ideals(needs_of(small, order), _IDEALS)
    if ideals is not None:
        exact = _chain(small, order, ideals, limit)
        if exact is None:
            raise ValueError("the devices cannot run it")
        return Partition(exact, _period(exact), len(ideals))
    coarse, share = small, _SHARE
    while (found := all_ideals(needs_of(coarse, coarse.order()), _COARSE)) is None and len(coarse.units) > 1:
        coarse, share = coarsened(coarse, share), share * 1.5
    best = (_chain(coarse, coarse.order(), found, limit) if found else None) or quick
    least = _least(small)
    if find_spec("scipy") is not None:
        best, least = _programmed(small, best, least, bound, end)
    if best is None:
        raise ValueError("the devices cannot run it")
    return Partition(best, min(least, _period(best)))


def _period(sections: Sequence[Section]) -> float:
    return max((s.load for s in sections), default=0.0)


def _chain(workload: Workload, order: Sequence[str], ideals: Sequence[int], limit: float) -> tuple[Section, ...] | None:
    """The chain with the smallest period, and of those the one with the smallest latency."""
    chain = best_chain(workload, order, ideals, bound=limit)
    if chain is None:
        return None
    return best_chain(workload, order, ideals, bound=_period(chain), latency=True) or chain


def _least(workload: Workload) -> float:
    """A period that no division falls below: the largest unit, and all units spread evenly."""
    cheapest = [min(u.costs.values(), default=inf) for u in workload.units]
    return max(max(cheapest, default=0.0), sum(cheapest) / max(1, sum(d.count for d in workload.devices)))


def _programmed(
    workload: Workload, best: tuple[Section, ...] | None, least: float, bound: float, end: float
) -> tuple[tuple[Section, ...] | None, float]:
    """The best sections and the bound, after a program was solved for each order of the devices, as far as time allows."""
    from graphsplit.partition.program import solve

    order = workload.order()
    bit = {name: 1 << i for i, name in enumerate(order)}
    lined = [d for d in workload.devices for _ in range(d.count)]
    kinds = list(dict.fromkeys(islice(permutations(lined), _ORDERS)))
    all_orders = factorial(len(lined)) <= _ORDERS or len(workload.devices) == 1
    bounds = []
    for left, devices in zip(range(len(kinds), 0, -1), kinds, strict=True):
        limit = bound if best is None else _period(best)
        if best is not None and limit * (1 - _CLOSE) <= least:
            return best, least
        remaining = end - monotonic()
        if remaining <= 0:
            return best, least
        solution = solve(workload, devices, limit, remaining / left)
        bounds.append(solution.bound)
        if solution.sections is not None:
            ideals = [0]
            for units in solution.sections:
                mask = ideals[-1] | sum(bit[u] for u in units)
                ideals += [mask] if mask != ideals[-1] else []
            best = _chain(workload, order, ideals, limit) or best
    if all_orders and bounds:
        least = max(least, min(bounds))
    return best, least
