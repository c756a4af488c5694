"""Traps of names: how tensors are spelled, what the sections take along, and what things are called in one graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.errors import TensorNotFoundError
from graphsplit.execution.placement import Placed, place
from graphsplit.formats import GraphDefModel
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.parts.parts import Part, Parts
from graphsplit.planning.cuts import Cut
from graphsplit.splitting.surgery import plan
from tests.graphs import Func, FunctionDef, function, graph, model, node, node_of, placeholder, proven, two_ports

ON_CPU = {"main": "/cpu:0", "post": "/cpu:0"}


# 4. Spellings
#
#            ┌─ s:0 ─▶ a ─┐
#     x ─▶ s ┤            ├─▶ y
#            └─ s:1 ──────┘


@pytest.mark.parametrize("written", ["a", "a:0", "^a", " a ", "^a:0"])
def test_name_with_port_without_and_with_caret_are_one_tensor(written: str) -> None:
    whole = two_ports()
    assert plan(whole, outputs=[written, "s:1"]).cuts == (Cut("main", ("a:0", "s:1")),)
    assert plan(whole, outputs=f"{written},s:1").cuts == (Cut("main", ("a:0", "s:1")),)


@pytest.mark.parametrize("zero", ["s", "s:0"])
def test_file_may_write_port_0_or_leave_it_out(zero: str) -> None:
    parts = proven(two_ports(zero=zero), outputs=["s:0", "s:1"])
    assert [(p.tensor, p.name) for p in parts["post"].inputs] == [("s:0", "s:0"), ("s:1", "s_port_1:0")]
    assert list(node_of(parts["post"], "a").input) == [zero]


def test_unknown_name_is_told_with_the_closest_ones() -> None:
    whole = model(placeholder("x"), node("Postprocessor/Slice", "Exp", "x"), node("y", "Neg", "Postprocessor/Slice"))
    with pytest.raises(TensorNotFoundError, match="no tensor named 'Postprocessor/Slise'; did you mean 'Postprocessor/Slice'"):
        plan(whole, outputs=["Postprocessor/Slise"])
    with pytest.raises(TensorNotFoundError, match="no tensor named 'Postprocessor/Slice:1'; did you mean 'Postprocessor/Slice:0'"):
        plan(whole, outputs=["Postprocessor/Slice:1"])
    with pytest.raises(
        TensorNotFoundError, match=r"no tensor named 'nothing/of/the/kind'; the model has input x:0 and output y:0$"
    ):
        plan(whole, outputs=["nothing/of/the/kind"])


#     in ─▶ conv ─▶ "StatefulPartitionedCall:0"          names as other formats have them: the node makes one tensor
#               └─▶ "a;b/c:1"                            that is called as it is called


def test_port_is_split_off_only_where_the_node_exists() -> None:
    made = ("StatefulPartitionedCall:0", "a;b/c:1", "conv:x")
    nodes = (Node("in", "INPUT", outputs=("in",), kind="input"), Node("conv", "CONV_2D", ("in",), made))
    index = GraphIndex(nodes, {t: TensorSpec(t) for t in ("in", *made)}, ("in",), made)
    assert [index.tensor(t) for t in made] == list(made)
    assert index.tensor("conv") == "StatefulPartitionedCall:0"
    for name in ("StatefulPartitionedCall", "a;b/c", "conv:1"):
        with pytest.raises(TensorNotFoundError, match=f"no tensor named '{name}'"):
            index.tensor(name)
    assert index.node("a;b/c:1").name == "conv"


# 5. Versions and library
#
#     x ─▶ first: half() ─▶ t ║─▶ second: twice() ─▶ y          half() calls inner(); slope() is the gradient of twice();
#                                                               nobody calls idle()


def unary(name: str, op: str = "Neg", **attrs: Any) -> FunctionDef:
    attrs = {"Tin": [tf.float32], "Tout": [tf.float32], **attrs} if op == "PartitionedCall" else attrs
    result = "f:output:0" if op == "PartitionedCall" else "f:y:0"
    return function(name, {"x": tf.float32}, {"y": tf.float32}, [node("f", op, "x", **attrs)], {"y": result})


def with_library(producer: int = 987) -> GraphDefModel:
    call = {"Tin": [tf.float32], "Tout": [tf.float32]}
    made = graph(
        placeholder("x"),
        node("first", "PartitionedCall", "x", f=Func(name="half"), **call),
        node("t", "Exp", "first"),
        node("second", "PartitionedCall", "t", f=Func(name="twice"), **call),
        node("y", "Neg", "second"),
        functions=[unary("idle"), unary("inner", "Exp"), unary("half", "PartitionedCall", f=Func(name="inner"))],
        producer=producer,
    )
    made.library.function.extend([unary("slope", "PartitionedCall", f=Func(name="rise")), unary("rise", "Sin"), unary("twice")])
    made.library.gradient.add(function_name="twice", gradient_func="slope")
    made.library.gradient.add(function_name="idle", gradient_func="inner")
    made.versions.min_consumer = 12
    made.versions.bad_consumers.append(9)
    return GraphDefModel([made.SerializeToString()])


def test_versions_are_kept_in_every_section() -> None:
    whole = with_library()
    for part in proven(whole, outputs=["t"]):
        assert part.graph_def.versions == whole.graph_def.versions
        assert part.graph_def.versions.producer == 987


#     x [] ─▶ t ║─▶ y          a scalar for producers from 22 on, of unknown rank for older ones


@pytest.mark.parametrize(("producer", "shape"), [(22, ()), (21, None)])
def test_producer_version_decides_what_a_placeholder_without_dimensions_is(producer: int, shape: tuple[int, ...] | None) -> None:
    whole = model(placeholder("x", []), node("t", "Exp", "x"), node("y", "Sub", "t", "x"), producer=producer)
    for part in proven(whole, outputs=["t"]):
        assert part.model.index.tensors["x:0"].shape == shape
        with tf.Graph().as_default() as imported:
            tf.graph_util.import_graph_def(part.graph_def, name="")
        assert imported.get_tensor_by_name("x:0").shape.rank == (None if shape is None else len(shape))


def test_library_is_pruned_to_what_is_called_through_other_functions_and_gradients_too() -> None:
    parts = proven(with_library(), outputs=["t"])

    def library(part: Part) -> list[str]:
        return [f.signature.name for f in part.graph_def.library.function]

    assert library(parts["main"]) == ["inner", "half"]
    assert library(parts["post"]) == ["slope", "rise", "twice"]
    assert [g.function_name for g in parts["main"].graph_def.library.gradient] == []
    assert [(g.function_name, g.gradient_func) for g in parts["post"].graph_def.library.gradient] == [("twice", "slope")]


def test_section_that_calls_nothing_has_no_library() -> None:
    parts = proven(with_library(), outputs=["second"])
    assert parts["main"].graph_def.HasField("library")
    assert not parts["post"].graph_def.HasField("library")


# 8. Names in one graph
#
#     x ─▶ T ║─▶ T_1 ─▶ y          the name that TensorFlow would give to the second T is taken
#            ║──────────▲


def taken() -> Parts:
    whole = model(placeholder("x"), node("T", "Neg", "x"), node("T_1", "Exp", "T"), node("y", "Sub", "T", "T_1"))
    return proven(whole, outputs=["T"])


def ops(placed: Placed, section: str) -> dict[str, str]:
    return {tensor: placed.graph.get_tensor_by_name(name).op.type for tensor, name in placed.names[section].items()}


def test_names_of_both_halves_are_given_and_not_guessed_even_where_t_1_exists() -> None:
    parts = taken()
    placed = place(parts, ON_CPU)
    assert ops(placed, "main") == {"x:0": "Placeholder", "T:0": "Neg"}
    assert ops(placed, "post") == {"T:0": "Placeholder", "T_1:0": "Exp", "y:0": "Sub"}
    assert len(set(placed.names["main"].values()) | set(placed.names["post"].values())) == 5
    assert placed.names["post"]["T:0"] not in ("T:0", placed.names["post"]["T_1:0"])
    x = np.array([[1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(placed.run({"x:0": x})["y:0"], -x - np.exp(-x))


#     x ─▶ T ─▶ T_1 ║─▶ y          both T and T_1 are in both halves


def test_second_half_gets_t_2_where_the_first_one_has_t_and_t_1() -> None:
    whole = model(placeholder("x"), node("T", "Neg", "x"), node("T_1", "Exp", "T"), node("y", "Sub", "T", "T_1"))
    placed = place(proven(whole, outputs=["T", "T_1"]), ON_CPU)
    assert placed.names["main"] == {"x:0": "x:0", "T:0": "T:0", "T_1:0": "T_1:0"}
    assert placed.names["post"]["T:0"] == "T_2:0"
    assert ops(placed, "post") == {"T:0": "Placeholder", "T_1:0": "Placeholder", "y:0": "Sub"}


def test_port_1_is_found_in_the_map_under_its_name_in_the_whole() -> None:
    placed = place(proven(two_ports(), outputs=["s:1", "a"]), ON_CPU)
    assert ops(placed, "post") == {"s:1": "Placeholder", "a:0": "Placeholder", "y:0": "Sub"}
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    np.testing.assert_allclose(placed.run({"x:0": x})["y:0"], np.exp(x[:, :2]) - x[:, 2:], rtol=1e-6)


def test_classic_import_of_both_halves_into_one_graph_still_works_and_has_the_names_of_the_map() -> None:
    whole = model(placeholder("x"), node("T", "Neg", "x"), node("y", "Exp", "T"))
    parts = proven(whole, outputs=["T"])
    with tf.Graph().as_default() as together:
        tf.graph_util.import_graph_def(parts.keep.graph_def, name="")
        tf.graph_util.import_graph_def(parts.remove.graph_def, name="")
    x = np.array([[1.0, 2.0]], np.float32)
    with tf.compat.v1.Session(graph=together) as session:
        border = session.run("T:0", {"x:0": x})
        y = session.run("y:0", {"T_1:0": border})
    np.testing.assert_allclose(y, np.exp(-x), rtol=1e-6)
    assert place(parts, ON_CPU).names == {"main": {"x:0": "x:0", "T:0": "T:0"}, "post": {"T:0": "T_1:0", "y:0": "y:0"}}


# 9. Colocation
#
#     x ─▶ a ─▶ t ║─▶ b ─▶ y          b wants to be where a is, y where a and b are


def test_colocation_with_a_node_that_left_is_dropped_and_others_stay() -> None:
    whole = model(
        placeholder("x"),
        node("a", "Neg", "x"),
        node("t", "Exp", "a", _class=["loc:@a"]),
        node("b", "Neg", "t", _class=["loc:@a"]),
        node("z", "Neg", "t", _class=["loc:@t"]),
        node("y", "Sub", "b", "z", _class=["loc:@a", "loc:@b", "other"]),
    )
    parts = proven(whole, outputs=["t"])
    assert list(node_of(parts["main"], "t").attr["_class"].list.s) == [b"loc:@a"]
    assert "_class" not in node_of(parts["post"], "b").attr
    assert "_class" not in node_of(parts["post"], "z").attr
    assert list(node_of(parts["post"], "y").attr["_class"].list.s) == [b"loc:@b", b"other"]
    forgetful = parts["post"].graph_def
    forgetful.node[-1].attr["_class"].list.s.append(b"loc:@a")
    with tf.Graph().as_default(), pytest.raises(ValueError, match="'y' expects to be colocated with unknown node 'a'"):
        tf.graph_util.import_graph_def(forgetful, name="")


def test_placement_pins_beat_colocation_across_sections() -> None:
    whole = model(placeholder("x"), node("a", "Neg", "x"), node("t", "Exp", "a", _class=["loc:@a"]), node("y", "Neg", "t"))
    placed = place(proven(whole, outputs=["t"]), ON_CPU)
    assert [op.colocation_groups() for op in placed.graph.get_operations() if op.name == "t"] == [[b"loc:@t"]]
