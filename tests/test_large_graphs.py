"""Reading, indexing and planning take time in proportion to the graph, whatever its shape.

What was more than linear takes minutes here if it is so again; benchmarks/planning.py has the figures.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import networkx as nx
import pytest

import graphsplit as gs
from graphsplit.errors import CutError, FormatError
from graphsplit.formats.graphdef import branches
from graphsplit.formats.graphdef.branches import EMPTY, BranchSets
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.graph.disjoint_sets import DisjointSets
from graphsplit.planning import max_flow
from graphsplit.planning.max_flow import FlowNetwork

SHAPES = Path(__file__).parents[1] / "benchmarks" / "hostile_graphs.py"


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    if not SHAPES.exists():
        pytest.skip("the benchmarks are not here")
    spec = importlib.util.spec_from_file_location("hostile_graphs", SHAPES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name", ["switches", "conds", "enters", "comb_replicate_backwards", "queues_in_functions", "random_ops", "network_butterfly"]
)
def test_a_large_graph_is_planned(name: str, shapes: ModuleType) -> None:
    shape = shapes.SHAPES[name](12_000)
    model = GraphDefModel([shape.data])
    plan = gs.plan(model, outputs=list(shape.targets), repair=shape.repair)
    assert sum(len(s.nodes) for s in plan.sections) > 0
    gs.suggest(model, shapes=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_shape_of_30_000_nodes(shapes: ModuleType) -> None:
    for name in shapes.SHAPES.keys() - {"switch_mesh"}:  # which is given up
        shape = shapes.SHAPES[name](30_000)
        gs.plan(GraphDefModel([shape.data]), outputs=list(shape.targets), repair=shape.repair)


def test_sets_of_branches_are_sets() -> None:
    rng = random.Random(3)
    for size in (1, 200, 256, 257, 5000):
        sets = BranchSets(size)
        known: list[tuple[int, frozenset[int]]] = [(EMPTY, frozenset())]
        for _ in range(300):
            (a, left), (b, right) = rng.choice(known), rng.choice(known)
            item = rng.randrange(size)
            known += [
                (sets.with_item(a, item), left | {item}),
                (sets.union([a, b]), left | right),
                (sets.intersection([a, b]), left & right),
            ]
        assert all(dict(known)[tree] == items for tree, items in known)
        assert len({tree for tree, _ in known}) == len({items for _, items in known})


def test_conds_inside_conds_share_their_branches(monkeypatch: pytest.MonkeyPatch, shapes: ModuleType) -> None:
    trees: list[int] = []
    check = BranchSets._check

    def counted(self: BranchSets) -> None:
        trees.append(len(self._halves) + len(self._joined))
        check(self)

    monkeypatch.setattr(BranchSets, "_check", counted)
    for size in (4000, 16_000):
        assert GraphDefModel([shapes.SHAPES["conds"](size).data]).index.groups
    assert trees[-1] < 40_000


def test_conds_that_are_mixed_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch, shapes: ModuleType) -> None:
    monkeypatch.setattr(branches, "_MOST", 1000)
    with pytest.raises(FormatError, match="the branches of its conds are mixed in too many ways to follow"):
        GraphDefModel([shapes.SHAPES["switch_mesh"](20_000).data]).index  # noqa: B018


def test_flows_are_those_of_networkx() -> None:
    rng = random.Random(1)
    for _ in range(300):
        size = rng.randint(2, 14)
        graph, network = nx.DiGraph(), FlowNetwork(size)
        graph.add_nodes_from(range(size))
        for _ in range(rng.randint(1, 40)):
            tail, head, capacity = *rng.sample(range(size), 2), rng.randint(0, 5)
            if not graph.has_edge(tail, head):
                graph.add_edge(tail, head, capacity=capacity)
                network.add(tail, head, capacity)
        network.fill(0, 1)
        open_edges = nx.DiGraph(network.open_edges())
        open_edges.add_nodes_from((0, 1))
        first, last = {0, *nx.descendants(open_edges, 0)}, {1, *nx.ancestors(open_edges, 1)}
        for side in (first, set(range(size)) - last):
            crossing = [d["capacity"] for a, b, d in graph.edges(data=True) if a in side and b not in side]
            assert sum(crossing) == nx.maximum_flow_value(graph, 0, 1)
            assert {0} <= side <= set(range(size)) - {1}
        assert not first & last


def test_a_search_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, shapes: ModuleType) -> None:
    monkeypatch.setattr(max_flow, "_MOST_STEPS", -(10**7))
    with pytest.raises(CutError, match=r"too tangled to search it for a minimum cut; name the tensors to cut at with outputs="):
        gs.suggest(GraphDefModel([shapes.SHAPES["network_ladder"](500).data]), shapes=False)


def test_a_host_op_that_a_fused_op_needs_does_not_end_the_network(shapes: ModuleType) -> None:
    """conv ─▶ BiasAdd ◀─ TopKV2: the bias comes from the host, so main ends before it is added."""
    w = shapes._Writer()
    x = w.input()
    w.node("top", "TopKV2", x, x)
    w.node("conv", "Conv2D", x, x)
    w.node("bias", "BiasAdd", "conv", "top")
    w.node("nms", "NonMaxSuppressionV3", "bias")
    suggested = gs.suggest(GraphDefModel([w.data()]), shapes=False)
    assert [t.name for t in suggested[0].outputs] == ["conv:0"]


def test_joined_sets() -> None:
    sets = DisjointSets[int]()
    for number in range(0, 1000, 2):
        sets.join(number, (number + 2) % 1000)
    assert len({sets.root(n) for n in range(0, 1000, 2)}) == 1
    assert 1 not in sets
    assert sets.root(1) == 1
