"""The proof: it sees every kind of difference, says where it begins, and never hangs or passes for want of something to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from graphsplit.errors import EquivalenceError, FeedError, FormatError, SectionRunError, TrustError
from graphsplit.formats import GraphDefModel
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.feeds import check_feeds, image_feeds, made_feeds, picture
from graphsplit.inference.sessions import open_session
from graphsplit.isolation.failures import OutOfTimeError, error_kind
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import split
from graphsplit.verification import equivalence
from graphsplit.verification.compare import OutputReport, compare
from graphsplit.verification.equivalence import run_parts, verify
from graphsplit.verification.report import Report
from tests.graphs import GraphDef, const, intruded, model, node, placeholder

tf1 = tf.compat.v1
BFLOAT16 = tf.bfloat16.as_numpy_dtype
QINT8 = tf.qint8.as_numpy_dtype


def values(*items: Any, dtype: Any = np.float32) -> np.ndarray:
    return np.array(list(items), dtype)


# One tensor


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, BFLOAT16, np.complex64, np.complex128])
def test_equal_values_are_equal_and_nan_equals_nan(dtype):
    array = values(1.5, np.nan, -2, np.inf, -np.inf, dtype=dtype)
    report = compare("t:0", array, array.copy())
    assert report == OutputReport("t:0", np.dtype(dtype).name, (5,), True, 0.0, 0.0, "")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, BFLOAT16])
def test_zeros_of_either_sign_are_equal(dtype):
    assert compare("t:0", values(0.0, dtype=dtype), values(-0.0, dtype=dtype)).equal


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, BFLOAT16])
def test_a_planted_nan_is_seen_on_either_side_and_no_tolerance_forgives_it(dtype):
    sound, planted = values(1, 2, dtype=dtype), values(1, np.nan, dtype=dtype)
    for whole, other in ((sound, planted), (planted, sound)):
        report = compare("t:0", whole, other, rtol=10, atol=1e9)
        assert not report.equal
        assert report.max_abs_error is report.max_rel_error is None
        assert report.note == "differs by NaN or infinity in 1 of 2 elements"


def test_infinity_differs_from_numbers_and_from_the_other_infinity():
    for whole, other in ((np.inf, 3.0), (3.0, np.inf), (np.inf, -np.inf), (np.inf, np.nan)):
        report = compare("t:0", values(whole, 7), values(other, 7), atol=1e30)
        assert not report.equal
        assert report.note == "differs by NaN or infinity in 1 of 2 elements"


def test_finite_values_whose_distance_overflows_differ_without_a_number():
    report = compare("t:0", values(1e308, dtype=np.float64), values(-1e308, dtype=np.float64))
    assert not report.equal
    assert report.max_abs_error is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, BFLOAT16])
def test_the_smallest_possible_difference_is_a_difference(dtype):
    one = np.ones(3, dtype)
    next_one = one.copy()
    bits = next_one.view(f"u{one.itemsize}")
    bits[1] += bits.dtype.type(1)  # one unit in the last place
    report = compare("t:0", one, next_one)
    assert not report.equal
    assert report.max_abs_error == float(next_one[1].astype(np.float64) - 1) > 0
    assert report.note.endswith("in 1 of 3 elements")


def test_a_difference_between_denormals_is_seen():
    tiny = values(0.0, np.finfo(np.float32).smallest_subnormal)
    assert not compare("t:0", tiny, np.zeros(2, np.float32)).equal


def test_errors_are_the_largest_of_all_elements_the_relative_one_measured_by_the_whole():
    report = compare("t:0", values(100, 1, 7), values(110, 1.5, 7))
    assert report.max_abs_error == 10.0
    assert report.max_rel_error == 0.5
    assert report.note == "differs by up to 10 in 2 of 3 elements"
    assert compare("t:0", values(0, 4), values(1, 4)).max_rel_error is None, "relative to zero there is no number"


def test_tolerance_is_atol_plus_rtol_times_the_whole():
    whole, other = values(100, 0), values(101, 0.5)
    assert compare("t:0", whole, other, rtol=0.01, atol=0.5).equal
    assert not compare("t:0", whole, other, rtol=0.01, atol=0.4).equal
    assert not compare("t:0", whole, other, rtol=0.004, atol=0.5).equal
    assert compare("t:0", values(1), values(2), rtol=1).equal
    assert not compare("t:0", values(-1), values(1), rtol=1).equal, "the whole's absolute value counts"


def test_within_tolerance_the_errors_are_still_told():
    report = compare("t:0", values(4), values(5), atol=1)
    assert (report.equal, report.max_abs_error, report.max_rel_error, report.note) == (True, 1.0, 0.25, "")


@pytest.mark.parametrize(
    ("whole", "other", "error"),
    [
        (values(1, 2, dtype=np.int32), values(1, 5, dtype=np.int32), 3.0),
        (values(-128, dtype=np.int8), values(127, dtype=np.int8), 255.0),
        (values(0, dtype=np.uint8), values(255, dtype=np.uint8), 255.0),
        (values(2**62, dtype=np.int64), values(2**62 + 1, dtype=np.int64), 1.0),  # the same number as float64
        (values(-(2**63), dtype=np.int64), values(2**63 - 1, dtype=np.int64), float(2**64)),
        (values(2**64 - 1, dtype=np.uint64), values(2**64 - 2, dtype=np.uint64), 1.0),
    ],
)
def test_integers_are_compared_exactly(whole, other, error):
    report = compare("t:0", whole, other)
    assert not report.equal
    assert report.max_abs_error == error
    assert compare("t:0", whole, whole.copy()).equal


def test_both_parts_of_a_complex_number_count():
    whole = np.array([complex(np.nan, 1)])
    assert compare("t:0", whole, whole.copy()).equal
    assert not compare("t:0", whole, np.array([complex(np.nan, 2)])).equal
    assert compare("t:0", np.array([3j]), np.array([4j])).max_abs_error == 1.0


@pytest.mark.parametrize(
    ("whole", "other"),
    [
        (values(True, False, dtype=bool), values(True, True, dtype=bool)),
        (values(b"cat", b"dog", dtype=object), values(b"cat", b"dot", dtype=object)),
        (values(b"a", b"b\0", dtype=object), values(b"a", b"b", dtype=object)),
        (values((1,), (2,), dtype=QINT8), values((1,), (3,), dtype=QINT8)),
    ],
    ids=["bool", "string", "string that ends with a zero", "quantised"],
)
def test_a_difference_without_a_number_is_counted_and_no_tolerance_forgives_it(whole, other):
    report = compare("t:0", whole, other, rtol=1e9, atol=1e9)
    assert not report.equal
    assert report.max_abs_error is None
    assert report.note == "differs in 1 of 2 elements"
    assert compare("t:0", whole, whole.copy()).equal


def test_dtypes_and_shapes_are_compared_before_values():
    report = compare("t:0", values(1, 2), values(1, 2, dtype=np.float64), rtol=9, atol=9)
    assert (report.equal, report.note) == (False, "is float64 instead of float32")
    report = compare("t:0", values(1, 2), values([1, 2]), rtol=9, atol=9)
    assert (report.equal, report.note) == (False, "has shape [1, 2] instead of [2]")
    assert compare("t:0", values(1), values(1, dtype=bool)).note == "is bool instead of float32"
    assert compare("t:0", values(1, dtype=np.int8), values((1,), dtype=QINT8)).note == "is qint8 instead of int8"
    assert compare("t:0", values(b"1", dtype=object), values(1)).note == "is float32 instead of string"


def test_a_broadcast_is_no_equality():
    assert not compare("t:0", np.zeros((3, 1)), np.zeros((1,))).equal


@pytest.mark.parametrize("dtype", [np.float32, bool, object, np.int64, BFLOAT16])
def test_empty_tensors_are_equal_when_their_shapes_are(dtype):
    report = compare("t:0", np.zeros((0, 4), dtype), np.zeros((0, 4), dtype))
    assert (report.equal, report.max_abs_error, report.shape) == (True, 0.0, (0, 4))
    assert not compare("t:0", np.zeros((0, 4), dtype), np.zeros((0, 3), dtype)).equal


def test_scalars_are_compared():
    assert compare("t:0", np.float32(1)[()], np.asarray(np.float32(1))).equal
    assert not compare("t:0", np.asarray(1.0), np.asarray(1.5)).equal


# The report


def of(equal: bool, error: float | None, note: str = "") -> OutputReport:
    return OutputReport("t:0", "float32", (1,), equal, error, error, note)


def test_the_error_of_a_report_is_the_largest_and_unknown_where_one_is():
    assert Report(False, 1, (of(True, 0.0), of(False, 2.0))).max_abs_error == 2.0
    assert Report(False, 1, (of(False, None), of(False, 2.0))).max_abs_error is None


def test_a_summary_says_how_equal():
    assert Report(True, 2, (of(True, 0.0),)).summary() == "1 output equal bit for bit in 2 runs"
    assert Report(True, 2, (of(True, 0.1),)).summary() == "1 output equal within tolerance in 2 runs"


def test_check_raises_with_the_report_and_only_for_a_difference():
    Report(True, 1, (of(True, 0.0),)).check()
    report = Report(
        False, 1, (of(False, 2.0, "differs by up to 2 in 1 of 1 elements"), of(True, 0.0)), first_divergent_section="post"
    )
    with pytest.raises(EquivalenceError, match=r"^1 of 2 outputs differ; t:0 differs by .* from section 'post' on$") as caught:
        report.check()
    assert caught.value.report is report


# Whole and sections
#
#     x ─▶ scaled = x · two ─▶ shifted = scaled + three ─▶ best, at = top(shifted) ─▶ even = at mod two ▸ 0
#                 main       │                         post


def chain() -> GraphDefModel:
    return model(
        placeholder("x", [None, 4]),
        const("two", [2.0, 2.0, 2.0, 2.0]),
        node("scaled", "Mul", "x", "two"),
        const("three", 3.0),
        node("shifted", "AddV2", "scaled", "three"),
        const("k", 2),
        node("best", "TopKV2", "shifted", "k"),
        node("at", "Identity", "best:1", T=tf.int32),
        const("one", 1),
        node("even", "Less", "at", "one", T=tf.int32),
    )


def tampered(parts: Parts, section: str, change: Callable[[GraphDef], None]) -> Parts:
    """The same parts with a fault in one section's graph."""
    part = parts[section]
    graph_def = part.graph_def
    change(graph_def)
    made = GraphDefModel([graph_def.SerializeToString()], output_names=[p.name for p in part.outputs])
    return replace(parts, sections=tuple(replace(p, model=made) if p is part else p for p in parts))


