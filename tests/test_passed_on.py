"""Tensors that a node only passes on: those equal to an input of the whole are that input, and borders have the model's names.

x ─▶ same ─┬─▶ conv ─▶ h ║─▶ y          same: Identity, StopGradient, …: post takes x itself, nothing crosses but h
           └─────────────║─▶ ▲
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.formats import GraphDefModel
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.planning.plan import Plan, Repair

from .formats.tflite.builder import Built
from .graphs import const, model, node, placeholder

REPAIRS: tuple[Repair, ...] = ("auto", "replicate", "border", "error")


def passing(*ops: str, first: str = "x") -> tuple[list[Any], str]:
    """A chain of nodes that pass a tensor on, and the name of its end."""
    nodes = []
    for number, op in enumerate(ops):
        types = [tf.float32] if op == "IdentityN" else tf.float32
        nodes.append(node(f"same_{number}", op, first, T=types))
        first = f"same_{number}"
    return nodes, first


def read_twice(*before: Any, first: str = "x", ops: tuple[str, ...] = ("Identity",)) -> GraphDefModel:
    nodes, end = passing(*ops, first=first)
    return model(*before, *nodes, node("h", "Exp", end), node("y", "Mul", "h", end))


def inputs_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {s.name: s.inputs for s in plan.sections}


@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.parametrize(
    "ops",
    [
        ("Identity",),
        ("Identity", "Identity", "Identity"),
        ("StopGradient", "PreventGradient"),
        ("IdentityN", "Snapshot"),
        ("PreventGradient",),
    ],
)
def test_what_passes_an_input_on_is_that_input(ops: tuple[str, ...], repair: Repair) -> None:
    whole = read_twice(placeholder("x"), ops=ops)
    parts = gs.split(whole, outputs=["h"], repair=repair, isolate=False)
    assert parts.plan is not None
    assert inputs_of(parts.plan) == {"main": ("x:0",), "post": ("x:0", "h:0")}
    assert (parts.plan.borders, parts.added) == (("h:0",), ())
    assert set(parts.replicated) == {f"same_{i}" for i in range(len(ops))}
    assert gs.verify(whole, parts, isolate=False).equal


def test_several_inputs_are_passed_on_by_one_node() -> None:
    both = node("both", "IdentityN", "x", "two", T=[tf.float32, tf.float32])
    whole = model(placeholder("x"), const("two", 2.0), both, node("h", "Exp", "both"), node("y", "Pow", "h", "both:1"))
    parts = gs.split(whole, outputs=["h"], repair="border", isolate=False)
    assert [p.tensor for p in parts["post"].inputs] == ["x:0", "h:0"]
    assert gs.verify(whole, parts, isolate=False).equal


def test_what_also_passes_on_what_is_computed_crosses() -> None:
    both = node("both", "IdentityN", "x", "h", T=[tf.float32, tf.float32])
    whole = model(placeholder("x"), node("h", "Exp", "x"), both, node("g", "Exp", "both"), node("y", "Mul", "g", "both:1"))
    plan = gs.plan(whole, outputs=["g"], repair="border", isolate=False)
    assert inputs_of(plan)["post"] == ("g:0", "both:1")


def test_what_was_named_stays_named() -> None:
    whole = read_twice(placeholder("x"))
    plan = gs.plan(whole, inputs=["same_0"], outputs=["h"], isolate=False)
    assert inputs_of(plan) == {"pre": ("x:0",), "main": ("same_0:0",), "post": ("same_0:0", "h:0")}


def test_an_output_that_is_an_input_is_in_the_last_section() -> None:
    whole = model(placeholder("x"), node("out", "StopGradient", "x"), node("h", "Exp", "x"), node("y", "Neg", "h"))
    parts = gs.split(whole, outputs=["h"], isolate=False)
    assert [p.tensor for p in parts["post"].outputs] == ["out:0", "y:0"]
    assert gs.verify(whole, parts, isolate=False).equal


def test_a_constant_default_is_taken_by_each_section_and_a_computed_one_crosses() -> None:
    default = node("d", "PlaceholderWithDefault", "zeros", shape=[None, 2], dtype=tf.float32)
    whole = read_twice(const("zeros", np.zeros([1, 2], np.float32)), default, first="d")
    assert inputs_of(gs.plan(whole, outputs=["h"], repair="border", isolate=False)) == {"main": ("d:0",), "post": ("d:0", "h:0")}
    computed = node("d", "PlaceholderWithDefault", "twice", shape=[None, 2], dtype=tf.float32)
    whole = read_twice(placeholder("x"), node("twice", "Add", "x", "x"), computed, first="d")
    assert inputs_of(gs.plan(whole, outputs=["h"], repair="border", isolate=False))["post"] == ("h:0", "same_0:0")
    # A default that is an input of the whole is another input: it may be fed.
    direct = node("d", "PlaceholderWithDefault", "x", shape=[None, 2], dtype=tf.float32)
    whole = read_twice(placeholder("x"), direct, first="d")
    parts = gs.split(whole, outputs=["h"], isolate=False)
    feeds = {"x:0": np.ones([1, 2], np.float32), "d:0": np.full([1, 2], 3, np.float32)}
    assert gs.verify(whole, parts, feeds, isolate=False).equal


def test_what_runs_after_state_crosses() -> None:
    state = node("state", "RandomUniform", "shape", dtype=tf.float32, T=tf.int32)
    shape = const("shape", np.array([1], np.int32))
    rest = node("h", "Exp", "same"), node("y", "Mul", "h", "same")
    whole = model(placeholder("x"), shape, state, node("same", "Identity", "x", "^state"), *rest)
    assert "same:0" in gs.plan(whole, outputs=["h"], repair="border", isolate=False).borders
    check = const("yes", True, np.bool_), node("check", "Assert", "yes", "x", T=[tf.float32])
    whole = model(placeholder("x"), *check, node("same", "Identity", "x", "^check"), *rest)
    assert gs.plan(whole, outputs=["h"], repair="border", isolate=False).borders == ("h:0",)


@pytest.mark.parametrize(("name", "shape", "borders"), [("same", [1, 4], {"h"}), ("other", [4, 1], {"h", "other"})])
def test_a_view_of_a_tflite_file_that_changes_nothing_is_its_input(name: str, shape: list[int], borders: set[str]) -> None:
    built = Built()
    x = built.main.tensor("x", [1, 4])
    size = built.main.tensor("size", [2], "int32", value=np.array(shape, np.int32))
    view, h, y = (built.main.tensor(n, shape) for n in (name, "h", "y"))
    built.main.op("RESHAPE", [x, size], [view])
    built.main.op("EXP", [view], [h])
    built.main.op("ADD", [h, view], [y])
    built.main.ends([x], [y])
    whole = TFLiteModel(built.bytes())
    parts = gs.split(whole, outputs=["h"], repair="border", isolate=False)
    assert parts.plan is not None
    assert set(parts.plan.borders) == borders
    assert gs.verify(whole, parts, isolate=False).equal


# names


def inlined(*, read_before: bool) -> GraphDefModel:
    """A head whose output leaves two functions; `read_before`: a layer of main reads the last of the names."""
    kernel = const("kernel", np.ones([1, 1, 3, 3], np.float32))
    conv = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    chosen = "Func/call/output/_15"
    return model(
        placeholder("x", [1, 8, 8, 3]),
        kernel,
        node("call/head", "Conv2D", "x", "kernel", **conv),
        node("call/Identity_1", "Identity", "call/head"),
        node(chosen, "Identity", "call/Identity_1"),
        node("late", "Conv2D", chosen if read_before else "x", "kernel", **conv),
        *(const("size", [48, 4]), const("one", 1), const("most", 5), const("iou", 0.5), const("zero", 0)),
        node("boxes", "Reshape", chosen, "size", Tshape=tf.int32),
        node("best", "Max", "boxes", "one", Tidx=tf.int32),
        node("nms", "NonMaxSuppressionV3", "boxes", "best", "most", "iou", "iou", T_threshold=tf.float32),
        node("y", "GatherV2", "boxes", "nms", "zero", Tparams=tf.float32, Tindices=tf.int32, Taxis=tf.int32),
        node("z", "TopKV2", "late", "one", sorted=True),
    )


def test_suggested_cuts_have_the_names_of_the_model() -> None:
    for read_before in (False, True):
        whole = inlined(read_before=read_before)
        for cut in gs.suggest(whole, isolate=False):
            names = [*(o.name for o in cut.outputs), *cut.inputs, *cut.added]
            assert not [n for n in names if n.startswith("Func/") or "Identity" in n], (cut.name, names)
            parts = gs.split(whole, outputs=[o.name for o in cut.outputs], inputs=list(cut.inputs) or None, isolate=False)
            assert gs.verify(whole, parts, isolate=False).equal


@pytest.mark.parametrize("repair", REPAIRS)
def test_added_tensors_have_the_names_of_the_model(repair: Repair) -> None:
    names = "f/Identity", "Func/f/output/_1"
    alike = [node(name, "Identity", read) for name, read in zip(names, ("root", *names), strict=False)]
    whole = model(placeholder("x"), node("root", "Exp", "x"), *alike, node("h", "Neg", names[1]), node("y", "Mul", "h", names[1]))
    root = gs.split(whole, outputs=["h", "root"], repair=repair, isolate=False)
    assert [p.tensor for p in root["post"].inputs] == ["h:0", "root:0"]
    assert set(root.replicated) == set(names)
    assert gs.verify(whole, root, isolate=False).equal
    own = gs.split(whole, outputs=["h", names[1]], repair=repair, isolate=False)
    assert [p.tensor for p in own["post"].inputs] == ["h:0", f"{names[1]}:0"]
    if repair in ("auto", "border"):
        added = gs.plan(whole, outputs=["h"], repair=repair, isolate=False).added
        assert [a.tensor for a in added] == ["root:0" if repair == "auto" else f"{names[1]}:0"]


@pytest.mark.parametrize(("name", "crossing"), [("scores", "scores"), ("Identity_2", "root"), ("Func/a/b/input/_3", "root")])
def test_a_name_that_the_author_gave_to_an_identity_is_the_models_own(name: str, crossing: str) -> None:
    rest = node(name, "Identity", "root"), node("h", "Neg", name), node("y", "Mul", "h", name)
    plan = gs.plan(model(placeholder("x"), node("root", "Exp", "x"), *rest), outputs=["h"], isolate=False)
    assert [a.tensor for a in plan.added] == [f"{crossing}:0"]
