"""Traps of state: functions that hold some, values that are not in the file, random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.errors import FormatError
from graphsplit.formats import GraphDefModel
from graphsplit.planning.plan import Added
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import verify
from tests.graphs import (
    INT,
    Func,
    FunctionDef,
    NodeDef,
    const,
    function,
    model,
    node,
    placeholder,
    proven,
)

# 7. Functions
#
#     x ─▶ call ─────────▶ t ║─▶ y          draw() { RandomUniform }
#            └───────────────║──▲           pure() { Neg }          outer() { call(…) }


PURE = function("pure", {"x": tf.float32}, {"y": tf.float32}, [node("neg", "Neg", "x")], {"y": "neg:y:0"})
DRAW = function(
    "draw",
    {"x": tf.float32},
    {"y": tf.float32},
    [
        node("size", "Shape", "x"),
        node("random", "RandomUniform", "size:output:0", **INT),
        node("sum", "Add", "x", "random:output:0"),
    ],
    {"y": "sum:z:0"},
)


def outer(inner: str) -> FunctionDef:
    """A function that calls another one."""
    call = node("call", "PartitionedCall", "x", Tin=[tf.float32], Tout=[tf.float32], f=Func(name=inner))
    return function("outer", {"x": tf.float32}, {"y": tf.float32}, [call], {"y": "call:output:0"})


def calling(op: str, callee: str, *functions: FunctionDef) -> GraphDefModel:
    attrs = {"Tin": [tf.float32], "Tout": [tf.float32], "f": Func(name=callee)} if op != callee else {}
    return model(
        placeholder("x"),
        node("call", op, "x", **attrs),
        node("t", "Exp", "call"),
        node("y", "Sub", "t", "call"),
        functions=functions,
    )


def test_functions_and_who_calls_them_are_indexed() -> None:
    index = calling("PartitionedCall", "outer", outer("draw"), DRAW).index
    assert index.calls == {"call": ("outer",)}
    assert {f.name: (f.ops, f.calls) for f in index.functions.values()} == {
        "outer": (("PartitionedCall",), ("draw",)),
        "draw": (("Add", "RandomUniform", "Shape"), ()),
    }


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall"])
def test_call_holds_state_when_its_function_does_whatever_the_op_says(op: str) -> None:
    for stateful, functions in ((True, [DRAW]), (False, [PURE])):
        name = functions[0].signature.name
        for callee, library in ((name, functions), ("outer", [outer(name), *functions])):
            assert calling(op, callee, *library).index.name_to_node_map["call"].stateful is stateful


def test_call_by_the_name_of_a_function_holds_state_when_the_function_does() -> None:
    assert calling("draw", "draw", DRAW).index.name_to_node_map["call"].stateful
    assert not calling("pure", "pure", PURE).index.name_to_node_map["call"].stateful


def test_call_of_a_pure_function_may_be_computed_again_and_takes_its_function_along() -> None:
    parts = proven(calling("StatefulPartitionedCall", "outer", outer("pure"), PURE), outputs=["t"], repair="replicate")
    assert parts.replicated == ("call",)
    assert [f.signature.name for f in parts["post"].graph_def.library.function] == ["outer", "pure"]


def test_call_of_a_function_that_draws_random_numbers_is_never_computed_again() -> None:
    parts = split(calling("PartitionedCall", "draw", DRAW), outputs=["t"], repair="replicate")
    assert parts.replicated == ()
    assert parts.added == (
        Added("call:0", "post", "y", "main and post both read it; PartitionedCall holds state and is never copied"),
    )


# 18. Not frozen
#
#     v (a value that is not in the file) ─▶ a ─▶ y
#     x ─────────────────────────────────────▲


SAVER = [
    const("save/file", np.array(b"checkpoint")),
    const("save/names", np.array([b"v"])),
    node("save/restore", "RestoreV2", "save/file", "save/names", "save/names", dtypes=[tf.float32]),
]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ([node("v", "VariableV2", shape=[2]), node("r", "Identity", "v")], "'v' is a VariableV2"),
        ([node("v", "VarHandleOp", shape=[2]), node("r", "ReadVariableOp", "v")], "'v' is a VarHandleOp"),
        ([node("r", "ReadVariableOp", "v"), node("v", "VarHandleOp", shape=[2])], "'r' is a ReadVariableOp"),
        (
            [
                *SAVER,
                node("v", "VariableV2", shape=[2]),
                node("save/Assign", "Assign", "v", "save/restore"),
                node("r", "Identity", "v"),
            ],
            "'v' is a VariableV2",
        ),
    ],
    ids=["variable", "resource", "first in the file", "saver"],
)
def test_graph_that_is_not_frozen_is_refused_with_the_first_such_node(nodes: Sequence[NodeDef], first: str) -> None:
    whole = model(placeholder("x", [2]), *nodes, node("a", "Add", "x", "r"), node("y", "Neg", "a"))
    why = rf"not frozen: {first}, whose value is not in the file; freeze the graph first \(tf.compat.v1.graph_util.convert_var"
    with pytest.raises(FormatError, match=why):
        whole.check_frozen()
    with pytest.raises(FormatError, match=why):
        verify(whole, split(whole, outputs=["a"], model_outputs=["y"]))


def test_variable_that_hides_in_a_function_is_found() -> None:
    read = function(
        "read",
        {"x": tf.float32},
        {"y": tf.float32},
        [node("v", "VarHandleOp", shape=[2]), node("r", "ReadVariableOp", "v:resource:0")],
        {"y": "r:value:0"},
    )
    with pytest.raises(FormatError, match="not frozen: 'v' is a VarHandleOp"):
        calling("StatefulPartitionedCall", "read", read).check_frozen()


# 19. Random numbers
#
#     x ─▶ t ║─▶ y          dropout left in: noise is read on both sides
#     noise ─┴──────▲


def noisy(seed: int = 0) -> GraphDefModel:
    return model(
        placeholder("x"),
        const("size", [2]),
        const("half", 0.5),
        node("dropout/random_uniform", "RandomUniform", "size", seed=seed, seed2=seed, **INT),
        node("keep", "Floor", "dropout/random_uniform"),
        node("t", "Mul", "x", "keep"),
        node("y", "Sub", "t", "dropout/random_uniform"),
    )


@pytest.mark.parametrize("repair", ["auto", "replicate", "border"])
def test_random_op_is_never_copied(repair: str) -> None:
    parts = split(noisy(), outputs=["t"], repair=repair)
    why = "main and post both read it; RandomUniform holds state and is never copied"
    assert parts.added == (Added("dropout/random_uniform:0", "post", "y", why),)
    assert parts.replicated == ()
    assert "RandomUniform" not in {n.op for n in parts["post"].graph_def.node}


def test_random_values_are_fed_alike_to_whole_and_sections() -> None:
    whole = noisy()
    report = verify(whole, split(whole, outputs=["t"]))
    assert report.equal
    assert report.drawn == ("dropout/random_uniform:0",)


def test_seeded_random_numbers_are_equal_since_they_are_drawn_once() -> None:
    proven(noisy(seed=7), outputs=["t"])
