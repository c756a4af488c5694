"""A cut is fitted to a compiler: split, ask, tie what is refused to the host, split again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

import graphsplit as gs
from graphsplit.compilers import Refused, fit
from graphsplit.compilers.fitting import find_nodes
from graphsplit.planning.targets import read_target

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import Built, chain
from tests.quantised import Q, dense, network, target_file

# Refuses the layers of these names, as compilers do: it reads the file, and names tensors.
REFUSES = """
import re, sys
held = [n for n in {names!r} if re.search(rb'(?<![/\\w])' + n.encode() + rb'(?![/\\w])', open(sys.argv[1], 'rb').read())]
for name in held{first}: print('no FULLY_CONNECTED ' + name + '{suffix}: too wide')
print('taken 1')
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(network("alpha", "beta", "gamma", "delta", custom="Decoder"))
    return gs.load(path)


def cutter(model, seen: list[dict[str, str]]):
    """Ends main before the first node that is tied to the host; all nodes lie in a row."""

    def make(tied: Mapping[str, str]) -> gs.Parts:
        seen.append(dict(tied))
        ops = [n for n in model.index.nodes if n.kind == "op"]
        first = next((i for i, n in enumerate(ops) if n.name in tied), len(ops))
        if first == 0:
            return replace(gs.split(model, outputs=["alpha"]), sections=())
        return gs.split(model, outputs=[ops[first - 1].outputs[0]])

    return make


def run(model, tmp_path, *refused: str, first: bool = False, suffix: str = "", **options):
    seen: list[dict[str, str]] = []
    program = REFUSES.format(names=list(refused), first="[-1:]" if first else "", suffix=suffix)
    parts, answer = fit(model, read_target(target_file(tmp_path, program)), cutter(model, seen), **options)
    return parts, answer, seen


def test_the_table_proposes_and_the_compiler_agrees(model, tmp_path):
    parts, answer, seen = run(model, tmp_path)
    assert [sorted(s) for s in seen] == [["y"]]
    assert answer
    assert (answer.reason, answer.sections) == ("", ("main",))
    assert [(r.taken, r.asked, r.tied) for r in answer.rounds] == [(1, 1, ())]
    assert answer.refused == (Refused("Decoder", "y", "Decoder is a custom op, which stays on the host"),)
    assert [p.tensor for p in parts["main"].outputs] == ["delta"]


def test_what_is_refused_is_tied_until_all_is_taken(model, tmp_path):
    parts, answer, seen = run(model, tmp_path, "gamma", "delta", first=True)
    assert [sorted(s) for s in seen] == [["y"], ["delta", "y"], ["delta", "gamma", "y"]]
    assert answer
    assert [[t.tensor for t in r.tied] for r in answer.rounds] == [["delta"], ["gamma"], []]
    assert [(r.taken, r.asked) for r in answer.rounds] == [(1, 2), (1, 2), (1, 1)]
    assert [(r.tensor, r.reason) for r in answer.refused][:2] == [("gamma", "too wide"), ("delta", "too wide")]
    assert [p.tensor for p in parts["main"].outputs] == ["beta"]
    assert answer.json()["rounds"][0] == {
        "taken": 1,
        "asked": 2,
        "tied": [{"op": "FULLY_CONNECTED", "tensor": "delta", "reason": "too wide"}],
    }


@pytest.mark.parametrize("suffix", ["_act", "_softmax_0", "_a_b_c"])
def test_names_that_a_compiler_made_of_those_of_the_model_are_found(model, tmp_path, suffix):
    _, answer, seen = run(model, tmp_path, "delta", suffix=suffix)
    assert answer
    assert sorted(seen[-1]) == ["delta", "y"]


def test_rounds_are_bounded(model, tmp_path):
    _, answer, seen = run(model, tmp_path, "beta", "gamma", "delta", first=True, rounds=2)
    assert len(seen) == len(answer.rounds) == 2
    assert not answer
    assert answer.reason == "not all is taken after 2 rounds"


