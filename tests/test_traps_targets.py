"""Traps of targets: what may be named, what may not, and which ports of it cross."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from graphsplit.errors import CutError, TensorNotFoundError
from graphsplit.formats import GraphDefModel
from graphsplit.parts.parts import Part
from graphsplit.planning.cuts import Cut
from graphsplit.splitting.surgery import plan, split
from tests.graphs import NodeDef, const, crossing, given, model, names, node, placeholder, proven

# 16. Odd targets
#
#     x ─▶ a ─▶ t ║─▶ y


def chain() -> GraphDefModel:
    return model(placeholder("x"), const("two", 2.0), node("a", "Mul", "x", "two"), node("t", "Exp", "a"), node("y", "Neg", "t"))


def test_duplicate_targets_count_once() -> None:
    whole = chain()
    assert plan(whole, outputs=["t", "t:0", "^t", " t "]).cuts == (Cut("main", ("t:0",)),)
    assert plan(whole, outputs=["t", "t:0"]) == plan(whole, outputs=["t"])


def test_nested_targets_are_both_given_and_only_what_is_read_crosses() -> None:
    parts = proven(chain(), outputs=["a", "t"])
    assert given(parts["main"]) == ["a:0", "t:0"]
    assert crossing(parts["post"]) == ["t:0"]
    assert parts.plan is not None
    assert parts.plan.notes == ("a:0 is an output of main, though no later section reads it",)


def test_nested_targets_of_an_n_way_split_follow_the_data() -> None:
    parts = proven(chain(), outputs=[["a"], ["t"]])
    assert {p.name: names(p) for p in parts} == {"part_0": ["x", "two", "a"], "part_1": ["a", "t"], "part_2": ["t", "y"]}
    why = r"nothing is left for section 'part_1': a:0 is already computed by 'part_0'; name tensors further downstream"
    with pytest.raises(CutError, match=why):
        plan(chain(), outputs=[["t"], ["a"]])


def test_constant_as_target_is_refused() -> None:
    with pytest.raises(
        CutError, match=r"'two:0' is a constant: every section that reads it gets its own copy, so it cannot end section 'main'"
    ):
        plan(chain(), outputs=["two", "t"])


def test_placeholder_as_the_only_target_leaves_nothing_to_compute() -> None:
    why = r"nothing is left for section 'main': x:0 is fed from outside, so nothing needs to be computed for it; name a tensor"
    with pytest.raises(CutError, match=why):
        plan(chain(), outputs=["x"])


#     x ─▶ t ║─▶ y          x and t are named: whoever reads x is fed it
#     └──────║───▲


def test_placeholder_beside_another_target_is_fed_and_never_crosses() -> None:
    whole = model(placeholder("x"), node("t", "Exp", "x"), node("y", "Sub", "t", "x"))
    parts = proven(whole, outputs=["x", "t"])
    assert given(parts["main"]) == ["t:0"]
    assert crossing(parts["post"]) == ["x:0", "t:0"]
    assert parts.plan is not None
    assert parts.plan.notes == ("x:0 is an input of the whole: each section that reads it gets it directly",)


def test_main_that_starts_at_the_inputs_has_no_pre() -> None:
    parts = proven(chain(), inputs=["x"], outputs=["t"])
    assert [p.name for p in parts] == ["main", "post"]


#     x ─▶ t ─▶ y
#     └──▶ dead ─▶ end          pruned, when only y is asked for


def test_target_that_feeds_no_output_is_refused() -> None:
    whole = model(
        placeholder("x"), node("t", "Exp", "x"), node("y", "Neg", "t"), node("dead", "Sin", "x"), node("end", "Cos", "dead")
    )
    why = r"'dead:0' feeds none of the outputs \[y:0\]; name a tensor on the way to one of them, or keep more with model_outputs=…"
    with pytest.raises(CutError, match=why):
        plan(whole, outputs=["t", "dead"], model_outputs=["y"])
    with pytest.raises(CutError, match=r"'end:0' feeds none of the outputs \[y:0\]"):
        plan(whole, outputs=["t", "end"], model_outputs=["y"])
    parts = proven(whole, outputs=["t"], model_outputs=["y"])
    assert not {"dead", "end"} & {*names(parts["main"]), *names(parts["post"])}


def test_node_that_gives_no_tensor_is_no_target() -> None:
    whole = model(
        placeholder("x"), const("yes", True), node("check", "Assert", "yes", "x", T=[tf.float32]), node("y", "Neg", "x", "^check")
    )
    with pytest.raises(TensorNotFoundError, match=r"no tensor named 'check'; the model has input x:0 and output y:0$"):
        plan(whole, outputs=["check"])


#     x ─▶ a ─▶ u          u and y are the outputs
#          └─▶ t ─▶ y


def test_target_that_is_an_output_is_given_by_its_section() -> None:
    whole = model(placeholder("x"), node("a", "Neg", "x"), node("u", "Exp", "a"), node("t", "Sin", "a"), node("y", "Neg", "t"))
    parts = proven(whole, outputs=["t", "u"])
    assert given(parts["main"]) == ["t:0", "u:0"]
    assert names(parts["post"]) == ["t", "y"]
    assert parts.outputs == ("u:0", "y:0")


def test_section_with_nothing_to_do_is_left_out() -> None:
    parts = proven(chain(), outputs=["y"])
    assert [p.name for p in parts] == ["main"]
    assert names(parts["main"]) == ["x", "two", "a", "t", "y"]
    with pytest.raises(KeyError, match="no section 'post'; there are main"):
        _ = parts.remove


#     x ─▶ a ─▶ t ║─▶ y          two and x are asked for as outputs, too
#     two ─▲


def test_constant_or_input_as_an_output_of_the_whole_is_given_by_the_last_section() -> None:
    parts = proven(chain(), outputs=["t"], model_outputs=["two", "x", "y"])
    assert given(parts["main"]) == ["t:0"]
    assert given(parts["post"]) == ["two:0", "x:0", "y:0"]
    assert names(parts["post"]) == ["x", "two", "t", "y"]


def test_cut_without_a_name_ends_nowhere() -> None:
    with pytest.raises(CutError, match="section 'main' has no border tensors; name at least one"):
        plan(chain(), outputs=[" ", ","])


@pytest.mark.parametrize(
    "cut",
    [
        {"autocrop": True},
        {"outputs": ["a"]},
        {"inputs": ["a"]},
        {"preset": "ssd"},
        {"affinity": "ops.json"},
        {"crop_file": "crop.json"},
        {"model_outputs": ["a"]},
    ],
    ids=lambda cut: next(iter(cut)),
)
def test_a_plan_and_a_cut_contradict(cut: dict[str, Any]) -> None:
    whole = chain()
    with pytest.raises(CutError, match=f"a plan and {next(iter(cut))} both say where to cut; pass one of them"):
        split(whole, plan(whole, outputs="t"), **cut)


# 17. Ops of several outputs at a border: only the ports that are read cross
#
#            ┌─ :0 ─║─▶ …
#     ─▶ op ─┼─ :1  ║              not read behind the border: stays behind
#            └─ :2 ─║─▶ …


BOXES = [
    placeholder("boxes", [5, 4]),
    placeholder("scores", [5]),
    const("most", 3),
    const("iou", 0.5),
    const("low", -9.0),
    const("soft", 0.0),
]
NORM = [
    placeholder("x", [None, 2, 2, 3]),
    const("scale", [1.0, 2.0, 3.0]),
    const("mean", [0.0, 1.0, 0.0]),
    const("var", [1.0, 2.0, 4.0]),
]
UNPACKED = [placeholder("x", [None, 3]), node("op", "Unpack", "x", num=3, axis=1)]
TOP = [placeholder("x", [None, 4]), const("two", 2), node("op", "TopKV2", "x", "two")]
NMS_4 = [*BOXES, node("op", "NonMaxSuppressionV4", "boxes", "scores", "most", "iou", "low", pad_to_max_output_size=True)]
NMS_5 = [*BOXES, node("op", "NonMaxSuppressionV5", "boxes", "scores", "most", "iou", "low", "soft", pad_to_max_output_size=True)]
BATCH_NORM = [*NORM, node("op", "FusedBatchNormV3", "x", "scale", "mean", "mean", "var", is_training=False, U=tf.float32)]
BATCH_NORM_V1 = [*NORM, node("op", "FusedBatchNorm", "x", "scale", "mean", "mean", "var", is_training=False)]


@pytest.mark.parametrize(
    ("nodes", "read"),
    [
        pytest.param(UNPACKED, {0: tf.float32, 2: tf.float32}, id="Unpack"),
        pytest.param(TOP, {1: tf.int32}, id="TopKV2"),
        pytest.param(TOP, {0: tf.float32, 1: tf.int32}, id="TopKV2 both"),
        pytest.param(NMS_4, {0: tf.int32}, id="NonMaxSuppressionV4"),
        pytest.param(NMS_4, {1: tf.int32}, id="NonMaxSuppressionV4 count"),
        pytest.param(NMS_5, {1: tf.float32}, id="NonMaxSuppressionV5 scores"),
        pytest.param(NMS_5, {0: tf.int32, 1: tf.float32, 2: tf.int32}, id="NonMaxSuppressionV5 all"),
        pytest.param(BATCH_NORM, {0: tf.float32}, id="FusedBatchNormV3"),
        pytest.param(BATCH_NORM_V1, {0: tf.float32, 2: tf.float32}, id="FusedBatchNorm variance"),
    ],
)
def test_only_the_ports_that_are_read_cross(nodes: list[NodeDef], read: dict[int, tf.DType]) -> None:
    first = min(read)
    readers = [node(f"y{port}", "Neg", f"op:{port}", T=dtype) for port, dtype in read.items()]
    parts = proven(model(*nodes, *readers), outputs=[f"op:{first}"], repair="border")
    post: Part = parts["post"]
    assert crossing(post) == given(parts["main"]) == [f"op:{port}" for port in read]
    assert [p.dtype for p in post.inputs] == [dtype.name for dtype in read.values()]
    assert [p.name for p in post.inputs] == ["op:0" if port == 0 else f"op_port_{port}:0" for port in read]
    assert [a.tensor for a in parts.added] == [f"op:{port}" for port in read if port != first]


def test_unknown_output_of_an_op_is_no_border() -> None:
    with pytest.raises(TensorNotFoundError, match="no tensor named 'op:2'; did you mean 'op:0' or 'op:1'"):
        plan(model(*TOP, node("y", "Neg", "op")), outputs=["op:2"])
