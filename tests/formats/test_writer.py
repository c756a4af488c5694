"""Sections as bytes: what is copied as it stands, what is changed, and what is left behind.

x ─▶ a ─▶ call f ─▶ b ─▶ call g ─▶ y            f calls helper, has a gradient; unused is called by nobody
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2

from graphsplit.errors import CutError, FormatError
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.writer import placeholder
from graphsplit.graph.index import TensorSpec
from graphsplit.parts.parts import Part, Parts
from graphsplit.splitting.surgery import split
from tests.formats import raw
from tests.formats.raw import FLOAT, field, number
from tests.graphs import Func, const, function, model, names, node, node_of, proven
from tests.graphs import placeholder as tf_placeholder

T = {"T": raw.kind(FLOAT)}
X = raw.placeholder("x", FLOAT, -1, 2)


def cut(*nodes: bytes, at: str | list[str], **rest: Any) -> Parts:
    return split(GraphDefModel([raw.graph(*nodes, **rest)]), outputs=at, shapes=False)


def identities(chain: str) -> list[bytes]:
    """x ─▶ a ─▶ b …"""
    return [X, *(raw.identity(n, s) for s, n in zip("x" + chain, chain, strict=False))]


# copied


def test_a_section_is_made_of_ranges_of_the_file() -> None:
    """Nodes that need no change are copied as they stand, many at a time; nothing is parsed and written again."""
    nodes = identities("abcdefgh")
    data = raw.graph(*nodes)
    whole = GraphDefModel([data])
    main, post = split(whole, outputs="d", shapes=False)
    assert main.model.serialized() == raw.graph(*nodes[:5])
    assert post.model.serialized().endswith(raw.graph(*nodes[5:]))
    views = [c for c in main.model.chunks if c.obj is data]
    assert [bytes(v) for v in views] == [b"".join(field(1, n) for n in nodes[:5]), raw.versions()]


def test_versions_old_and_new_are_kept_byte_by_byte() -> None:
    versions = number(3, 21) + field(4, number(1, 1987) + number(2, 12) + number(3, 5) + field(9, "future"))
    whole = GraphDefModel([versions + b"".join(field(1, n) for n in identities("ab"))])
    for part in split(whole, outputs="a", shapes=False):
        assert part.model.serialized().endswith(versions)


def test_debug_info_and_what_nobody_knows_beside_the_nodes_stay_behind() -> None:
    whole = GraphDefModel([raw.graph(*identities("ab")) + field(5, field(1, "model.py")) + field(77, b"future")])
    for part in split(whole, outputs="a", shapes=False):
        assert b"model.py" not in part.model.serialized()
        assert b"future" not in part.model.serialized()


# placeholders


@pytest.mark.parametrize(
    ("shape", "dims"), [(None, None), ((), []), ((None, 1917, 90), [-1, 1917, 90]), ((2**40, 0), [2**40, 0])]
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "string", "int32", "bool", "resource", "bfloat16", "quint8", "float8_e5m2"])
def test_a_placeholder_is_what_tensorflow_would_write(dtype: str, shape: Any, dims: list[int] | None) -> None:
    made = graph_pb2.GraphDef.FromString(placeholder("a/b", dtype, shape)).node[0]
    expected = node_def_pb2.NodeDef(name="a/b", op="Placeholder")
    expected.attr["dtype"].type = tf.dtypes.as_dtype(dtype).as_datatype_enum
    if dims is None:
        expected.attr["shape"].shape.unknown_rank = True
    else:
        expected.attr["shape"].shape.SetInParent()
        for size in dims:
            expected.attr["shape"].shape.dim.add(size=size)
    assert made == expected


def test_a_border_of_unknown_dtype_is_refused() -> None:
    nodes = [X, raw.node("odd", "MyOwnOp", "x"), raw.node("y", "MyOwnOp", "odd")]
    with pytest.raises(
        CutError, match=r"the dtype of 'odd' is not known, since its op is not one of TensorFlow's; cut before it or further on$"
    ):
        cut(*nodes, at="odd")


SPLIT = raw.node("s", "Split", "axis", "x", attrs={**T, "num_split": raw.integer(3)})
AXIS = raw.const("axis", (1).to_bytes(4, "little"), dtype=raw.INT32)


def test_port_0_keeps_the_name_and_other_ports_get_new_ones() -> None:
    taken = [raw.identity("s_port_1", "x"), raw.identity("s_port_1_1", "x"), raw.identity("s_port_2_1", "x")]
    last = raw.node(
        "y", "AddN", "s", "s:1", "s:2", "s:1", *("s_port_1", "s_port_1_1", "s_port_2_1"), attrs={**T, "N": raw.integer(7)}
    )
    parts = cut(X, AXIS, SPLIT, *taken, last, at=["s:0", "s:1", "s:2"])
    post = parts["post"]
    assert {p.tensor: p.name for p in post.inputs if p.tensor.startswith("s:")} == {
        "s:0": "s:0", "s:1": "s_port_1_2:0", "s:2": "s_port_2:0",
    }  # fmt: skip
    assert list(node_of(post, "y").input)[:4] == ["s", "s_port_1_2:0", "s_port_2:0", "s_port_1_2:0"]
    assert len(set(names(post))) == len(names(post))


def test_placeholders_stand_where_their_makers_stood() -> None:
    nodes = identities("abcd")
    parts = cut(*nodes[:2], AXIS, *nodes[2:], raw.node("y", "AddN", "d", "b", attrs={**T, "N": raw.integer(2)}), at=["b", "c"])
    assert names(parts["post"]) == ["b", "c", "d", "y"]


# control inputs


def test_a_control_input_of_what_is_not_there_is_dropped_wherever_it_is_written() -> None:
    odd = field(3, "^a") + field(1, "c") + field(3, "b") + field(2, "Identity") + field(3, "^x") + raw.attr("T", raw.kind(FLOAT))
    parts = cut(*identities("ab"), odd, at="b")
    assert list(node_of(parts["post"], "c").input) == ["b"]
    assert parts["main"].model.index.nodes[-1].name == "b"


# colocation


def loc(*values: str) -> bytes:
    return raw.attr("_class", raw.listed(*(field(2, v) for v in values)))


@pytest.mark.parametrize(
    ("classes", "left"),
    [
        (["loc:@a"], None),
        (["loc:@d"], ["loc:@d"]),
        (["loc:@a", "loc:@d"], ["loc:@d"]),
        (["loc:@d", "loc:@a", "own", "loc:@gone"], ["loc:@d", "own"]),
        (["loc:@a", "own"], ["own"]),
        (["loc:@c"], ["loc:@c"]),
        ([], []),
    ],
)
def test_colocation_with_what_is_not_there_is_cleaned(classes: list[str], left: list[str] | None) -> None:
    nodes = identities("abcd")
    nodes[3] += loc(*classes)  # c, which is in post with d
    made = node_of(cut(*nodes, at="b")["post"], "c")
    assert (list(map(bytes.decode, made.attr["_class"].list.s)) if "_class" in made.attr else None) == left
    assert made.attr["T"].type == FLOAT


def test_colocation_is_cleaned_of_copied_constants_too() -> None:
    nodes = [
        *identities("ab"),
        raw.const("k", bytes(8), 2) + loc("loc:@a"),
        raw.node("y", "AddN", "b", "k", attrs={**T, "N": raw.integer(2)}),
    ]
    parts = cut(*nodes, at="b")
    assert "_class" not in node_of(parts["post"], "k").attr


def test_colocation_written_twice_or_value_first_is_cleaned() -> None:
    nodes = identities("abcd")
    turned = field(5, field(2, raw.listed(field(2, "loc:@a"))) + field(1, "_class"))
    nodes[3] += loc("loc:@a") + turned
    assert "_class" not in node_of(cut(*nodes, at="b")["post"], "c").attr


def test_a_section_with_cleaned_colocation_is_imported() -> None:
    """TensorFlow refuses a graph that colocates with a node which is not there."""
    nodes = identities("abcd")
    nodes[3] += loc("loc:@a")
    whole = model(*(node_def_pb2.NodeDef.FromString(n) for n in nodes))
    proven(whole, outputs="b")
    bad = node_def_pb2.NodeDef.FromString(raw.identity("c", "x") + loc("loc:@gone"))
    with pytest.raises(FormatError, match="gone"):
        proven(model(node_def_pb2.NodeDef.FromString(X), bad, node("y", "Relu", "c")), outputs="c")


def test_a_damaged_colocation_is_a_format_error() -> None:
    nodes = identities("abcd")
    nodes[3] += raw.attr("_class", b"\x0a\xff")
    with pytest.raises(FormatError, match=r"^not a whole GraphDef: a damaged AttrValue "):
        cut(*nodes, at="b")


# the library

FLOATS = {"x": tf.float32}


def double(name: str, *extra: node_def_pb2.NodeDef) -> Any:
    """A function that doubles."""
    return function(name, FLOATS, FLOATS, [node("twice", "AddV2", "x", "x"), *extra], {"x": "twice:z:0"})


def call(name: str, callee: str, source: str, **attrs: Any) -> node_def_pb2.NodeDef:
    return node(name, "PartitionedCall", source, Tin=[tf.float32], Tout=[tf.float32], f=Func(name=callee), **attrs)


def calling(name: str, callee: str) -> Any:
    """A function that calls another."""
    return function(name, FLOATS, FLOATS, [call("inner", callee, "x")], {"x": "inner:output:0"})


def library(part: Part) -> set[str]:
    return {f.signature.name for f in part.graph_def.library.function}


def test_a_section_has_the_functions_that_it_needs_and_no_others() -> None:
    whole = model(
        tf_placeholder("x"),
        call("a", "f", "x"),
        call("b", "g", "a"),
        functions=[calling("f", "helper"), double("helper"), double("g"), calling("unused", "unused_too"), double("unused_too")],
    )
    parts = proven(whole, outputs="a")
    assert (library(parts["main"]), library(parts["post"])) == ({"f", "helper"}, {"g"})


def test_a_gradient_comes_with_its_function_and_brings_what_it_calls() -> None:
    whole = model(
        tf_placeholder("x"),
        call("a", "f", "x"),
        call("b", "g", "a"),
        functions=[double("f"), calling("f_grad", "of_grad"), double("of_grad"), double("g"), double("g_grad")],
        gradients={"f": "f_grad", "g": "g_grad"},
    )
    parts = proven(whole, outputs="a")
    assert library(parts["main"]) == {"f", "f_grad", "of_grad"}
    assert [(g.function_name, g.gradient_func) for g in parts["main"].graph_def.library.gradient] == [("f", "f_grad")]
    assert library(parts["post"]) == {"g", "g_grad"}


def test_all_branches_of_a_case_come_along() -> None:
    branches = [Func(name=f"f{i}") for i in range(3)]
    case = node("a", "Case", "zero", "x", Tin=[tf.float32], Tout=[tf.float32], branches=branches)
    whole = model(
        tf_placeholder("x"), const("zero", 0), case, node("y", "Relu", "a"), functions=[double(f"f{i}") for i in range(4)]
    )
    assert library(proven(whole, outputs="a")["main"]) == {"f0", "f1", "f2"}


def test_a_function_that_is_called_by_its_name_as_op_comes_along() -> None:
    whole = model(tf_placeholder("x"), node("a", "f", "x"), node("y", "Relu", "a"), functions=[double("f"), double("g")])
    assert library(proven(whole, outputs="a")["main"]) == {"f"}


def test_a_function_given_to_a_function_comes_along() -> None:
    """f is called with inner as the value of its attribute `body`; only the caller tells which function that is."""
    given = call("inner", "", "x")
    given.attr["f"].CopyFrom(attr_value_pb2.AttrValue(placeholder="body"))
    outer = function("outer", FLOATS, FLOATS, [given], {"x": "inner:output:0"})
    outer.signature.attr.add(name="body", type="func")
    callee = Func(name="outer")
    callee.attr["body"].func.name = "deepest"
    calling_node = node("a", "PartitionedCall", "x", Tin=[tf.float32], Tout=[tf.float32], f=callee)
    whole = model(tf_placeholder("x"), calling_node, node("y", "Relu", "a"), functions=[outer, double("deepest"), double("unused")])
    parts = split(whole, outputs="a", shapes=False)
    assert library(parts["main"]) == {"outer", "deepest"}
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(parts["main"].graph_def, name="")
    with tf.compat.v1.Session(graph=made) as session:
        assert session.run("a:0", {"x:0": np.float32([[1, 2]])}).tolist() == [[2, 4]]


def test_functions_are_copied_byte_by_byte() -> None:
    """With their attributes, argument attributes, control outputs and what nobody knows."""
    more = (
        field(5, field(1, "_noinline") + field(2, number(5, 1)))
        + field(7, number(1, 0) + field(2, field(1, field(1, "_user_specified_name") + field(2, raw.text("x")))))
        + field(8, number(1, 0) + number(2, 3))
        + field(6, field(1, "c") + field(2, "c"))
        + field(99, b"future")
    )
    f = (
        raw.function("f", [raw.identity("i", "x")], inputs={"x": FLOAT}, outputs={"y": FLOAT})
        + field(4, field(1, "y") + field(2, "i:output:0"))
        + more
    )
    a = raw.node(
        "a", "PartitionedCall", "x", attrs={"f": raw.func("f"), "Tin": raw.listed(number(6, 1)), "Tout": raw.listed(number(6, 1))}
    )
    parts = cut(X, a, raw.identity("y", "a"), at="a", library=raw.library(raw.function("g"), f))
    assert field(2, field(1, f)) in parts["main"].model.serialized()
    assert b"unused" not in parts["main"].model.serialized()


def test_functions_of_several_libraries_are_one() -> None:
    calls = [
        raw.node(
            n, "PartitionedCall", s, attrs={"f": raw.func(f), "Tin": raw.listed(number(6, 1)), "Tout": raw.listed(number(6, 1))}
        )
        for n, f, s in (("a", "f", "x"), ("b", "g", "a"))
    ]
    libraries = [field(2, raw.library(raw.function(name, inputs={"x": 1}, outputs={"y": 1}))) for name in "fg"]
    whole = GraphDefModel([libraries[0] + raw.graph(X, *calls, raw.identity("c", "b"), raw.identity("y", "c")) + libraries[1]])
    parts = split(whole, outputs="c", shapes=False)
    assert library(parts["main"]) == {"f", "g"}
    assert library(parts["post"]) == set()


# names that are told


def test_names_of_inputs_and_outputs_are_told() -> None:
    whole = GraphDefModel([raw.graph(X, AXIS, SPLIT, raw.identity("y", "s:2"))])
    made, told = whole.section(["y"], [TensorSpec("s:2", "float32", (None, 1))], ["y:0"])
    assert told == {"s:2": "s_port_2:0", "y:0": "y:0"}
    assert made.index.inputs == ("s_port_2:0",)
    assert made.index.outputs == ("y:0",)
    assert made.index.tensors["s_port_2:0"] == TensorSpec("s_port_2:0", "float32", (None, 1))


def test_a_scalar_may_cross() -> None:
    """Its placeholder states shape [], which is a message that is there and empty."""
    whole = model(tf_placeholder("x"), const("all", [0, 1]), node("s", "Sum", "x", "all"), node("y", "Mul", "x", "s"))
    parts = proven(whole, outputs="s")
    assert {p.tensor: p.shape for p in parts["post"].inputs}["s:0"] == ()
    assert node_of(parts["post"], "s").attr["shape"].WhichOneof("value") == "shape"