def set_const(name: str, value: Any) -> Callable[[GraphDef], None]:
    """A fault: another value in a constant."""

    def change(graph_def: GraphDef) -> None:
        (found,) = (n for n in graph_def.node if n.name == name)
        dtype = tf.dtypes.as_dtype(found.attr["dtype"].type)
        found.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))

    return change


def test_a_split_is_equal_and_the_report_says_what_was_run():
    whole = chain()
    report = verify(whole, split(whole, outputs="scaled"))
    assert report.equal
    assert report.runs == 2
    assert report.feeds == ("x:0 float32[1, 4]", "x:0 float32[2, 4]")
    assert (report.first_divergent_section, report.reason, report.max_abs_error) == (None, "", 0.0)
    assert [(o.tensor, o.dtype) for o in report.outputs] == [("best:0", "float32"), ("best:1", "int32"), ("even:0", "bool")][
        -len(report.outputs) :
    ]
    report.check()


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("main", set_const("two", [2.0, 2.0, 2.5, 2.0])),
        ("post", set_const("three", np.nan)),
        ("post", set_const("one", 2)),
    ],
    ids=["main", "post, NaN", "post, seen in a bool only"],
)
def test_the_first_section_that_differs_is_named(section, fault):
    whole = chain()
    parts = tampered(split(whole, outputs="scaled", model_outputs="shifted,best,best:1,even"), section, fault)
    report = verify(whole, parts)
    assert not report.equal
    assert report.first_divergent_section == section
    assert report.reason == ""
    with pytest.raises(EquivalenceError, match=f"outputs differ; .*, from section '{section}' on"):
        report.check()


