"""Traps at the border of two sections: what must cross, what must not, and what a border tensor is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow as tf

from graphsplit.errors import CutError
from graphsplit.formats import GraphDefModel
from graphsplit.parts.folder import save
from graphsplit.planning.plan import Added
from graphsplit.splitting.surgery import plan
from tests.graphs import INT, NodeDef, const, crossing, given, model, names, node, node_of, placeholder, proven, two_ports

# 1. A node that both sections need
#
#     x ─▶ a ─▶ t ║─▶ y          two is read on both sides
#          ▲      ║   ▲
#     two ─┴──────║───┘


def test_constant_read_by_both_sections_is_copied_into_both() -> None:
    whole = model(
        placeholder("x"), const("two", 2.0), node("a", "Mul", "x", "two"), node("t", "Neg", "a"), node("y", "Mul", "t", "two")
    )
    parts = proven(whole, outputs=["t"])
    assert names(parts["main"]) == ["x", "two", "a", "t"]
    assert names(parts["post"]) == ["two", "t", "y"]
    assert crossing(parts["post"]) == ["t:0"]
    assert (parts.added, parts.replicated) == ((), ())


#     x ─▶ shape ─▶ rows ─▶ a ─▶ t ║─▶ q ─▶ y          a scalar of the Preprocessor is read behind the cut, too,
#     │              └─────────────║───┘    ▲          and so is the image
#     └────────────────────────────║────────┘


def preprocessor_scalar() -> GraphDefModel:
    return model(
        placeholder("x", [None, 2]),
        const("zero", [0]),
        const("one", [1]),
        node("shape", "Shape", "x"),
        node("rows", "StridedSlice", "shape", "zero", "one", "one", Index=tf.int32, shrink_axis_mask=1, **INT),
        node("a", "Cast", "rows", SrcT=tf.int32, DstT=tf.float32),
        node("t", "Mul", "x", "a"),
        node("b", "Cast", "rows", SrcT=tf.int32, DstT=tf.float32),
        node("q", "Sub", "t", "b"),
        node("y", "Add", "q", "x"),
    )


def test_shape_of_the_image_read_behind_the_cut_is_computed_again() -> None:
    parts = proven(preprocessor_scalar(), outputs=["t"])
    assert parts.replicated == ("shape", "rows")
    assert parts.added == ()
    assert names(parts["post"]) == ["x", "zero", "one", "shape", "rows", "t", "b", "q", "y"]


def test_repair_border_carries_the_scalar_across_instead() -> None:
    parts = proven(preprocessor_scalar(), outputs=["t"], repair="border")
    assert parts.replicated == ()
    assert parts.added == (Added("rows:0", "post", "b", "main and post both read it"),)
    assert names(parts["post"]) == ["x", "rows", "t", "b", "q", "y"]


#     x ─▶ convert ─▶ t ║─▶ y          the 2018 SSD: `convert_scores` feeds `Slice`, which is the target,
#             ├─────────║──▶ z ▲       is read after it, and is a raw output as well
#             └─▶ raw   ║


def converted_scores() -> GraphDefModel:
    return model(
        placeholder("x"),
        node("convert", "Sigmoid", "x"),
        node("t", "Neg", "convert"),
        node("y", "Exp", "t"),
        node("z", "Mul", "y", "convert"),
        node("raw", "Exp", "convert"),
    )


def test_unnamed_tensor_read_behind_the_cut_is_added_with_its_consumer_and_a_reason() -> None:
    parts = proven(converted_scores(), outputs=["t"])
    assert parts.added == (Added("convert:0", "post", "z", "main and post both read it"),)
    assert crossing(parts["post"]) == ["t:0", "convert:0"]
    assert parts.replicated == ()


def test_repair_replicate_computes_the_unnamed_tensor_again() -> None:
    parts = proven(converted_scores(), outputs=["t"], repair="replicate")
    assert parts.added == ()
    assert parts.replicated == ("convert",)
    assert crossing(parts["post"]) == ["x:0", "t:0"]


def test_what_reads_an_unnamed_tensor_and_no_target_is_computed_before_the_border() -> None:
    parts = proven(converted_scores(), outputs=["t"], model_outputs=["y", "raw"])
    assert (parts.added, parts.replicated) == ((), ())
    assert given(parts["main"]) == ["t:0", "raw:0"]
    assert parts.plan is not None
    assert parts.plan.notes == ("raw is computed in main: nothing crosses instead of 8 B (convert:0)",)
    border = proven(converted_scores(), outputs=["t"], model_outputs=["y", "raw"], repair="border")
    assert [a.tensor for a in border.added] == ["convert:0"]


def test_repair_error_refuses_and_names_tensor_and_reader() -> None:
    with pytest.raises(
        CutError, match=r"'convert:0' crosses from 'main' to 'post' without having been named: 'z' reads it; name it"
    ) as e:
        plan(converted_scores(), outputs=["t"], repair="error")
    assert e.value.cut == ("convert:0",)
    assert plan(converted_scores(), outputs=["t", "convert"], repair="error").added == ()


# 2. A control input across a border
#
#     x ─▶ t ║─▶ y          ┄▶ y must run after n, which has run in main
#     └▶ n ┄┄║┄┄┄▲


def ordered(*n: NodeDef) -> GraphDefModel:
    return model(placeholder("x"), *n, node("t", "Neg", "x", "^n"), node("y", "Exp", "t", "^n"))


def test_control_input_on_a_pure_node_of_an_earlier_section_is_dropped() -> None:
    parts = proven(ordered(node("n", "Relu", "x")), outputs=["t"])
    assert list(node_of(parts["main"], "t").input) == ["x", "^n"]
    assert list(node_of(parts["post"], "y").input) == ["t"]
    assert names(parts["post"]) == ["t", "y"]


def test_control_input_on_an_assert_of_an_earlier_section_is_dropped() -> None:
    yes = const("yes", True)
    parts = proven(ordered(yes, node("n", "Assert", "yes", "x", T=[tf.float32])), outputs=["t"])
    assert list(node_of(parts["main"], "t").input) == ["x", "^n"]
    assert list(node_of(parts["post"], "y").input) == ["t"]


def test_control_input_on_a_stateful_node_of_an_earlier_section_is_refused() -> None:
    size = const("size", [2])
    whole = ordered(size, node("n", "RandomUniform", "size", **INT))
    why = (
        r"'y' in section 'post' must run after 'n' \(RandomUniform, which holds state\) in an earlier section, "
        r"and no border keeps such an order; cut before 'n' or after 'y'"
    )
    with pytest.raises(CutError, match=why) as e:
        plan(whole, outputs=["t"])
    assert e.value.cut == ("n", "y")


#     x ─▶ r ─▶ t ║─▶ y          noop only passes the order on: r, then s
#          ┊      ║   ▲
#          └▶ noop ┄┄▶ s          it is lost when there is state on both sides


def test_order_that_a_noop_passes_on_between_two_stateful_nodes_is_refused() -> None:
    whole = model(
        placeholder("x"),
        const("size", [2]),
        node("r", "RandomUniform", "size", **INT),
        node("noop", "NoOp", "^r"),
        node("t", "Add", "x", "r", "^noop"),
        node("s", "RandomUniform", "size", "^noop", **INT),
        node("y", "Add", "t", "s"),
    )
    why = r"'s' in section 'post' must run after 'r' \(RandomUniform, which holds state\) in an earlier section"
    with pytest.raises(CutError, match=why):
        plan(whole, outputs=["t"])


#     x ─▶ t ║─▶ n
#            ║   ┊
#            ║─▶ y ◀┄


@pytest.mark.parametrize("n", [node("n", "Relu", "t"), node("n", "RandomUniform", "size", **INT)], ids=["pure", "stateful"])
def test_control_input_within_one_section_is_kept(n: NodeDef) -> None:
    whole = model(placeholder("x"), const("size", [2]), node("t", "Neg", "x"), n, node("y", "Exp", "t", "^n"))
    parts = proven(whole, outputs=["t"])
    assert list(node_of(parts["post"], "y").input) == ["t", "^n"]
    assert "n" in names(parts["post"])


# 3. Ports
#
#            ┌─ s:0 ─▶ a ─▶ ║ ─▶ y
#     x ─▶ s ┤              ║    ▲
#            └─ s:1 ────────║────┘


def test_only_the_readers_of_port_1_are_rewired_when_port_1_is_the_target() -> None:
    whole = two_ports()
    parts = proven(whole, outputs=["s:1"])
    assert [(p.tensor, p.name) for p in parts["post"].inputs] == [("s:1", "s_port_1:0"), ("s:0", "s:0")]
    assert node_of(parts["post"], "s").op == node_of(parts["post"], "s_port_1").op == "Placeholder"
    (a,) = [n for n in whole.graph_def.node if n.name == "a"]
    assert node_of(parts["post"], "a") == a
    assert list(node_of(parts["post"], "y").input) == ["a", "s_port_1:0"]


def test_port_0_stays_behind_when_only_port_1_is_read_across_the_border() -> None:
    parts = proven(two_ports(), outputs=["a", "s:1"])
    assert crossing(parts["post"]) == ["a:0", "s:1"]
    assert names(parts["post"]) == ["s_port_1", "a", "y"]


#     s_port_1, a node of the user's own, is in the way


def test_new_name_of_port_1_meets_no_name_of_the_graph() -> None:
    parts = proven(two_ports(node("s_port_1", "Neg", "a"), node("z", "Neg", "s_port_1")), outputs=["a", "s:1"])
    assert [(p.tensor, p.name) for p in parts["post"].inputs if p.tensor == "s:1"] == [("s:1", "s_port_1_1:0")]
    assert list(node_of(parts["post"], "z").input) == ["s_port_1"]


def test_manifest_lists_the_new_name_of_port_1(tmp_path: Path) -> None:
    save(proven(two_ports(), outputs=["a", "s:1"]), tmp_path)
    post = json.loads((tmp_path / "split.json").read_text())["sections"][1]
    assert [(p["tensor"], p["name"]) for p in post["inputs"]] == [("a:0", "a:0"), ("s:1", "s_port_1:0")]


# 11. The dtype of a border tensor is that of the port that makes it
#
#                 ┌─ top:0 float32 ─║─▶ v
#     x ─▶ top ───┤                 ║
#      │          └─ top:1 int32 ───║─▶ i
#      ├─▶ big    bool ─────────────║─▶ b
#      ├─▶ half   float16 ──────────║─▶ h
#      └─▶ text   string ───────────║─▶ l


def test_every_placeholder_has_the_dtype_of_its_port() -> None:
    whole = model(
        placeholder("x", [None, 4]),
        const("two", 2),
        node("top", "TopKV2", "x", "two"),
        node("big", "Greater", "x", "x"),
        node("half", "Cast", "x", SrcT=tf.float32, DstT=tf.half),
        node("text", "AsString", "x"),
        node("v", "Neg", "top"),
        node("i", "Neg", "top:1", **INT),
        node("b", "LogicalNot", "big"),
        node("h", "Neg", "half", T=tf.half),
        node("l", "StringLength", "text"),
    )
    parts = proven(whole, outputs=["top:0", "top:1", "big", "half", "text"])
    expected = {"top:0": "float32", "top:1": "int32", "big:0": "bool", "half:0": "float16", "text:0": "string"}
    assert {p.tensor: p.dtype for p in parts["post"].inputs} == expected
    written = {p.tensor: node_of(parts["post"], p.name.removesuffix(":0")).attr["dtype"].type for p in parts["post"].inputs}
    assert written == {t: tf.as_dtype(d).as_datatype_enum for t, d in expected.items()}


# 12. Shapes
#
#     x [] unknown rank ─▶ a ║─▶ y          z [?, 3] ─▶ b ║─▶ w


def test_unknown_rank_and_free_batch_are_two_things() -> None:
    whole = model(
        placeholder("x", None),
        placeholder("z", [None, 3]),
        node("a", "Neg", "x"),
        node("b", "Neg", "z"),
        node("y", "Exp", "a"),
        node("w", "Exp", "b"),
    )
    parts = proven(whole, outputs=["a", "b"])
    assert {p.tensor: p.shape for p in parts["main"].inputs} == {"x:0": None, "z:0": (None, 3)}
    assert {p.tensor: p.shape for p in parts["post"].inputs} == {"a:0": None, "b:0": (None, 3)}
    assert node_of(parts["post"], "a").attr["shape"].shape.unknown_rank
    assert [d.size for d in node_of(parts["post"], "b").attr["shape"].shape.dim] == [-1, 3]


#     image [?, 8, 8, 3] ─▶ pool [?, 4, 4, 3] ─▶ boxes [?, anchors, 4] ║─▶ y
#       └─▶ shape ─▶ batch ─▶ [batch, -1, 4] ────┘


def test_number_of_anchors_is_inferred_and_the_batch_stays_free() -> None:
    whole = model(
        placeholder("image", [None, 8, 8, 3]),
        const("zero", [0]),
        const("one", [1]),
        const("rest", -1),
        const("four", 4),
        node("pool", "MaxPool", "image", ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID"),
        node("shape", "Shape", "image"),
        node("batch", "StridedSlice", "shape", "zero", "one", "one", Index=tf.int32, shrink_axis_mask=1, **INT),
        node("dims", "Pack", "batch", "rest", "four", N=3, **INT),
        node("boxes", "Reshape", "pool", "dims"),
        node("y", "Neg", "boxes"),
    )
    parts = proven(whole, outputs=["boxes"])
    assert [p.shape for p in parts["post"].inputs] == [(None, 12, 4)]
    assert [d.size for d in node_of(parts["post"], "boxes").attr["shape"].shape.dim] == [-1, 12, 4]


# 14. An output that lives in the first half
#
#     x ─▶ a ─▶ t ║─▶ y          a is an output of the whole
#          └▶ a   ║


def test_output_that_lives_in_the_first_half_is_given_by_it_and_never_run_again() -> None:
    whole = model(placeholder("x"), node("a", "Neg", "x"), node("t", "Exp", "a"), node("y", "Neg", "t"))
    parts = proven(whole, outputs=["t"], model_outputs=["a", "y"], repair="replicate")
    assert parts.outputs == ("a:0", "y:0")
    assert given(parts["main"]) == ["t:0", "a:0"]
    assert given(parts["post"]) == ["y:0"]
    assert names(parts["post"]) == ["t", "y"]


#     x ─▶ p ║─▶ t ║─▶ y          an output of pre goes past main and post
#          ┊ ║     ║
#          p ║     ║


def test_output_of_the_first_of_three_sections_comes_from_there() -> None:
    whole = model(placeholder("x"), node("p", "Neg", "x"), node("t", "Exp", "p"), node("y", "Neg", "t"))
    parts = proven(whole, inputs=["p"], outputs=["t"], model_outputs=["p", "y"])
    assert {p.name: given(p) for p in parts} == {"pre": ["p:0"], "main": ["t:0"], "post": ["y:0"]}


# 15. An input that both sections read
#
#     x ─▶ t ║─▶ y
#     └──────║───▲


def test_input_that_both_sections_read_is_an_input_of_both_and_crosses_nothing() -> None:
    whole = model(placeholder("x"), node("t", "Exp", "x"), node("y", "Sub", "t", "x"))
    parts = proven(whole, outputs=["t"])
    assert parts.inputs == ("x:0",)
    assert {p.name: crossing(p) for p in parts} == {"main": ["x:0"], "post": ["x:0", "t:0"]}
    assert given(parts["main"]) == ["t:0"]
    assert parts.borders == ("t:0",)
    assert parts.added == ()
    assert node_of(parts["post"], "x") == node_of(parts["main"], "x")
