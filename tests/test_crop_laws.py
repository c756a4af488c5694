"""What holds for every automatic cut, on random graphs of layers, host ops and others, and against every other chain."""

from __future__ import annotations

import random
from itertools import product

import pytest

from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.planning.affinity import read_affinity
from graphsplit.planning.cuts import Cut
from graphsplit.planning.plan import Plan
from graphsplit.planning.planner import plan_sections
from graphsplit.planning.search import Crop, Search
from graphsplit.planning.units import Units

OPS = ("Conv2D", "Conv2D", "BiasAdd", "Relu", "Sigmoid", "Reshape", "MaxPool", "TopKV2", "Where", "Mul")


def some_graph(seed: int, most: int = 9) -> tuple[GraphIndex, dict[str, int], dict[str, int]]:
    """A graph of one input, bytes of its tensors, and multiplications of its layers."""
    rng = random.Random(seed)
    nodes = [Node("x", "Placeholder", (), ("x:0",), kind="input"), Node("w", "Const", (), ("w:0",), kind="const")]
    tensors = ["x:0"]
    for number in range(rng.randint(2, most)):
        reads = rng.sample(tensors[-4:], min(len(tensors[-4:]), rng.choice((1, 1, 1, 2))))
        op = rng.choice(OPS)
        nodes.append(Node(f"n{number}", op, (*reads, "w:0") if op == "Conv2D" else tuple(reads), (f"n{number}:0",)))
        tensors.append(f"n{number}:0")
    read = {t for n in nodes for t in n.inputs}
    outputs = tuple(t for t in tensors[1:] if t not in read or rng.random() < 0.1)
    index = GraphIndex(tuple(nodes), {t: TensorSpec(t, "float32") for n in nodes for t in n.outputs}, ("x:0",), outputs)
    return index, {t: rng.randint(1, 9) for t in tensors}, {n.name: rng.randint(1, 99) for n in nodes}


def search_of(seed: int, most: int = 9) -> tuple[GraphIndex, Search]:
    index, sizes, weights = some_graph(seed, most)
    return index, Search(Units(index, index.outputs), sizes.__getitem__, lambda n: weights[n.name], read_affinity())


def planned(index: GraphIndex, crop: Crop) -> Plan:
    cuts = [Cut("pre", crop.front)] if crop.front else []
    cuts += [Cut("main", crop.back)] if crop.back else []
    return plan_sections(index, cuts, last="post" if crop.back else "main", repair="border")


def held(plan: Plan, section: str) -> set[str]:
    return {n for s in plan.sections if s.name == section for n in s.nodes if n.startswith("n")}


def most_work(search: Search) -> int:
    """The most multiplications that any chain leaves in main: every pair of closed sets is tried."""
    units, names = search.units, list(search.units.members)
    best = 0
    for sides in product(range(3), repeat=len(names)):
        side = dict(zip(names, sides, strict=True))
        if all(side[p] <= side[u] for u in names for p in units.previous[u]) and not any(side[u] == 1 for u in search.refused):
            best = max(best, sum(search.work.get(u, 0) for u in names if side[u] == 1))
    return best


@pytest.mark.parametrize("seeds", [range(start, start + 15) for start in range(0, 150, 15)], ids=str)
def test_main_holds_as_much_of_the_network_as_any_chain_could(seeds: range) -> None:
    for seed in seeds:
        _, search = search_of(seed, most=7)
        total = sum(search.work.values())
        assert search.best().share == pytest.approx(most_work(search) / total if total else 0), seed


def check_laws(index: GraphIndex, search: Search, crop: Crop) -> None:
    plan = planned(index, crop)
    main = held(plan, "main")
    # No host op is in main, if there is a network.
    assert not main & search.refused if search.layers else not crop.cuts
    # Outputs of the whole that main computes are outputs of main.
    for section in plan.sections:
        if section.name == "main":
            assert {t for t in index.outputs if index.producer[t] in main} <= set(section.outputs)
    # A layer outside of main is fed by a host op, after main, or feeds one, before it.
    for layer in search.layers - main:
        fed = search.units.before([layer]) & search.refused
        feeds = search.units.after([layer]) & search.refused
        assert fed if layer in held(plan, "post") else feeds, layer
    assert sum(search.work.get(n, 0) for n in main) == pytest.approx(crop.share * sum(search.work.values()))


@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 600, 100)], ids=str)
def test_every_automatic_cut_obeys_the_laws(seeds: range) -> None:
    for seed in seeds:
        index, search = search_of(seed)
        crops = (search.best(), search.heads(), search.fewest_bytes(), search.starting_before(), search.starting_after())
        for crop in crops:
            check_laws(index, search, crop)


@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 600, 100)], ids=str)
def test_a_front_is_cut_and_heads_are_offered(seeds: range) -> None:
    for seed in seeds:
        index, search = search_of(seed)
        best = search.best()
        main = held(planned(index, best), "main")
        if search.layers and search.units.before(main) & search.refused:
            assert best.front, seed
        tail = search.units.after(search.layers) - search.layers - search.before_layers - search.fused
        if not search.between and any(index.name_to_node_map[u].op in ("Mul", "MaxPool", "TopKV2", "Where") for u in tail):
            assert search.heads().back, seed


@pytest.mark.parametrize("seeds", [range(start, start + 100) for start in range(0, 600, 100)], ids=str)
def test_islands_alternate_and_hold_every_layer(seeds: range) -> None:
    some = 0
    for seed in seeds:
        index, search = search_of(seed, most=16)
        islands = search.islands
        assert bool(islands) == bool(search.between)
        if not islands:
            continue
        some += 1
        first = islands[0].accelerated
        assert [i.accelerated for i in islands] == [first == (n % 2 == 0) for n in range(len(islands))]
        cuts = [Cut(f"part_{n}", island.ends) for n, island in enumerate(islands[:-1])]
        plan = plan_sections(index, cuts, last=f"part_{len(cuts)}", repair="border")
        for number, island in enumerate(islands):
            assert not held(plan, f"part_{number}") & (search.refused if island.accelerated else search.layers), seed
    assert some > 4