def test_only_the_outputs_that_differ_are_said_to():
    whole = chain()
    parts = tampered(split(whole, outputs="scaled", model_outputs="best:1,even"), "post", set_const("one", 9))
    report = verify(whole, parts)
    assert {o.tensor: o.equal for o in report.outputs} == {"best:1": True, "even:0": False}
    assert report.outputs[1].note.startswith("differs in ")


def test_an_output_of_another_dtype_or_shape_is_seen():
    def other_dtype(graph_def: GraphDef) -> None:
        (found,) = (n for n in graph_def.node if n.name == "even")
        found.CopyFrom(node("even", "Minimum", "at", "one", T=tf.int32))

    whole = chain()
    parts = split(whole, outputs="scaled", model_outputs="best,even")
    assert verify(whole, tampered(parts, "post", other_dtype)).outputs[1].note == "is int32 instead of bool"
    assert verify(whole, tampered(parts, "post", set_const("k", 3))).outputs[0].note == "has shape [1, 3] instead of [1, 2]"


def test_tolerances_reach_the_comparison_and_the_search_for_the_section():
    whole = chain()
    parts = tampered(split(whole, outputs="scaled", model_outputs="shifted"), "main", set_const("two", [2.0, 2.0, 2.0, 2.001]))
    parts = tampered(parts, "post", set_const("three", 4.0))
    feeds = {"x:0": np.ones((1, 4), np.float32)}
    assert verify(whole, parts, feeds, atol=1.1).equal
    assert "within tolerance" in verify(whole, parts, feeds, atol=1.1).summary()
    assert verify(whole, parts, feeds).first_divergent_section == "main"
    assert verify(whole, parts, feeds, atol=0.1).first_divergent_section == "post", (
        "what main does differently is within the tolerance"
    )


def test_the_worst_of_several_runs_is_told():
    whole = chain()
    parts = tampered(split(whole, outputs="scaled", model_outputs="shifted"), "main", set_const("two", [3.0, 2.0, 2.0, 2.0]))
    feeds = [{"x:0": np.full((1, 4), n, np.float32)} for n in (0, 7, 2)]
    report = verify(whole, parts, feeds)
    assert report.runs == 3
    assert report.max_abs_error == 7.0


def test_a_fault_seen_in_one_run_only_is_not_lost():
    whole = chain()
    parts = tampered(split(whole, outputs="scaled", model_outputs="shifted"), "main", set_const("two", [3.0, 2.0, 2.0, 2.0]))
    feeds = [{"x:0": np.full((1, 4), n, np.float32)} for n in (0, 1, 0)]
    report = verify(whole, parts, feeds)
    assert (report.equal, report.first_divergent_section) == (False, "main")


def test_no_feeds_prove_nothing():
    whole = chain()
    with pytest.raises(FeedError, match="nothing would be compared"):
        verify(whole, split(whole, outputs="scaled"), [])


