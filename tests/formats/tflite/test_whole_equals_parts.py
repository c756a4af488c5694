"""Random small graphs, cut at random tensors: the sections, run in LiteRT one after the other, give what the whole gives."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from graphsplit.errors import CutError
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.inference.sessions import open_session
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import run_parts

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import Built, Graph

WIDTH = 4
STEP = st.tuples(
    st.sampled_from(["RELU", "ADD", "MUL", "SUB", "SPLIT", "UNPACK", "IF", "constant", "input"]),
    st.integers(0, 255),
    st.integers(0, 255),
    st.sampled_from(["", "t", "a/b:0", "c;d", None]),
)


def grow(steps: list[tuple[str, int, int, str | None]], outputs: int) -> Built:
    """Each step reads two of the tensors that are there, counted from the last, so that both chains and skips come about.

    x ─┬▶ step ─▶ step ─┬▶ step …      all tensors are (2, 4); SPLIT and UNPACK give two, one of which may be read by nobody
       └────────────────┘
    """  # fmt: skip
    built = Built()
    main = built.main
    there = [main.tensor("x", [2, WIDTH])]
    inputs = list(there)
    for number, (op, first, second, name) in enumerate(steps):
        one, other = there[-1 - first % min(2, len(there))], there[-1 - second % len(there)]
        shape = [2, WIDTH]
        if op == "input":
            inputs.append(main.tensor(name, shape))
            there.append(inputs[-1])
            continue
        if op == "constant":
            other = main.tensor(name, [WIDTH], value=np.arange(WIDTH) - number)
            op = "ADD"
        if op in ("SPLIT", "UNPACK"):
            halves = [main.tensor(name, [1, WIDTH] if op == "SPLIT" else [WIDTH]) for _ in range(2)]
            if op == "SPLIT":
                axis = main.tensor("axis", [], "int32", value=0)
                main.op("SPLIT", [axis, one], halves, numSplits=2)
            else:
                main.op("UNPACK", [one], halves, num=2, axis=0)
            made = [main.tensor(name, shape)]
            main.op("ADD", [other, halves[second % 2]], made)
        elif op == "IF":
            made = [main.tensor(name, shape)]
            branches = {"thenSubgraphIndex": branch(built, 1.0), "elseSubgraphIndex": branch(built, 2.0)}
            main.op("IF", [main.tensor("yes", [1], "bool", value=[second % 2]), one], made, **branches)
        else:
            made = [main.tensor(name, shape)]
            main.op(op, [one] if op == "RELU" else [one, other], made)
        there += made
    last = main.relu(there[-1], "last")
    main.ends(inputs, list(dict.fromkeys([last, *there[len(there) - outputs :]])))
    return built


def branch(built: Built, by: float) -> int:
    graph: Graph = built.graph("branch")
    v = graph.tensor("v", [2, WIDTH])
    graph.ends([v], [graph.add(v, graph.tensor("by", [1], value=[by]), "sum")])
    return built.number(graph)


def targets(whole: TFLiteModel) -> list[str]:
    """Tensors that operators make and that an output needs, from one of its own operators on."""
    index = whole.index
    needed = index.ancestors(index.producer[t] for t in index.outputs)
    return [
        t for n in index.nodes if n.kind == "op" for t in n.outputs
        if t in index.outputs or not needed.isdisjoint(index.consumers.get(t, ()))
    ]  # fmt: skip


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.lists(STEP, min_size=2, max_size=14), st.integers(0, 2), st.lists(st.integers(0, 255), min_size=1, max_size=3), st.booleans()
)
def test_sections_give_what_the_whole_gives(steps, outputs, places, behind):
    whole = TFLiteModel(grow(steps, outputs).bytes(behind=behind))
    order = {t: i for i, t in enumerate(t for n in whole.index.nodes if n.kind == "op" for t in n.outputs)}
    tensors = targets(whole)
    cuts = sorted({tensors[p % len(tensors)] for p in places}, key=order.__getitem__)
    try:
        parts = split(whole, outputs=[[t] for t in cuts], shapes=False)
    except CutError as error:
        event("refused: " + re.sub(r"'.*?'|\[.*?\]", "", str(error))[:50])
        return
    event(f"{len(parts)} sections")
    rng = np.random.default_rng(len(steps))
    feeds = {s.name: rng.standard_normal((2, WIDTH)).astype(np.float32) for s in whole.inputs}
    expected = open_session(whole, optimize=False).run(feeds, parts.outputs)
    sessions = {p.name: open_session(p.model, optimize=False) for p in parts}
    values = run_parts(parts, feeds, sessions)
    for tensor, value in zip(parts.outputs, expected, strict=True):
        np.testing.assert_array_equal(values[tensor], value, strict=True)
    for part in parts:
        kept = [n for n in part.model.index.nodes if n.kind == "op"]
        assert [order[n.name] for n in kept] == sorted(order[n.name] for n in kept)
        assert part.model.reader.names == part.model.reader.raw_names


def test_most_random_cuts_can_be_made():
    rng = np.random.default_rng(0)
    made = 0
    for _ in range(60):
        ops = ["RELU", "ADD", "MUL", "SUB", "SPLIT", "UNPACK", "IF", "constant", "input"]
        steps = [(str(rng.choice(ops)), int(rng.integers(256)), int(rng.integers(256)), "t") for _ in range(8)]
        whole = TFLiteModel(grow(steps, 1).bytes())
        try:
            made += len(split(whole, outputs=[str(rng.choice(targets(whole)))], shapes=False)) == 2
        except CutError:
            continue
    assert made > 30
