"""Traps of control flow: loops, conds and handles stay whole, and the file keeps its order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.errors import CutError
from graphsplit.formats import GraphDefModel
from graphsplit.planning.plan import Added
from graphsplit.splitting.surgery import plan
from graphsplit.verification.equivalence import verify
from tests.graphs import (
    INT,
    Func,
    NodeDef,
    const,
    crossing,
    function,
    given,
    loop,
    model,
    names,
    node,
    placeholder,
    proven,
)

# 6. Loops stay whole
#
#                 ┌──────── loop ────────┐
#     x ─▶ enter ─┤ value ─▶ neg ─▶ next ├─▶ exit ───▶ y
#     0 ─▶ enter ─┤ i ─────▶ add ─▶ next ├─▶ exit_i ─▶ t ─▶ y
#                 └──────────────────────┘


def looping(*more: NodeDef) -> GraphDefModel:
    return model(
        placeholder("x"),
        *loop("loop", "x", [node("loop/neg", "Neg", "loop/value")], "loop/neg"),
        node("t", "Cast", "loop/exit_i", SrcT=tf.int32, DstT=tf.float32),
        node("y", "Sub", "loop/exit", "t"),
        *more,
    )


@pytest.mark.parametrize("inside", ["neg", "value", "merge:1", "switch:1", "less", "cond", "next", "enter", "one"])
def test_target_inside_a_loop_is_refused_with_the_loop_and_its_nearest_borders(inside: str) -> None:
    tensor = f"loop/{inside}" if ":" in inside else f"loop/{inside}:0"
    why = (
        rf"'{tensor}' lies inside the loop 'loop', which must stay whole; the nearest legal borders are \[.*\] after it and \[x:0\]"
    )
    with pytest.raises(CutError, match=why) as e:
        plan(looping(), outputs=[f"loop/{inside}"])
    assert e.value.cut == (tensor,)
    for exit_ in ("loop/exit:0", "loop/exit_i:0"):
        assert exit_ in str(e.value)


@pytest.mark.parametrize(
    ("inside", "exits"),
    [("neg", "loop/exit:0, loop/exit_i:0"), ("add", "loop/exit_i:0, loop/exit:0"), ("i", "loop/exit_i:0, loop/exit:0")],
)
def test_nearest_border_of_a_loop_comes_first(inside: str, exits: str) -> None:
    with pytest.raises(CutError, match=rf"borders are \[{exits}\] after it"):
        plan(looping(), outputs=[f"loop/{inside}"])


def test_loop_goes_whole_to_the_first_section_that_needs_any_of_it() -> None:
    whole = looping()
    assert "loop/neg" not in whole.index.ancestors(["t"]), "plain reachability would leave half of the loop behind"
    parts = proven(whole, outputs=["t"])
    assert {n for n in names(parts["main"]) if n.startswith("loop/")} == {
        n.name for n in whole.index.nodes if n.name.startswith("loop/")
    }
    assert names(parts["post"]) == ["loop/exit", "t", "y"]
    assert [(a.tensor, a.section, a.consumer) for a in parts.added] == [("loop/exit:0", "post", "y")]


@pytest.mark.parametrize("target", ["loop/exit", "loop/exit_i"])
def test_exit_of_a_loop_is_a_legal_border(target: str) -> None:
    parts = proven(looping(), outputs=[target])
    assert set(given(parts["main"])) == {"loop/exit:0", "loop/exit_i:0"}
    assert names(parts["post"]) == ["loop/exit_i", "loop/exit", "t", "y"]


#     x ─▶ s ║─▶ enter ─ loop ─ exit ─▶ y


def test_what_enters_a_loop_is_a_legal_border() -> None:
    body = [node("loop/neg", "Neg", "loop/value")]
    whole = model(placeholder("x"), node("s", "Exp", "x"), *loop("loop", "s", body, "loop/neg"), node("y", "Neg", "loop/exit"))
    parts = proven(whole, outputs=["s"], model_outputs=["y"])
    assert names(parts["main"]) == ["x", "s"]
    assert crossing(parts["post"]) == ["s:0"]


#                 ┌───────────── outer ─────────────┐
#     x ─▶ enter ─┤ value ─▶ ┌─ inner ─┐ ─▶ next    ├─▶ exit ─▶ y
#                 │          └─────────┘            │
#                 └─────────────────────────────────┘


def test_loop_in_a_loop_is_one_group_with_it() -> None:
    inner = loop("outer/inner", "outer/value", [node("outer/inner/neg", "Neg", "outer/inner/value")], "outer/inner/neg", "^outer/i")
    whole = model(placeholder("x"), *loop("outer", "x", inner, "outer/inner/exit"), node("y", "Exp", "outer/exit"))
    (group,) = whole.index.groups.values()
    assert (group.name, group.kind) == ("outer", "loop")
    for inside in ("outer/inner/neg", "outer/inner/exit", "outer/inner/three"):
        with pytest.raises(
            CutError, match=rf"'{inside}:0' lies inside the loop 'outer', .* \[outer/exit:0\] after it and \[x:0\] before"
        ):
            plan(whole, outputs=[inside], model_outputs=["y"])
    parts = proven(whole, outputs=["outer/exit"], model_outputs=["y"])
    assert names(parts["post"]) == ["outer/exit", "y"]


#           ┌─ s:0 ─▶ c/neg ─┐
#     x ─▶ s                 ├─▶ m:0 ─▶ y
#     p ──▶ └─ s:1 ─▶ c/exp ─┘   m:1 ─▶ z          a cond: one of the branches is dead


def branching() -> GraphDefModel:
    return model(
        placeholder("x"),
        placeholder("p", [], tf.bool),
        node("c/s", "Switch", "x", "p"),
        node("c/neg", "Neg", "c/s"),
        node("c/exp", "Exp", "c/s:1"),
        node("c/m", "Merge", "c/neg", "c/exp", N=2),
        node("y", "Neg", "c/m"),
        node("z", "Neg", "c/m:1", **INT),
    )


@pytest.mark.parametrize("inside", ["c/s:0", "c/s:1", "c/neg:0", "c/exp:0"])
def test_target_inside_a_cond_is_refused_since_it_may_be_dead(inside: str) -> None:
    why = rf"'{inside}' lies inside the cond 'c', which must stay whole; .* \[c/m:0, c/m:1\] after it and \[x:0, p:0\] before it"
    with pytest.raises(CutError, match=why):
        plan(branching(), outputs=[inside])


@pytest.mark.parametrize("p", [False, True])
def test_both_outputs_of_a_merge_are_legal_borders(p: bool) -> None:
    whole = branching()
    parts = proven(whole, outputs=["c/m"], repair="border")
    assert [(port.tensor, port.name, port.dtype) for port in parts["post"].inputs] == [
        ("c/m:0", "c/m:0", "float32"),
        ("c/m:1", "c/m_port_1:0", "int32"),
    ]
    verify(whole, parts, {"x:0": np.ones([1, 2], np.float32), "p:0": np.array(p)}).check()


#     x ─▶ list ┄variant┄▶ stack ─▶ y
#
#     x ─────────────────▶ write ┄flow┄▶ read ─▶ y          what ┄┄ carries stands for something else
#     array ┄handle, flow┄▶┘  ┄handle┄▶┘


LIST = [
    placeholder("x", [3, 2]),
    const("shape", [2]),
    node("list", "TensorListFromTensor", "x", "shape", element_dtype=tf.float32, shape_type=tf.int32),
    node("read", "TensorListStack", "list", "shape", element_dtype=tf.float32, num_elements=3),
    node("y", "Neg", "read"),
]
ARRAY = [
    placeholder("x", [2]),
    const("one", 1),
    const("zero", 0),
    node("array", "TensorArrayV3", "one", clear_after_read=False),
    node("write", "TensorArrayWriteV3", "array", "zero", "x", "array:1"),
    node("read", "TensorArrayReadV3", "array", "zero", "write", dtype=tf.float32),
    node("y", "Neg", "read"),
]


@pytest.mark.parametrize(
    ("nodes", "target", "dtype"),
    [(LIST, "list:0", "variant"), (ARRAY, "array:0", "resource"), (ARRAY, "array:1", "float32"), (ARRAY, "write:0", "float32")],
    ids=["TensorList", "TensorArray handle", "first flow", "flow"],
)
def test_readers_of_a_handle_stay_with_it_and_what_they_give_crosses(nodes: Sequence[NodeDef], target: str, dtype: str) -> None:
    parts = proven(model(*nodes), outputs=[target])
    why = f"{target} is a handle ({dtype}) and cannot cross, so what reads it stays in main"
    assert parts.added == (Added("read:0", "post", "y", why),)
    assert given(parts["main"]) == crossing(parts["post"]) == ["read:0"]
    assert names(parts["post"]) == ["read", "y"]
    assert parts.plan is not None
    assert parts.plan.notes == (f"{target} is a handle: it stays in main with everything that reads it",)


#     flow ─▶ Switch ─┬─▶ write ─┐
#                     └──────────┴─▶ m:0 ┄flow┄▶ read ─▶ y        a cond passes a flow on; which branch it came through
#                                    m:1 ─▶ z                     is a plain number, and may leave


MERGED = [
    placeholder("x", [2]),
    placeholder("p", [], tf.bool),
    const("one", 1),
    const("zero", 0),
    node("array", "TensorArrayV3", "one", clear_after_read=False),
    node("first", "TensorArrayWriteV3", "array", "zero", "x", "array:1"),
    node("c/s", "Switch", "first", "p"),
    node("c/same", "Identity", "c/s"),
    node("c/other", "Identity", "c/s:1"),
    node("c/m", "Merge", "c/same", "c/other", N=2),
    node("read", "TensorArrayReadV3", "array", "zero", "c/m", dtype=tf.float32),
    node("y", "Neg", "read"),
    node("z", "Neg", "c/m:1", **INT),
]


def test_the_flow_through_a_merge_is_a_handle_and_the_number_of_its_branch_is_not() -> None:
    index = model(*MERGED).index
    assert {"c/m:0", "first:0", "array:1"} <= index.handles
    assert "c/m:1" not in index.captive
    assert "read:0" not in index.captive
    assert index.name_to_node_map["read"].group == index.name_to_node_map["c/m"].group is not None
    assert index.name_to_node_map["z"].group is None
    assert (index.tensors["c/m:0"].dtype, index.tensors["c/m:1"].dtype) == ("float32", "int32")


@pytest.mark.parametrize("p", [False, True])
def test_the_number_of_a_branch_crosses_and_the_flow_beside_it_stays(p: bool) -> None:
    whole = model(*MERGED)
    parts = proven(whole, outputs=["c/m:1"], repair="border")
    assert [(port.tensor, port.dtype, port.shape) for port in parts["post"].inputs] == [
        ("c/m:1", "int32", ()),
        ("read:0", "float32", None),
    ]
    assert names(parts["post"]) == ["c/m_port_1", "read", "y", "z"]
    verify(whole, parts, {"x:0": np.float32([1, 2]), "p:0": np.array(p)}).check()


def test_handle_as_target_is_refused_when_nothing_may_be_repaired() -> None:
    with pytest.raises(CutError, match="'list:0' is a handle and cannot cross a border; name what reads it"):
        plan(model(*LIST), outputs=["list"], repair="error")


#     x ─▶ list ┄variant┄▶ while ┄variant┄▶ stack ─▶ y          the naive border of a TF2 export: a TensorList that leaves
#     0 ─────────────────▶       ─▶ t ─▶ y                       a loop


def test_tensor_list_that_leaves_a_functional_loop_does_not_cross() -> None:
    state = {"i": tf.int32, "list": tf.variant}
    element = {"element_dtype": tf.float32}
    cond = function(
        "cond", state, {"go": tf.bool}, [const("three", 3), node("less", "Less", "i", "three:output:0", **INT)], {"go": "less:z:0"}
    )
    body = function(
        "body",
        state,
        {"i_next": tf.int32, "list_next": tf.variant},
        [
            const("one", 1),
            const("shape", [2]),
            node("add", "AddV2", "i", "one:output:0", **INT),
            node("get", "TensorListGetItem", "list", "i", "shape:output:0", **element),
            node("neg", "Neg", "get:item:0"),
            node("set", "TensorListSetItem", "list", "i", "neg:y:0", **element),
        ],
        {"i_next": "add:z:0", "list_next": "set:output_handle:0"},
    )
    while_ = node(
        "while", "StatelessWhile", "zero", "list", T=[tf.int32, tf.variant], cond=Func(name="cond"), body=Func(name="body")
    )
    whole = model(
        *LIST[:3],
        const("zero", 0),
        while_,
        node("t", "Cast", "while", SrcT=tf.int32, DstT=tf.float32),
        node("read", "TensorListStack", "while:1", "shape", num_elements=3, **element),
        node("y", "Sub", "read", "t"),
        functions=[cond, body],
    )
    parts = proven(whole, outputs=["t"])
    assert crossing(parts["post"]) == ["t:0", "read:0"]
    assert parts.added[0].consumer == "y"
    assert [p.dtype for p in parts["post"].inputs] == ["float32", "float32"]


#     array ┄handle, flow┄▶ ┌─ loop ──────────────────────┐
#     x ─▶ write ┄flow┄▶    │ value + read(handle, i, flow) │─▶ exit ─▶ y          one group, by its handles
#                           └─────────────────────────────┘


def test_tensor_array_that_a_loop_reads_is_one_group_with_the_loop() -> None:
    body = [
        node("loop/handle", "Enter", "array", frame_name="loop", is_constant=True, T=tf.resource),
        node("loop/flow", "Enter", "write", frame_name="loop", is_constant=True),
        const("loop/zero_too", 0, None, "^loop/i"),
        node("loop/read", "TensorArrayReadV3", "loop/handle", "loop/zero_too", "loop/flow", dtype=tf.float32),
        node("loop/sum", "Add", "loop/value", "loop/read"),
    ]
    whole = model(*ARRAY[:5], *loop("loop", "x", body, "loop/sum"), node("y", "Neg", "loop/exit"))
    assert {n.name: n.group for n in whole.index.nodes if n.group is None or not n.name.startswith("loop/")} == {
        **dict.fromkeys(["x", "one", "zero", "loop/zero", "loop/three", "y"]),
        **dict.fromkeys(["array", "write"], "loop"),
    }
    parts = proven(whole, outputs=["write"], model_outputs=["y"])
    assert names(parts["post"]) == ["loop/exit", "y"]


# 22. The order of the file
#
#     y, t, x, a          a file may hold readers before makers


def test_nodes_keep_the_order_of_the_file_and_placeholders_stand_where_their_makers_stood() -> None:
    whole = model(node("y", "Sub", "t", "a"), node("t", "Exp", "a"), placeholder("x"), node("a", "Neg", "x"))
    parts = proven(whole, outputs=["t"], repair="border")
    assert names(parts["main"]) == ["t", "x", "a"]
    assert names(parts["post"]) == ["y", "t", "a"]
    assert parts.plan is not None
    assert {s.name: s.nodes for s in parts.plan.sections} == {"main": ("t", "a"), "post": ("y",)}


#     enter ─▶ merge ─▶ switch ─▶ … ─▶ next          merge stands before next, which it reads
#                ▲──────────────────────┘


def test_back_edges_of_a_loop_keep_their_order() -> None:
    whole = looping()
    for cut in ("t", "loop/exit"):
        main = proven(whole, outputs=[cut])["main"]
        assert names(main) == [n.name for n in whole.index.nodes if n.name in set(names(main))]
        assert names(main).index("loop/merge") < names(main).index("loop/next")
