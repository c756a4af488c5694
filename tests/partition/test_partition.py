"""The division of a workload: equal to brute force where that can be done, and what it says about itself is true."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import permutations, product
from math import inf

import pytest

from graphsplit.partition import partition as module
from graphsplit.partition.chain import needs_of
from graphsplit.partition.contraction import contracted
from graphsplit.partition.ideals import all_ideals
from graphsplit.partition.partition import Partition, partition
from graphsplit.partition.workload import DeviceClass, Tensor, Unit, Workload


def example(seed: int, most: int = 8) -> Workload:
    """A random workload: a graph with costs that collide, free units, ops that one device cannot run, tight memory."""
    chance = random.Random(seed)
    count = chance.randint(1, most)
    classes = chance.choice([["a"], ["a", "b"], ["a", "a"], ["a", "a", "b"], ["a", "a", "a"]])
    kinds = sorted(set(classes))
    tight = chance.random() < 0.3
    devices = [DeviceClass(k, classes.count(k), chance.random() < 0.8, chance.randint(3, 12) if tight else inf) for k in kinds]
    units = []
    for i in range(count):
        costs = {k: float(chance.choice([0, 0, 1, 1, 2, 3, 5, 8])) for k in kinds}
        if chance.random() < 0.3:
            costs = dict.fromkeys(kinds, 0.0)
        if len(kinds) > 1 and chance.random() < 0.15:
            del costs[chance.choice(kinds)]
        units.append(Unit(f"u{i}", costs, float(chance.randint(0, 2))))
    tensors = []
    for i in range(count - 1):
        for _ in range(chance.choice([1, 1, 1, 2])):
            later = range(i + 1, count)
            readers = chance.sample(later, min(len(later), chance.choice([0, 1, 1, 1, 2, 3])))
            if readers:
                tensors.append(Tensor(f"u{i}", tuple(f"u{r}" for r in readers), float(chance.choice([0, 0, 1, 1, 2, 4]))))
    return Workload(units, tensors, devices)


def chains(workload: Workload) -> Iterator[list[tuple[set[str], DeviceClass]]]:
    """Every division of a small workload: each unit to a place in each order of the devices."""
    lined = [d for d in workload.devices for _ in range(d.count)]
    for devices in dict.fromkeys(permutations(lined)):
        for places in product(range(len(devices)), repeat=len(workload.units)):
            at = {u.name: p for u, p in zip(workload.units, places, strict=True)}
            if all(at[t.producer] <= at[r] for t in workload.tensors for r in t.consumers):
                yield [({n for n, p in at.items() if p == k}, d) for k, d in enumerate(devices) if k in places]


def load(workload: Workload, units: set[str], device: DeviceClass) -> float:
    """The load of a section, from its definition."""
    inside = [u for u in workload.units if u.name in units]
    if any(device.name not in u.costs for u in inside) or sum(u.nbytes for u in inside) > device.memory:
        return inf
    compute = sum(u.costs[device.name] for u in inside)
    if not device.transfers:
        return compute
    handed = sum(t.cost for t in workload.tensors if t.producer in units and set(t.consumers) - units)
    read = sum(t.cost for t in workload.tensors if t.producer not in units and set(t.consumers) & units)
    return compute + handed + read


def brute_force(workload: Workload) -> tuple[float, float]:
    """The smallest period, and the smallest latency at that period."""
    best = (inf, inf)
    for chain in chains(workload):
        loads = [load(workload, units, device) for units, device in chain]
        best = min(best, (max(loads), sum(loads)))
    return best


def check(workload: Workload, answer: Partition) -> None:
    """The sections are a division, and their loads are right."""
    by_name = {d.name: d for d in workload.devices}
    seen: set[str] = set()
    for section in answer.sections:
        assert not seen & set(section.units)
        seen |= set(section.units)
        assert section.load == pytest.approx(load(workload, set(section.units), by_name[section.device]))
        assert all(t.producer in seen for t in workload.tensors if set(t.consumers) & set(section.units))
    assert seen == {u.name for u in workload.units}
    for device in workload.devices:
        assert sum(s.device == device.name for s in answer.sections) <= device.count


def equals_brute_force(seed: int, most: int) -> None:
    workload = example(seed, most)
    period, latency = brute_force(workload)
    if period == inf:
        with pytest.raises(ValueError, match="cannot run it"):
            partition(workload)
        return
    answer = partition(workload)
    check(workload, answer)
    assert (answer.period, answer.latency, answer.gap) == pytest.approx((period, latency, 0.0)), seed


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_small_workloads_are_divided_as_by_brute_force(start):
    for seed in range(start, start + 50):
        equals_brute_force(seed, 7)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1200, 10))
def test_workloads_of_up_to_fourteen_units_are_divided_as_by_brute_force(start):
    for seed in range(start, start + 10):
        equals_brute_force(seed, 11 if seed % 5 else 14)


def test_contraction_makes_fewer_ideals_and_keeps_the_optimum():
    fewer = 0
    for seed in range(300, 400):
        workload = example(seed, 7)
        small = contracted(workload)
        fewer += len(small.units) < len(workload.units)
        assert brute_force(small) == pytest.approx(brute_force(workload)), seed
    assert fewer > 30


@pytest.mark.parametrize("start", range(400, 440, 10))
def test_without_a_list_of_ideals_the_bound_is_a_bound(monkeypatch, start):
    pytest.importorskip("scipy")
    monkeypatch.setattr(module, "_IDEALS", 1)
    monkeypatch.setattr(module, "_COARSE", 3)
    for seed in range(start, start + 10):
        workload = example(seed, 7)
        period, _ = brute_force(workload)
        if period == inf:
            continue
        answer = partition(workload, seconds=10)
        check(workload, answer)
        assert answer.ideals is None
        assert answer.bound <= period + 1e-6
        assert answer.period == pytest.approx(period), seed  # these are small enough for the program
        assert answer.gap < 1e-3


def grid(width: int, length: int) -> Workload:
    """Chains side by side between two ends, with (length + 1) ** width ideals."""
    units = [Unit("first", {"a": 1.0}), Unit("last", {"a": 1.0})]
    units += [Unit(f"{i}.{j}", {"a": 1.0 + (i * j) % 3}) for i in range(width) for j in range(length)]
    tensors = [Tensor("first", tuple(f"{i}.0" for i in range(width)), 0.5)]
    tensors += [
        Tensor(f"{i}.{j}", (f"{i}.{j + 1}" if j + 1 < length else "last",), 0.25) for i in range(width) for j in range(length)
    ]
    return Workload(units, tensors, [DeviceClass("a", 3)])


def test_a_workload_with_millions_of_ideals_is_divided_within_a_stated_gap():
    workload = grid(8, 6)
    small = contracted(workload)
    assert all_ideals(needs_of(small, small.order()), 20_000) is None
    answer = partition(workload, seconds=5)
    check(workload, answer)
    assert 0 <= answer.gap < 0.15
    total = sum(u.costs["a"] for u in workload.units)
    assert answer.period >= answer.bound >= total / 3


def test_units_that_need_each_other_are_refused_until_they_are_merged():
    units = [Unit("a", {"x": 1.0}), Unit("b", {"x": 1.0}), Unit("c", {"x": 1.0})]
    ring = Workload(units, [Tensor("a", ("b",), 0.25), Tensor("b", ("c",), 0.25)], [DeviceClass("x", 2)])
    assert len(partition(ring).sections) == 2
    merged = ring.merged([("a", "c")])
    assert [sorted(u.members) for u in merged.units] == [["a", "b", "c"]]
    with pytest.raises(ValueError, match="merge them"):
        Workload(units, [Tensor("a", ("b",), 1.0), Tensor("b", ("a",), 1.0)], [DeviceClass("x", 2)]).order()