def test_it_ends_when_the_cut_leaves_what_is_refused(model, tmp_path):
    target = read_target(target_file(tmp_path, REFUSES.format(names=["beta"], first="", suffix="")))
    calls = []

    def stubborn(tied: Mapping[str, str]) -> gs.Parts:
        calls.append(tied)
        return gs.split(model, outputs=["delta"])

    parts, answer = fit(model, target, stubborn)
    assert len(calls) == 2
    assert not answer
    assert answer.reason == "fake still refuses FULLY_CONNECTED (beta), which the cut leaves in main"
    assert [p.name for p in parts] == ["main", "post"]


def test_it_ends_when_nothing_is_left_for_the_accelerator(model, tmp_path):
    parts, answer, _ = run(model, tmp_path, "alpha", "beta", "gamma", "delta")
    assert len(parts) == 0
    assert (answer.taken, answer.asked, answer.reason) == (0, 0, "no section is left for the accelerator")
    assert [r.tensor for r in answer.refused] == ["alpha", "beta", "gamma", "delta", "y"]


def test_a_crash_ends_it(model, tmp_path):
    target = read_target(target_file(tmp_path, "import os; os.kill(os.getpid(), 6)"))
    parts, answer = fit(model, target, cutter(model, []))
    assert answer.reason == "fake crashed on main: signal 6"
    assert len(answer.rounds) == 1
    assert [p.name for p in parts] == ["main", "post"]


def test_without_a_compiler_the_table_is_the_answer(model, tmp_path):
    seen: list[dict[str, str]] = []
    _, answer = fit(model, read_target(target_file(tmp_path)), cutter(model, seen))
    assert [sorted(s) for s in seen] == [["y"]]
    assert answer
    assert (answer.compiler, answer.taken, answer.asked, answer.reason) == (None, 4, 4, "from the table")
    _, answer, _ = run(model, tmp_path, "delta", compile=False)
    assert (answer.compiler, answer.whole) == (None, True)


def test_make_cannot_change_what_is_tied(model, tmp_path):
    def greedy(tied: Mapping[str, str]) -> gs.Parts:
        with pytest.raises(TypeError):
            tied["alpha"] = "mine"  # type: ignore[index]
        return gs.split(model, outputs=["delta"])

    assert fit(model, read_target(target_file(tmp_path)), greedy)[1]


def test_a_float_model_is_one_sentence(tmp_path):
    path = tmp_path / "float.tflite"
    path.write_bytes(chain(3).bytes())
    with pytest.raises(gs.CutError, match="the network computes in float32, and mine takes int8: quantise the model first"):
        fit(
            gs.load(path),
            read_target(target_file(tmp_path, "pass", ops={"ADD": "accelerator"})),
            lambda tied: pytest.fail("called"),
        )


def test_a_section_is_named_as_the_whole_is(tmp_path):
    """The whole's own names repeat; a border tensor of a section has a name of its own."""
    built = Built()
    x = built.main.tensor("x", [1, 16], "int8", quantization=Q)
    one = dense(built.main, x, "same")
    two = dense(built.main, one, "same")
    three = dense(built.main, two, "same")
    built.main.ends([x], [three])
    path = tmp_path / "m.tflite"
    path.write_bytes(built.bytes())
    model = gs.load(path)
    names = [n.name for n in model.index.nodes if n.kind == "op"]
    program = (
        f"import sys; print('no FULLY_CONNECTED {names[1]}: bad') if b{names[1]!r} in open(sys.argv[1], 'rb').read() else None"
    )
    target = read_target(target_file(tmp_path, program, compiler={"taken": ""}))
    parts, answer = fit(model, target, cutter(model, []))
    assert answer
    assert [r.tensor for r in answer.refused] == [names[1]]
    assert [p.tensor for p in parts["main"].outputs] == [names[0]]


def test_ops_without_a_name_are_counted_from_the_end(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(network("a", "b", "c"))
    index = gs.load(path).index
    unnamed = [Refused("FullyConnected", "<unnamed>", "bad")] * 2
    assert [n.name for n in find_nodes(index, [*unnamed, Refused("ADD", "", "none of that op")])] == ["c", "b"]
    assert [n.name for n in find_nodes(index, [*unnamed, Refused("CONV", "c", "named")])] == ["c", "b", "a"]
