"""Units merged with a neighbour until few enough are left to list their ideals. This may lose the optimum."""

from __future__ import annotations

from itertools import pairwise

from graphsplit.partition.workload import Workload

__all__ = ["coarsened"]


def coarsened(workload: Workload, share: float) -> Workload:
    """The workload with each unit that costs less than a share of the whole merged with its cheapest neighbour.

    Units that no tensor connects are merged with the next one in order, once the share is as large as the whole.

    Args:
        workload: The workload.
        share: Of the sum of all costs.
    """
    costs = {u.name: max(u.costs.values(), default=0.0) for u in workload.units}
    least = share * sum(costs.values())
    near: dict[str, set[str]] = {name: set() for name in costs}
    for tensor in workload.tensors:
        for reader in tensor.consumers:
            near[tensor.producer].add(reader)
            near[reader].add(tensor.producer)
    if share >= 1:
        order = workload.order()
        for name, following in pairwise(order):
            near[name].add(following)
    taken, pairs = set[str](), []
    for name in sorted(costs, key=costs.__getitem__):
        if costs[name] > least:
            break
        free = near[name] - taken - {name}
        if name not in taken and free:
            other = min(free, key=lambda n: (costs[n], n))
            taken |= {name, other}
            pairs.append((name, other))
    return workload.merged(pairs)
