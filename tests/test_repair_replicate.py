"""repair="replicate" in one pass decides what a walk for each tensor decides.

x ─▶ a_1 ─▶ a_2 ─▶ a_3 …      every a is read after the cut, too
"""

from __future__ import annotations

import random

import pytest

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.planning.cuts import Cut
from graphsplit.planning.planner import plan_sections
from graphsplit.planning.repair import Repairer, _Recomputing


def index_of(*nodes: Node) -> GraphIndex:
    read = {t for n in nodes for t in n.inputs}
    return GraphIndex(
        nodes=nodes,
        tensors={t: TensorSpec(t, "float32") for n in nodes for t in n.outputs},
        inputs=tuple(n.outputs[0] for n in nodes if n.kind == "input"),
        outputs=tuple(t for n in nodes if n.kind == "op" for t in n.outputs if t not in read),
    )


def random_graph(rng: random.Random, size: int) -> GraphIndex:
    nodes = [Node("x", "Placeholder", outputs=("x:0",), kind="input"), Node("c", "Const", outputs=("c:0",), kind="const")]
    for number in range(size):
        name = f"n{number}"
        near = nodes[-6:] if rng.random() < 0.8 else nodes
        inputs = tuple(rng.choice(rng.choice(near).outputs) for _ in range(rng.randint(1, 3)))
        outputs = tuple(f"{name}:{port}" for port in range(rng.choice([1, 1, 1, 2, 3])))
        control = (rng.choice([n.name for n in nodes]),) if rng.random() < 0.1 else ()
        kind = "const" if rng.random() < 0.05 else "op"
        nodes.append(Node(name, "Op", () if kind == "const" else inputs, outputs, control, rng.random() < 0.06, kind))
    return index_of(*nodes)


class Naive:
    """A walk for each tensor, as one would write it."""

    def __init__(self, repairer: Repairer, number: int, wanted: dict[str, str], available: dict[str, None]) -> None:
        self.repairer, self.number, self.available = repairer, number, available

    def chain(self, tensor: str, copied: set[str]) -> set[str] | None:
        repairer, chain, stack = self.repairer, set[str](), [tensor]
        while stack:
            node = repairer.producer(stack.pop())
            if node.name in chain or repairer.is_free(node):
                continue
            if not repairer.is_copyable(node, self.number) or any(t in self.available for t in node.outputs):
                return None
            chain.add(node.name)
            stack += [t for t in node.inputs if t not in self.available and repairer.producer(t).kind != "input"]
        return chain

    def add(self, tensor: str) -> None:
        pass


def test_what_is_recomputed_is_what_a_walk_for_each_tensor_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, mixed = random.Random(13), 0
    for _ in range(400):
        index = random_graph(rng, rng.randint(5, 60))
        names = [n.outputs[0] for n in index.nodes if n.kind == "op"]
        cuts = [Cut(f"part_{i}", tuple(rng.sample(names, min(2, len(names))))) for i in range(rng.randint(1, 2))]
        plans = []
        for way in (_Recomputing, Naive):
            monkeypatch.setattr("graphsplit.planning.repair._Recomputing", way)
            try:
                plans.append(plan_sections(index, cuts, last="last", repair="replicate"))
            except CutError as error:
                plans.append(str(error))
        assert plans[0] == plans[1]
        mixed += not isinstance(plans[0], str) and bool(plans[0].added) and bool(plans[0].replicated)
    assert mixed > 50


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_comb_is_repaired_in_one_pass(stateful: bool, backwards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node is looked at a few times, in whatever order the teeth are read."""
    teeth, looked = 500, 0
    copyable = Repairer.is_copyable

    def counted(self: Repairer, node: Node, number: int) -> bool:
        nonlocal looked
        looked += 1
        return copyable(self, node, number)

    monkeypatch.setattr(Repairer, "is_copyable", counted)
    back = [Node("a0", "Op", ("x:0",), ("a0:0",), stateful=stateful)]
    back += [Node(f"a{n}", "Op", (f"a{n - 1}:0",), (f"a{n}:0",)) for n in range(1, teeth)]
    order = [*range(teeth)][:: -1 if backwards else 1]
    front = [Node(f"b{n}", "Op", (f"a{n}:0", "main:0"), (f"b{n}:0",)) for n in order]
    main = Node("main", "Op", (f"a{teeth - 1}:0",), ("main:0",))
    index = index_of(Node("x", "Placeholder", outputs=("x:0",), kind="input"), *back, main, *front)
    plan = plan_sections(index, [Cut("main", ("main:0",))], last="post", repair="replicate")
    assert len(plan.added) == (0 if not stateful else teeth if backwards else 1)
    assert len(plan.replicated) == (teeth if not stateful else 0 if backwards else teeth - 1)
    assert looked <= 2 * teeth