def test_parts_read_from_a_folder_are_proven_like_those_in_memory(tmp_path):
    whole = chain()
    parts = load_parts(save(split(whole, outputs="scaled"), tmp_path / "out"))
    assert verify(whole, parts).equal
    assert verify(whole, tampered(parts, "main", set_const("two", [0.0] * 4))).first_divergent_section == "main"


def test_strings_keep_their_zeros_across_a_border():
    whole = model(
        placeholder("name", [], tf.string),
        node("kept", "Identity", "name", T=tf.string),
        node("length", "StringLength", "kept"),
    )
    parts = split(whole, outputs="kept")
    report = verify(whole, parts, {"name:0": b"ab\0\0"})
    assert report.equal
    with tf1.Session(graph=tf.Graph()):  # the value itself, not only that both agree
        sessions = {p.name: open_session(p.model, optimize=False) for p in parts}
        assert run_parts(parts, {"name:0": np.array(b"ab\0\0", object)}, sessions)["length:0"] == 4


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16, tf.int64, tf.bool, tf.string, tf.complex64, tf.qint8, tf.uint16])
def test_borders_of_every_dtype_are_carried(dtype):
    whole = model(
        placeholder("x", [None, 3], dtype),
        node("border", "Identity", "x", T=dtype),
        node("y", "Identity", "border", T=dtype),
    )
    report = verify(whole, split(whole, outputs="border"))
    assert report.equal, report
    assert report.runs == 2


# What cannot be compared


def random_model(seed: int) -> GraphDefModel:
    return model(
        placeholder("x", [None, 2]),
        const("size", [2], np.int32),
        node("dice/uniform", "RandomUniform", "size", T=tf.int32, seed=seed, seed2=seed),
        node("border", "AddV2", "x", "dice/uniform"),
        const("two", 2.0),
        node("y", "Mul", "border", "two"),
    )


def test_random_values_are_drawn_once_and_fed_alike():
    whole = random_model(seed=0)
    parts = split(whole, outputs="border")
    report = verify(whole, parts, runs=2)
    assert report.equal
    assert report.drawn == ("dice/uniform:0",)
    assert report.summary() == "1 output equal bit for bit in 4 runs, random values (dice/uniform:0) fed alike"
    report = verify(whole, tampered(parts, "post", set_const("two", 3.0)))
    assert (report.equal, report.first_divergent_section, report.reason) == (False, "post", "")


def test_a_graph_that_gives_other_values_each_time_is_told_from_a_wrong_cut():
    """Nothing can be fed into a loop."""
    with tf.Graph().as_default() as g:
        tf.compat.v1.disable_control_flow_v2()
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        _, drawn = tf.compat.v1.while_loop(
            lambda i, _: i < 2, lambda i, v: (i + 1, v + tf.random.uniform([2], name="dice")), [tf.constant(0), x]
        )
        tf.identity(tf.multiply(drawn, 2.0, name="border"), name="y")
    tf.compat.v1.enable_control_flow_v2()  # as other tests expect it
    whole = GraphDefModel([g.as_graph_def().SerializeToString()])
    report = verify(whole, split(whole, outputs="border"))
    assert not report.equal
    assert report.first_divergent_section is None
    assert report.reason.startswith("the whole is not deterministic (while/dice/RandomUniform)")
    with pytest.raises(EquivalenceError, match="nothing can be compared"):
        report.check()


def test_what_is_in_memory_by_chance_is_not_a_wrong_cut():
    """The values of Empty may agree in two runs of the whole and differ in a section."""
    whole = model(
        placeholder("x", [None, 2]),
        const("size", [2], np.int32),
        node("unset", "Empty", "size", dtype=tf.float32),
        node("border", "AddV2", "x", "unset"),
        const("two", 2.0),
        node("y", "Mul", "border", "two"),
    )
    parts = tampered(split(whole, outputs="border"), "post", set_const("two", 3.0))
    report = verify(whole, parts)
    assert report.reason.startswith("the whole is not deterministic (unset)")


def test_a_seeded_graph_can_be_compared_and_its_faults_are_found():
    whole = random_model(seed=7)
    parts = split(whole, outputs="border")
    assert verify(whole, parts, runs=3).equal
    report = verify(whole, tampered(parts, "post", set_const("two", 3.0)), runs=3)
    assert (report.equal, report.first_divergent_section, report.reason) == (False, "post", "")


def test_a_model_that_reaches_outside_is_not_run_without_trust(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"text")
    whole = model(
        const("path", str(secret).encode(), object),
        node("text", "ReadFile", "path"),
        node("length", "StringLength", "text"),
    )
    parts = split(whole, outputs="text")
    with pytest.raises(TrustError, match=r"reaches outside itself \(text \(ReadFile\)\)"):
        verify(whole, parts)
    assert verify(whole, parts, trust=True).equal


@pytest.mark.parametrize("section", ["main", "post"])
def test_a_section_that_reaches_outside_is_not_run_without_trust_though_the_whole_does_not(section, tmp_path):
    whole, trace = chain(), tmp_path / "trace"
    parts = intruded(split(whole, outputs="scaled"), section, trace)
    with pytest.raises(TrustError, match=r"intruder/write \(WriteFile\)"):
        verify(whole, parts)
    assert not trace.exists()
    assert verify(whole, parts, trust=True).equal
    assert trace.read_text() == "ran"


