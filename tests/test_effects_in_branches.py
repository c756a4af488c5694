"""Functional conds with effects in their branches, lowered to Switch and Merge as freezing does it, cut at random.

     ┌─ s:0 ─▶ neg ─────────────┐
x ─▶ s                          m ─▶ y
     └─ s:1 ─▶ exp ─┬───────────┘
                    └─▶ Assert ┄┄▶ executed (Merge) ┄┄▶ done          ┄ control inputs, dead in one branch
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import graphsplit as gs
from graphsplit.formats import GraphDefModel

from .graphs import const, model, node, placeholder

Tensor = Any


def asserting() -> GraphDefModel:
    return model(
        placeholder("x"),
        placeholder("p", [], tf.bool),
        node("c/s", "Switch", "x", "p"),
        node("c/pivot", "Switch", "p", "p", T=tf.bool),
        node("c/f", "Identity", "c/pivot", T=tf.bool),
        node("c/t", "Identity", "c/pivot:1", T=tf.bool),
        node("c/neg", "Neg", "c/s"),
        node("c/exp", "Exp", "c/s:1"),
        node("c/assert", "Assert", "c/t", "c/exp", T=[tf.float32]),
        node("c/executed", "Merge", "c/f", "c/t", "^c/assert", N=2, T=tf.bool),
        node("c/m", "Merge", "c/neg", "c/exp", N=2),
        const("one", 1.0),
        node("y", "AddV2", "c/m", "one", "^c/executed"),
        node("z", "Neg", "y"),
    )


def test_a_merge_is_alive_though_an_effect_that_it_waits_for_is_dead() -> None:
    index = asserting().index
    assert {"c/assert", "c/neg", "c/exp"} <= set(index.groups["c"].nodes)
    assert {"c/neg:0", "c/exp:0", "c/t:0"} <= index.captive
    assert not {"c/executed:0", "c/m:0", "y:0"} & index.captive
    assert index.outputs == ("z:0",)


@pytest.mark.parametrize("p", [False, True])
@pytest.mark.parametrize("cut", ["c/m", "y"])
def test_what_waits_for_an_effect_of_a_branch_is_a_legal_border(p: bool, cut: str) -> None:
    whole = asserting()
    parts = gs.split(whole, outputs=[cut], isolate=False)
    feeds = {"x:0": np.ones([1, 2], np.float32), "p:0": np.array(p)}
    assert gs.verify(whole, parts, feeds, isolate=False).equal


def test_a_merge_inside_a_branch_of_another_cond_stays_captive() -> None:
    whole = model(
        placeholder("x"),
        placeholder("p", [], tf.bool),
        node("o/s", "Switch", "x", "p"),
        node("o/q", "Switch", "p", "p", T=tf.bool),
        node("i/s", "Switch", "o/s:1", "o/q:1"),
        node("i/exp", "Exp", "i/s:1"),
        node("i/neg", "Neg", "i/s"),
        node("i/m", "Merge", "i/neg", "i/exp", "^i/exp", N=2),
        node("o/m", "Merge", "o/s", "i/m", N=2),
        node("y", "Neg", "o/m"),
    )
    assert "i/m:0" in whole.index.captive
    assert "o/m:0" not in whole.index.captive


def program(seed: int) -> GraphDefModel:
    """A frozen graph whose conds check and print in one branch or both, some of them nested."""
    rng = random.Random(seed)

    def effect(a: Tensor) -> None:
        if rng.random() < 0.7:
            tf.debugging.Assert(tf.reduce_all(tf.abs(a) >= 0.0), [a])
        if rng.random() < 0.3:
            tf.raw_ops.PrintV2(input=tf.strings.format("{}", tf.shape(a)[0]), output_stream="stderr")

    def branch(values: list[Tensor], depth: int) -> Tensor:
        inner = list(values)
        for _ in range(rng.randint(1, 2)):
            a = rng.choice(inner)
            effect(a)
            inner.append(tf.tanh(a) + rng.choice([0.5, 1.5]))
            if depth < 2 and rng.random() < 0.4:
                inner.append(cond(inner, depth + 1))
        return inner[-1]

    def cond(values: list[Tensor], depth: int) -> Tensor:
        return tf.cond(tf.reduce_sum(rng.choice(values)) > 0.0, lambda: branch(values, depth), lambda: branch(values, depth))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")], autograph=False)
    def f(x: Tensor) -> Tensor:
        values = [x]
        for _ in range(rng.randint(1, 3)):
            values.append(tf.nn.relu(rng.choice(values)) + 0.25)
            values.append(cond(values, 0))
        total = values[0]
        for value in values[1:]:  # AddN adds in the order in which buffers become free
            total = total + value
        return tf.identity(total, name="out")

    frozen = convert_variables_to_constants_v2(f.get_concrete_function(), lower_control_flow=True)
    return GraphDefModel([frozen.graph.as_graph_def().SerializeToString(deterministic=True)])


def check_random_cuts(seed: int) -> int:
    """Cut a program at random places and compare with TensorFlow; how many cuts were made."""
    whole, rng = program(seed), random.Random(seed)
    index = whole.index
    assert index.outputs, seed
    needed = index.ancestors(index.producer[t] for t in index.outputs)
    legal = [
        t
        for n in index.nodes
        if n.kind == "op" and n.name in needed
        for t in n.outputs
        if t not in index.captive and any(c in needed for c in index.consumers.get(t, ()))
    ]
    cuts = 0
    for target in rng.sample(legal, min(3, len(legal))):
        try:
            parts = gs.split(whole, outputs=[target], isolate=False, shapes=False)
        except gs.CutError:  # an order that no border keeps
            continue
        feeds = [{"x:0": np.full([2, 3], sign, np.float32)} for sign in (-1.0, 1.0)]
        report = gs.verify(whole, parts, feeds, isolate=False)
        assert report.equal, f"{seed}: {target}: {report.summary()}"
        cuts += 1
    return cuts


def test_sections_of_conds_with_effects_equal_the_whole() -> None:
    assert sum(check_random_cuts(seed) for seed in range(8)) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 180, 40))
def test_sections_of_many_conds_with_effects_equal_the_whole(start: int) -> None:
    assert sum(check_random_cuts(seed) for seed in range(start, start + 40)) >= 80
