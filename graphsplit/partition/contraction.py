"""Units that need not be apart: merging them leaves the optimum as it is and makes fewer ideals.

Each rule concerns a unit that costs nothing wherever it runs. Whatever the sections are, moving it to the section of its
neighbour makes no load larger:

    it reads nothing, one unit reads it               to its reader: its tensor does not cross any more
    nothing reads it, it reads one unit               to that unit: nor do the tensors it reads
    it alone reads one tensor, which is as expensive  to the unit that computes it: its own tensor crosses instead
    one unit reads it, its inputs are no more
    expensive than its own tensor                     to its reader: its inputs cross instead

Memory is left out of account, so a unit with bytes is only merged where every class has memory for all units.
"""

from __future__ import annotations

from graphsplit.partition.workload import Tensor, Workload

__all__ = ["contracted"]


def contracted(workload: Workload) -> Workload:
    """A workload with the same optimum and fewer units."""
    while pairs := _pairs(workload):
        workload = workload.merged(pairs)
    return workload


def _pairs(workload: Workload) -> list[tuple[str, str]]:
    """Units to merge; none is in two pairs, since each rule holds for the others as they are."""
    roomy = sum(u.nbytes for u in workload.units) <= min((d.memory for d in workload.devices), default=0)
    reads: dict[str, list[Tensor]] = {u.name: [] for u in workload.units}
    writes: dict[str, list[Tensor]] = {u.name: [] for u in workload.units}
    for tensor in workload.tensors:
        writes[tensor.producer].append(tensor)
        for reader in tensor.consumers:
            reads[reader].append(tensor)
    classes, taken, pairs = {d.name for d in workload.devices}, set[str](), []
    for unit in workload.units:
        free = set(unit.costs) >= classes and not any(unit.costs.values()) and (roomy or not unit.nbytes)
        if not free or unit.name in taken:
            continue
        other = _neighbour(reads[unit.name], writes[unit.name])
        if other is not None and other not in taken:
            taken |= {unit.name, other}
            pairs.append((unit.name, other))
    return pairs


def _neighbour(reads: list[Tensor], writes: list[Tensor]) -> str | None:
    """The unit that one without costs may join."""
    producers, readers = {t.producer for t in reads}, {r for t in writes for r in t.consumers}
    reading, writing = sum(t.cost for t in reads), sum(t.cost for t in writes)
    if len(readers) == 1 and reading <= writing:
        return min(readers)
    if len(producers) == 1 and all(len(t.consumers) == 1 for t in reads) and writing <= reading:
        return min(producers)
    if len(producers) == 1 and not readers:
        return min(producers)
    return None