def test_a_graph_that_is_not_frozen_is_refused():
    whole = model(
        placeholder("x", [None]),
        node("w", "VarHandleOp", dtype=tf.float32, shape=[]),
        node("read", "ReadVariableOp", "w"),
        node("border", "Mul", "x", "read"),
        node("y", "Identity", "border"),
    )
    with pytest.raises(FormatError, match=r"not frozen: 'w' is a VarHandleOp"):
        verify(whole, split(whole, outputs="border"))


# What fails to run


def gathered() -> GraphDefModel:
    return model(
        placeholder("x", [None]),
        node("border", "Neg", "x"),
        const("index", 1),
        const("axis", 0),
        node("y", "GatherV2", "border", "index", "axis", Tparams=tf.float32, Tindices=tf.int32, Taxis=tf.int32),
    )


def test_a_section_that_fails_is_named_with_tensorflows_own_error_as_the_cause():
    whole = gathered()
    parts = tampered(split(whole, outputs="border"), "post", set_const("index", 99))
    with pytest.raises(
        SectionRunError, match=r"^section 'post' failed to run: indices = 99 is not in \[0, 2\) \(node 'y'\)$"
    ) as caught:
        verify(whole, parts, {"x:0": np.zeros(2, np.float32)}, isolate=False)
    assert caught.value.section == "post"
    assert isinstance(caught.value.__cause__, tf.errors.InvalidArgumentError)
    with pytest.raises(SectionRunError) as apart:
        verify(whole, parts, {"x:0": np.zeros(2, np.float32)})
    assert str(apart.value) == str(caught.value)
    assert error_kind(apart.value.__cause__) == "InvalidArgumentError"


def test_a_whole_that_fails_is_said_to():
    whole = gathered()
    with pytest.raises(SectionRunError, match=r"^the whole model failed to run: ") as caught:
        verify(whole, split(whole, outputs="border"), {"x:0": np.zeros(1, np.float32)})
    assert caught.value.section == "whole"


def test_a_section_that_tensorflow_refuses_is_named():
    def wrong_dtype(graph_def: GraphDef) -> None:
        (found,) = (n for n in graph_def.node if n.name == "y")
        found.attr["Tparams"].type = tf.int32.as_datatype_enum

    whole = gathered()
    with pytest.raises(SectionRunError, match=r"^section 'post' cannot be run: TensorFlow refuses the graph") as caught:
        verify(whole, tampered(split(whole, outputs="border"), "post", wrong_dtype))
    assert isinstance(caught.value.__cause__, FormatError)


def test_a_batch_of_two_that_the_whole_does_not_take_is_left_out_unless_it_was_given():
    whole = model(
        placeholder("x", [None, 4]),
        const("shape", [1, 2, 2]),
        node("border", "Reshape", "x", "shape"),
        node("y", "Neg", "border"),
    )
    parts = split(whole, outputs="border", shapes=False)
    report = verify(whole, parts)
    assert report.equal
    assert (report.runs, report.feeds) == (1, ("x:0 float32[1, 4]",))
    given = [{"x:0": np.zeros((batch, 4), np.float32)} for batch in (1, 2)]
    assert verify(whole, parts, given[0]).runs == 1
    with pytest.raises(SectionRunError, match="the whole model failed to run"):
        verify(whole, parts, given)


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_a_loop_that_never_ends_is_ended(version, isolate, monkeypatch):
    monkeypatch.setattr(equivalence, "_TIMEOUT", 1.5)
    toggle = (tf1.disable_control_flow_v2, tf1.enable_control_flow_v2)
    was_on = tf1.control_flow_v2_enabled()
    with tf.Graph().as_default() as graph:
        toggle[version - 1]()
        try:
            border = tf.square(tf1.placeholder(tf.float32, [None, 2], name="x"), name="border")
            looped = tf.while_loop(lambda a: tf.reduce_sum(a) > -1.0, lambda a: a + 1.0, [border])
            tf.identity(looped[0] if isinstance(looped, list | tuple) else looped, name="y")
        finally:
            toggle[was_on]()
    whole = GraphDefModel([graph.as_graph_def().SerializeToString()])
    assert ("Enter" if version == 1 else "StatelessWhile") in {n.op for n in whole.index.nodes}
    with pytest.raises(SectionRunError, match=r"the whole model did not end within 1\.5 seconds") as caught:
        verify(whole, split(whole, outputs="border"), isolate=isolate)
    cause = caught.value.__cause__
    assert isinstance(cause, OutOfTimeError if isolate else TimeoutError)


# Grappler


