"""What the smallest border does to the kinds of graphs in which borders were too large, each as small as it shows it.

Each is planned, and proven in TensorFlow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.formats import GraphDefModel
from graphsplit.parts.parts import Parts
from graphsplit.planning.cuts import Cut
from graphsplit.planning.plan import Added, Plan
from graphsplit.planning.planner import plan_sections
from graphsplit.splitting.suggestions import suggest
from graphsplit.splitting.surgery import plan
from tests.graphs import INT, NodeDef, const, crossing, model, names, node, placeholder, proven

FILTER = np.ones([1, 1, 3, 3], np.float32)


def conv(name: str, reads: str) -> NodeDef:
    return node(name, "Conv2D", reads, "filter", strides=[1, 1, 1, 1], padding="SAME")


# Feature maps that are read for their shapes
#
#     image ─▶ f ─┬─▶ head ║─▶ boxes [batch, -1, 3] ─▶ y
#                 └────────║─▶ shape ─▶ batch ─▶ dims ─▲


def heads() -> GraphDefModel:
    return model(
        placeholder("image", [None, 8, 8, 3]),
        const("filter", FILTER),
        const("zero", [0]),
        const("one", [1]),
        const("rest", -1),
        const("three", 3),
        conv("f", "image"),
        conv("head", "f"),
        node("shape", "Shape", "f"),
        node("batch", "StridedSlice", "shape", "zero", "one", "one", Index=tf.int32, shrink_axis_mask=1, **INT),
        node("dims", "Pack", "batch", "rest", "three", N=3, **INT),
        node("boxes", "Reshape", "head", "dims"),
        node("y", "Neg", "boxes"),
    )


def test_shape_arithmetic_moves_to_the_feature_map_that_it_reads() -> None:
    parts = proven(heads(), outputs=["head"])
    assert crossing(parts["post"]) == ["head:0", "batch:0"]
    assert parts.added == (Added("batch:0", "post", "dims", "main computes it so that fewer bytes cross"),)
    assert {"shape", "batch"} <= set(names(parts["main"]))
    assert parts.plan is not None
    assert parts.plan.notes == ("shape, batch are computed in main: 4 B cross instead of 768 B (f:0)",)


def test_nothing_moves_with_repair_border() -> None:
    parts = proven(heads(), outputs=["head"], repair="border")
    assert crossing(parts["post"]) == ["head:0", "f:0"]
    assert plan(heads(), outputs=["head"], repair="border").notes == ()


def test_without_sizes_nothing_moves_that_does_not_spare_a_tensor() -> None:
    assert [a.tensor for a in plan(heads(), outputs=["head"], shapes=False).added] == ["f:0"]


def test_what_a_compiler_refuses_does_not_move() -> None:
    index = heads().index
    sizes = {"f:0": 768, "head:0": 768, "shape:0": 16}

    def planned(fixed: set[str]) -> Plan:
        return plan_sections(index, [Cut("main", ("head:0",))], last="post", nbytes=lambda t: sizes.get(t, 4), fixed=fixed)

    assert planned(set()).borders == ("head:0", "batch:0")
    assert planned({"batch"}).borders == ("head:0", "shape:0")
    assert planned({"shape"}).borders == ("head:0", "f:0")


# A tensor and a part of it
#
#     logits ─▶ scores ─┬─▶ slice ║─▶ best ─▶ y          what a cut that nobody named ends at is replaced by the scores,
#                       └─────────║─▶ all ───▲           a part of which the slice is
#                       └─▶ raw   ║


def scores(*targets: str, firm: bool) -> tuple[Plan, GraphDefModel]:
    whole = model(
        placeholder("logits", [None, 300, 4]),
        const("start", [0, 0, 1]),
        const("size", [-1, -1, -1]),
        const("axis", [2]),
        node("scores", "Sigmoid", "logits"),
        node("slice", "Slice", "scores", "start", "size", Index=tf.int32),
        node("best", "Max", "slice", "axis", Tidx=tf.int32),
        node("all", "Max", "scores", "axis", Tidx=tf.int32),
        node("y", "Add", "best", "all"),
        node("raw", "Identity", "scores"),
    )
    sizes = {"scores:0": 4800, "slice:0": 3600, "all:0": 1200, "raw:0": 4800}
    cuts = [Cut("main", targets)]
    return plan_sections(whole.index, cuts, last="post", nbytes=sizes.__getitem__, firm=firm, fixed={"all"}), whole


def test_of_a_tensor_and_its_part_one_crosses_where_nobody_named_the_part() -> None:
    planned, _ = scores("slice:0", firm=False)
    assert planned.cuts == (Cut("main", ("scores:0",)),)
    assert planned.borders == ("scores:0",)
    assert (planned.added, planned.replicated) == ((), ())
    assert planned["post"].nodes[0:3] == ("start", "size", "axis")
    assert "slice" in planned["post"].nodes
    assert "slice" not in planned["main"].nodes


def test_of_a_tensor_and_its_part_both_cross_where_the_part_was_named() -> None:
    planned, _ = scores("slice:0", firm=True)
    assert planned.borders == ("slice:0", "scores:0")
    assert planned.cuts == (Cut("main", ("slice:0",)),)


def test_of_a_tensor_and_its_part_one_crosses_where_the_tensor_was_named() -> None:
    planned, whole = scores("scores:0", firm=True)
    assert planned.borders == ("scores:0",)
    both = proven(whole, outputs=["scores", "slice"])
    assert both.borders == ("scores:0", "slice:0")  # as named


def test_an_output_of_the_whole_that_copies_a_tensor_of_main_is_an_output_of_main() -> None:
    _, whole = scores("slice:0", firm=True)
    parts = proven(whole, outputs=["slice"])
    assert "raw" in names(parts["main"])


# A cast that shrinks, a layer of another head, an ArgMax, a section before main, a section in between


def branch(*tail: NodeDef, head: str = "head") -> GraphDefModel:
    return model(placeholder("image", [None, 8, 8, 3]), const("filter", FILTER), conv("f", "image"), conv(head, "f"), *tail)


def ends(parts: Parts) -> dict[str, list[str]]:
    return {p.name: [n for n in names(p) if n not in ("filter", "image")] for p in parts}


def test_a_cast_that_shrinks_is_done_before_the_border() -> None:
    cast = node("small", "Cast", "f", SrcT=tf.float32, DstT=tf.uint8)
    back = node("large", "Cast", "small", SrcT=tf.uint8, DstT=tf.float32)
    parts = proven(branch(cast, back, node("y", "Add", "large", "head")), outputs=["head"])
    assert crossing(parts["post"]) == ["head:0", "small:0"]


def test_a_cast_that_grows_is_done_after_the_border() -> None:
    cast = node("large", "Cast", "f", SrcT=tf.float32, DstT=tf.float64)
    back = node("small", "Cast", "large", SrcT=tf.float64, DstT=tf.float32)
    parts = proven(branch(cast, back, node("y", "Add", "small", "head")), outputs=["head"])
    assert crossing(parts["post"]) == ["head:0", "f:0"]


def test_what_chooses_the_best_class_is_done_before_the_border() -> None:
    tail = [const("axis", 3), node("best", "ArgMax", "f", "axis", Tidx=tf.int32, output_type=tf.int32)]
    tail += [node("n", "Cast", "best", SrcT=tf.int32, DstT=tf.float32), const("last", [3])]
    tail += [node("m", "Max", "head", "last", Tidx=tf.int32), node("y", "Add", "m", "n")]
    parts = proven(branch(*tail), outputs=["head"])
    assert crossing(parts["post"]) == ["head:0", "best:0"]


def test_a_layer_moves_into_main_and_out_of_nothing() -> None:
    tail = [conv("other", "f"), const("all", [1, 2, 3])]
    tail += [node("mean", "Mean", "other", "all", Tidx=tf.int32, keep_dims=True), node("y", "Add", "mean", "head")]
    parts = proven(branch(*tail), outputs=["head"])
    assert crossing(parts["post"]) == ["head:0", "mean:0"]
    assert "other" in ends(parts)["main"]
    parts = proven(branch(*tail), inputs=["f"], outputs=["mean"])
    assert ends(parts)["pre"] == ["f"]


def test_a_layer_does_not_move_into_pre_or_between_numbered_sections() -> None:
    tail = [conv("other", "f"), const("all", [1, 2, 3])]
    tail += [node("mean", "Mean", "other", "all", Tidx=tf.int32, keep_dims=True), node("y", "Add", "mean", "head")]
    for cut in ({"inputs": ["head"]}, {"outputs": [["head"], ["mean"]]}):
        parts = proven(branch(*tail), **cut)
        first = next(iter(parts))
        assert first.name in ("pre", "part_0")
        assert "other" not in names(first)


def test_a_section_is_never_emptied() -> None:
    """Everything after the border could be computed before it, for nothing crossing at all."""
    parts = proven(branch(node("y", "Relu", "f")), outputs=["head"])
    assert [p.name for p in parts] == ["main", "post"]
    assert crossing(parts["post"]) == ["f:0"]


def test_a_tensor_that_crosses_an_earlier_border_crosses_the_next_for_nothing() -> None:
    small = node("small", "Cast", "f", SrcT=tf.float32, DstT=tf.uint8)
    back = node("large", "Cast", "small", SrcT=tf.uint8, DstT=tf.float32)
    whole = branch(small, back, node("y", "Add", "large", "head"))
    parts = proven(whole, outputs=[["f"], ["head"]])
    assert {p.name: crossing(p) for p in parts} == {"part_0": ["image:0"], "part_1": ["f:0"], "part_2": ["f:0", "head:0"]}


def test_a_stateful_node_and_what_reads_it_stay() -> None:
    dims, noise = const("dims", [1, 8, 8, 3]), node("noise", "RandomUniform", "dims", T=tf.int32, dtype=tf.float32)
    whole = branch(dims, noise, node("both", "Add", "noise", "f"), node("y", "Add", "both", "head"))
    planned = plan(whole, outputs=["head"])
    assert planned["post"].inputs == ("head:0", "f:0")
    assert {"noise", "both"} <= set(planned["post"].nodes)


def test_sizes_are_inferred_only_if_they_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("sizes were inferred")

    monkeypatch.setattr("graphsplit.inference.shapes.frame_bytes", fail)
    whole = heads()
    plan(whole, outputs=["boxes"])  # nothing unnamed crosses
    plan(whole, outputs=["head"], repair="border")
    plan(whole, outputs=["head"], shapes=False)
    with pytest.raises(AssertionError, match="sizes were inferred"):
        plan(whole, outputs=["head"])


def test_a_suggested_cut_crosses_what_it_says_when_it_is_named() -> None:
    for cut in suggest(heads()):
        named = plan(heads(), outputs=[spec.name for spec in cut.outputs], inputs=cut.inputs or None)
        assert set(named.borders) == {*cut.inputs, *(s.name for s in cut.outputs), *cut.added} - set(heads().index.inputs)