def test_without_grappler_a_cut_between_convolution_and_batch_norm_is_bit_equal_with_it_nearly():
    rng = np.random.default_rng(0)
    with tf.Graph().as_default() as graph:
        image = tf1.placeholder(tf.float32, [None, 32, 32, 3], name="image")
        here = image
        for layer in range(3):
            kernel = rng.normal(0, 0.2, (3, 3, here.shape[-1], 8)).astype(np.float32)
            here = tf.nn.conv2d(here, kernel, 1, "SAME", name=f"conv{layer}")
            scale, offset, mean = (rng.normal(1, 0.2, 8).astype(np.float32) for _ in range(3))
            variance = rng.uniform(0.5, 1.5, 8).astype(np.float32)
            here, _, _ = tf1.nn.fused_batch_norm(here, scale, offset, mean, variance, is_training=False, name=f"norm{layer}")
            here = tf.nn.relu(here)
        tf.identity(here, name="y")
    whole = GraphDefModel([graph.as_graph_def().SerializeToString()])
    parts = split(whole, outputs="conv1")
    exact = verify(whole, parts)
    assert exact.equal
    assert exact.max_abs_error == 0.0
    optimised = verify(whole, parts, rtol=1e-4, atol=1e-4, optimize=True)
    assert optimised.equal, optimised
    assert optimised.max_abs_error is not None
    assert optimised.max_abs_error < 1e-4


# Feeds that are given


def two_inputs() -> GraphDefModel:
    return model(
        placeholder("a", [None, 2]),
        placeholder("b", [None, 2], tf.int32),
        placeholder("c", [None, 2]),
        node("b_float", "Cast", "b", SrcT=tf.int32, DstT=tf.float32),
        node("border", "AddV2", "a", "b_float"),
        node("y", "Mul", "border", "c"),
    )


def test_everything_that_is_wrong_with_feeds_is_told_at_once():
    whole = two_inputs()
    feeds = {"a:0": np.zeros((1, 3), np.float32), "b:0": np.zeros((1, 2), np.int64), "d:0": np.zeros(1)}
    with pytest.raises(FeedError) as caught:
        verify(whole, split(whole, outputs="border"), feeds)
    assert caught.value.mismatches == (
        "no input 'd:0'; there are a:0, b:0, c:0",
        "'a:0' must have shape [?, 2], not [1, 3]",
        "'b:0' must be int32, not int64",
    )
    assert str(caught.value) == "; ".join(caught.value.mismatches)


def test_what_python_gives_is_taken_as_it_is():
    whole = chain()
    parts = split(whole, outputs="scaled")
    assert verify(whole, parts, [{"x:0": np.float32([[1, 2, 3, 4]])}, {"x:0": np.float32([[4, 3, 2, 1]])}]).runs == 2
    assert verify(whole, parts, {"x": np.float32([[1, 2, 3, 4]])}).runs == 1, "a name means its first port"
    with pytest.raises(FeedError, match="'x:0' must be float32, not float64"):
        verify(whole, parts, {"x:0": [[1.0, 2.0, 3.0, 4.0]]})


def test_an_input_that_no_kept_output_needs_is_not_asked_for():
    whole = model(
        placeholder("x", [None]),
        placeholder("unused", [None]),
        node("border", "Neg", "x"),
        node("y", "Neg", "border"),
        node("z", "Neg", "unused"),
    )
    parts = split(whole, outputs="border", model_outputs="y")
    assert verify(whole, parts, {"x:0": np.ones(2, np.float32)}).equal
    assert verify(whole, parts).equal


def test_feeds_fit_where_nothing_is_stated():
    check_feeds([TensorSpec("x:0", None, None)], {"x:0": np.zeros((2, 3), np.int16)})
    check_feeds([TensorSpec("x:0", "float32", (None, 3))], {"x:0": np.zeros((7, 3), np.float32)})
    check_feeds([TensorSpec("x:0", "string", ())], {"x:0": b"text"})
    check_feeds([TensorSpec("x:0", "qint8", (1,))], {"x:0": np.zeros(1, np.int8)})
    with pytest.raises(FeedError, match=r"'x:0' must have shape \[\], not \[1\]"):
        check_feeds([TensorSpec("x:0", "float32", ())], {"x:0": np.zeros(1, np.float32)})
    with pytest.raises(FeedError, match="no input 'y'; there are none"):
        check_feeds([], {"y": 1})


# Feeds that are made


def resized(size: Any, *, after_convolution: bool = False, shape: Any = (None, None, None, 3)) -> GraphDefModel:
    """image ─▶ Cast ─▶ resizer ─▶ Conv2D, or the resizer last."""
    nodes = [
        placeholder("image", shape, tf.uint8),
        node("cast", "Cast", "image", SrcT=tf.uint8, DstT=tf.float32),
        const("kernel", np.ones((1, 1, 3, 1), np.float32)),
        const("size", size),
    ]
    first, second = ("conv", "resize") if after_convolution else ("resize", "conv")
    for name, reads in ((first, "cast"), (second, first)):
        if name == "conv":
            nodes.append(node("conv", "Conv2D", reads, "kernel", strides=[1, 1, 1, 1], padding="SAME"))
        else:
            nodes.append(node("resize", "ResizeBilinear", reads, "size"))
    return model(*nodes)


def shapes(feeds: list[dict[str, np.ndarray]]) -> list[tuple[int, ...]]:
    return [next(iter(f.values())).shape for f in feeds]


def test_a_picture_has_the_size_of_the_input_else_of_the_resizer_else_320():
    assert shapes(made_feeds(resized([96, 128], shape=(1, 40, 56, 3)))) == [(1, 40, 56, 3)]
    assert shapes(made_feeds(resized([96, 128]))) == [(1, 96, 128, 3), (2, 96, 128, 3)]
    assert shapes(made_feeds(resized([96, 128], after_convolution=True))) == [(1, 320, 320, 3), (2, 320, 320, 3)]
    assert shapes(made_feeds(resized([96, 128], shape=(None, 64, None, 3)))) == [(1, 64, 128, 3), (2, 64, 128, 3)]


@pytest.mark.parametrize("size", [[0, 10], [10, 100_000]])
def test_a_resizer_that_asks_for_the_impossible_is_not_followed(size):
    assert shapes(made_feeds(resized(size)))[0] == (1, 320, 320, 3)


def test_batches_of_one_and_two_are_made_only_where_the_batch_is_free():
    def batches(*inputs: tuple[int | None, ...] | None) -> list[int]:
        nodes = [placeholder(f"x{i}", shape) for i, shape in enumerate(inputs)]
        made = made_feeds(model(*nodes, node("y", "AddN", *(n.name for n in nodes), N=len(nodes))))
        return [f["x0:0"].shape[0] for f in made]

    assert batches((None, 3)) == [1, 2]
    assert batches((1, 3)) == [1]
    assert batches((5, 3)) == [5]
    assert batches((None, 3), (None, 3)) == [1, 2]
    assert batches((None, 3), (4, 3)) == [4], "one fixed batch fixes them all"
    assert batches(None) == [1, 2], "of unknown rank"


def test_runs_multiply_feeds_and_each_is_another():
    feeds = made_feeds(resized([8, 8]), runs=3)
    assert shapes(feeds) == [(1, 8, 8, 3), (2, 8, 8, 3)] * 3
    assert len({picture.tobytes() for f in feeds for picture in f["image:0"]}) == 9, "the two of a batch differ as well"


def test_made_feeds_are_the_same_every_time():
    first, again = made_feeds(resized([8, 8]), runs=2), made_feeds(resized([8, 8]), runs=2)
    assert all(np.array_equal(a["image:0"], b["image:0"]) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        (tf.float32, (None, 3), (2, 3)),
        (tf.float32, (None, None, 5), (2, 1, 5)),
        (tf.float64, (None,), (2,)),
        (tf.int32, (None, 2), (2, 2)),
        (tf.uint8, (None, 2), (2, 2)),
        (tf.bool, (None, 2), (2, 2)),
        (tf.string, (None,), (2,)),
        (tf.complex64, (None, 2), (2, 2)),
        (tf.bfloat16, (None, 2), (2, 2)),
        (tf.qint8, (None, 2), (2, 2)),
        (tf.float32, (None, 8, 8, 4), (2, 8, 8, 4)),
        (tf.float32, None, (2,)),
    ],
)
def test_inputs_that_are_no_pictures_get_values_of_their_dtype_that_fit(dtype, shape, expected):
    whole = model(placeholder("x", shape, dtype), node("y", "Identity", "x", T=dtype))
    feeds = made_feeds(whole)
    assert feeds[1]["x:0"].shape == expected
    for feed in feeds:
        check_feeds(whole.inputs, feed)
    assert verify(whole, split(whole, inputs="x")).equal


def test_a_scalar_input_is_fed_a_scalar_once():
    (feed,) = made_feeds(model(placeholder("x", []), node("y", "Neg", "x")))
    assert feed["x:0"].shape == ()


def read(name: str, dtype: Any) -> list[Any]:
    """A node that reads an input."""
    return [node(f"{name}_read", "Identity", name, T=dtype)]


def test_integers_are_zeros_and_ones_strings_are_empty():
    whole = model(placeholder("i", [100], tf.int64), placeholder("s", [3], tf.string), *read("i", tf.int64), *read("s", tf.string))
    (feed,) = made_feeds(whole)
    assert set(feed["i:0"].tolist()) == {0, 1}
    assert feed["s:0"].tolist() == [b"", b"", b""]


@pytest.mark.parametrize("op", ["DecodeJpeg", "DecodePng", "DecodeImage"])
def test_a_model_that_decodes_pictures_is_fed_files(op, tmp_path):
    """s ─▶ Decode… ─▶ y"""
    whole = model(placeholder("s", [], tf.string), node("d", op, "s"), node("y", "Identity", "d", T=tf.uint8))
    assert verify(whole, split(whole, outputs="d")).equal
    (feed,) = made_feeds(whole)
    assert tf.io.decode_image(feed["s:0"][()]).shape == (320, 320, 3)
    file = tmp_path / "picture.png"
    file.write_bytes(tf.io.encode_png(picture(8, 9)).numpy())
    (feed,) = image_feeds(whole, [file])
    assert feed["s:0"][()] == file.read_bytes()
    check_feeds(whole.inputs, feed)


def test_made_feeds_that_a_model_refuses_are_told_from_given_ones():
    """s ─▶ ParseTensor, which takes no empty string"""
    parse = node("d", "ParseTensor", "s", out_type=tf.uint8)
    whole = model(placeholder("s", [], tf.string), parse, node("y", "Identity", "d", T=tf.uint8))
    with pytest.raises(SectionRunError, match=r"whole model failed to run: .*; the feeds were synthetic; .*feeds="):
        verify(whole, split(whole, outputs="d"))
    with pytest.raises(SectionRunError, match=r"whole model failed to run: (?!.*made up)"):
        verify(whole, split(whole, outputs="d"), {"s:0": np.array(b"no picture", object)})


def test_a_picture_of_floats_runs_from_zero_to_one():
    whole = model(placeholder("x", [1, 32, 32, 3]), node("y", "Neg", "x"))
    (feed,) = made_feeds(whole)
    assert feed["x:0"].dtype == np.float32
    assert 0 <= feed["x:0"].min() < 0.2 < 0.8 < feed["x:0"].max() <= 1


def test_a_byte_input_of_unknown_rank_gets_a_picture():
    whole = model(placeholder("x", None, tf.uint8), node("y", "Identity", "x", T=tf.uint8))
    assert shapes(made_feeds(whole)) == [(1, 320, 320, 3), (2, 320, 320, 3)]


def test_no_value_is_made_for_a_handle():
    whole = model(placeholder("x", [], tf.resource), node("y", "Identity", "x", T=tf.resource))
    with pytest.raises(FeedError, match="'x:0' is a resource, which cannot be fed"):
        made_feeds(whole)


def test_a_model_without_inputs_is_fed_nothing_once():
    whole = model(const("c", [1.0, 2.0]), node("border", "Neg", "c"), node("y", "Neg", "border"))
    assert made_feeds(whole) == [{}]
    assert verify(whole, split(whole, outputs="border")).runs == 1


def test_pictures_are_neither_flat_nor_noise():
    image = picture(64, 80)
    assert image.shape == (64, 80, 3)
    assert image.dtype == np.uint8
    assert 20 < image.std() < 120
    assert np.abs(np.diff(image.astype(int), axis=1)).mean() < 30
    assert picture(1, 1).shape == (1, 1, 3)


# Feeds from files


@pytest.fixture
def painting() -> np.ndarray:
    return picture(48, 64, seed=3)


def test_a_png_is_fed_as_it_is_and_mirrored_beside_itself(painting, tmp_path):
    Image.fromarray(painting).save(tmp_path / "a.png")
    one, two = image_feeds(resized([8, 8]), [tmp_path / "a.png"])
    assert np.array_equal(one["image:0"], painting[None])
    assert np.array_equal(two["image:0"], np.stack([painting, painting[:, ::-1]]))


def test_a_jpeg_is_read_and_several_files_give_several_feeds(painting, tmp_path):
    Image.fromarray(painting).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(painting[:, :, 0]).save(tmp_path / "grey.png")
    feeds = image_feeds(resized([8, 8], shape=(1, None, None, 3)), [str(tmp_path / "a.jpg"), tmp_path / "grey.png"])
    assert shapes(feeds) == [(1, 48, 64, 3)] * 2
    assert np.abs(feeds[0]["image:0"].astype(int) - painting).mean() < 20
    assert np.array_equal(feeds[1]["image:0"][0], np.repeat(painting[:, :, :1], 3, 2)), "grey becomes three channels"


def test_a_picture_is_scaled_to_a_fixed_input_and_to_its_dtype(painting, tmp_path):
    Image.fromarray(painting).save(tmp_path / "a.png")
    (feed,) = image_feeds(resized([8, 8], shape=(1, 24, 32, 3)), [tmp_path / "a.png"])
    assert feed["image:0"].shape == (1, 24, 32, 3)
    assert feed["image:0"].dtype == np.uint8
    whole = model(placeholder("x", [1, 48, 64, 3]), node("y", "Neg", "x"))
    (feed,) = image_feeds(whole, [tmp_path / "a.png"])
    assert feed["x:0"].dtype == np.float32
    assert np.array_equal(feed["x:0"][0], painting / np.float32(255))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n and no more"])
def test_a_file_that_is_no_picture_is_refused(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.png: not a picture \(PNG, JPEG, GIF and BMP are read\)") as caught:
        image_feeds(resized([8, 8]), [tmp_path / "a.png"])
    assert caught.value.__cause__ is not None


def test_a_picture_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(FormatError, match=r"a\.png: cannot be read: No such file"):
        image_feeds(resized([8, 8]), [tmp_path / "a.png"])
    with pytest.raises(FormatError, match="cannot be read: Is a directory"):
        image_feeds(resized([8, 8]), [tmp_path])


@pytest.mark.parametrize(
    ("whole", "inputs"),
    [
        (chain, r"x:0 float32 \[\?, 4\]"),
        (two_inputs, r"a:0 float32 \[\?, 2\], b:0 int32 .*"),
        (lambda: model(const("c", 1.0)), "no input"),
    ],
)
def test_pictures_need_a_model_with_one_picture_input(whole, inputs, tmp_path: Path):
    with pytest.raises(FeedError, match=f"pictures need a model with one picture input; this one has {inputs}$"):
        image_feeds(whole(), [tmp_path / "a.png"])
