"""What is passed where it does not belong: plans of other models, options that are decided, misspelt keywords, paths, pickles."""

from __future__ import annotations

import copy
import json
import pickle
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.batching.journal import JOURNAL, Journal
from graphsplit.batching.running import run_batch
from graphsplit.errors import CutError, FormatError, GraphSplitError, OptionError
from graphsplit.execution.metrics import Statistics
from graphsplit.graph.index import Group, Node, TensorSpec
from graphsplit.parts.parts import Port
from graphsplit.planning.cuts import Cut
from graphsplit.planning.plan import Added
from tests.graphs import const, model, node, placeholder


def chain(**changes):
    """x ─▶ a ─▶ b ─▶ c, and two constants"""
    nodes = {
        "x": placeholder("x", changes.get("shape", [None, 2]), changes.get("dtype", tf.float32)),
        "k": const("k", changes.get("value", 2.0)),
        "a": node("a", "Relu", "x", T=changes.get("dtype", tf.float32)),
        "b": node("b", changes.get("op", "Mul"), *changes.get("reads", ("a", "k"))),
        "c": node("c", "Tanh", changes.get("last", "b"), *changes.get("after", ())),
    }
    return model(*(nodes[n] for n in changes.get("order", "xkabc")), *changes.get("more", ()))


OTHERS = {
    "another op": {"op": "AddV2"},
    "another input": {"reads": ("a", "x")},
    "inputs the other way round": {"reads": ("k", "a")},
    "an input less far": {"last": "a"},
    "a control input": {"after": ("^a",)},
    "another dtype": {"dtype": tf.float64},
    "a node that is missing": {"order": "xkac", "last": "a"},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(
    "use",
    [
        lambda m, p: gs.split(m, p, shapes=False),
        lambda m, p: gs.draw(m, p, shapes=False),
        lambda m, p: gs.draw(p, model=m, shapes=False),
    ],
    ids=["split", "draw", "draw the plan"],
)
def test_a_plan_of_a_similar_model_is_refused(changes, use):
    plan = gs.plan(chain(), outputs=["a"], shapes=False)
    with pytest.raises(CutError, match=r"the plan was made for another model: .*; plan it again"):
        use(chain(**changes), plan)


@pytest.mark.parametrize("changes", [{}, {"value": 7.0}, {"shape": [4, 2]}, {"more": [node("d", "Relu", "c")]}])
def test_a_plan_of_the_same_graph_is_used_again_with_other_weights_and_more_that_nothing_needs(changes):
    plan = pickle.loads(pickle.dumps(gs.plan(chain(), outputs=["a"], model_outputs=["c"], shapes=False)))
    parts = gs.split(chain(**changes), plan, shapes=False)
    assert [p.name for p in parts] == ["main", "post"]
    assert gs.draw(chain(**changes), plan, shapes=False).svg


@pytest.mark.parametrize("option", [{"repair": "error"}, {"repair": "auto"}, {"affinity": None}])
def test_what_a_plan_has_decided_is_not_passed_with_it(option):
    whole = chain()
    with pytest.raises(OptionError, match=rf"{next(iter(option))} is decided when a split is planned"):
        gs.split(whole, gs.plan(whole, outputs=["a"], shapes=False), **option)
    with pytest.raises(OptionError, match="'repiar'; did you mean 'repair'"):
        gs.split(whole, gs.plan(whole, outputs=["a"], shapes=False), repiar="error")


@pytest.mark.parametrize(
    ("function", "given", "meant"),
    [
        (gs.load, "fromat", "format"),
        (gs.suggest, "limt", "limit"),
        (gs.plan, "otputs", "outputs"),
        (gs.split, "ouputs", "outputs"),
        (gs.verify, "rtoll", "rtol"),
        (gs.save, "overwite", "overwrite"),
        (gs.export, "sectoin", "section"),
        (gs.place, "device", "devices"),
        (gs.draw, "shape", "shapes"),
        (gs.fetch, "overwrit", "overwrite"),
        (gs.rewrite, "fuse_mns", "fuse_nms"),
        (gs.load_parts, "dirctory", "directory"),
        (gs.check, "targt", "target"),
        (gs.bench, "frame", "frames"),
        (gs.view, "prt", "port"),
        (gs.Pipeline, "dept", "depth"),
        (gs.AsyncRunner, "dept", "depth"),
        (gs.Detector, "thrshold", "threshold"),
    ],
)
def test_a_misspelt_keyword_of_any_function_names_the_nearest_one(function, given, meant):
    name = function.__name__
    with pytest.raises(OptionError, match=rf"^{name}\(\) got an unexpected keyword argument '{given}'; did you mean '{meant}'\?$"):
        function("demo", **{given: 1})


def test_what_is_copied_is_the_same_and_what_cannot_be_pickled_says_what_to_do():
    whole = chain()
    parts = gs.split(whole, outputs=["a"], shapes=False)
    for what in (whole, gs.load("demo")):
        assert copy.copy(what) is what
        assert copy.deepcopy(what) is what
        with pytest.raises(TypeError, match=r"a model is not pickled: .*; pass its path, or save"):
            pickle.dumps(what)
    again = copy.deepcopy(parts)
    assert [p.name for p in again] == ["main", "post"]
    report = gs.verify(whole, again, feeds={"x": np.ones((1, 2), np.float32)}, isolate=False)
    assert report.equal
    assert pickle.loads(pickle.dumps(report)) == copy.deepcopy(report) == report
    for what in (parts, parts["main"]):
        with pytest.raises(TypeError, match="a model is not pickled"):
            pickle.dumps(what)
    plan = gs.plan(whole, outputs=["a"], shapes=False)
    assert pickle.loads(pickle.dumps(plan)) == copy.deepcopy(plan) == plan


def test_reprs_are_bounded():
    long, many = "x" * 10_000, tuple(f"t{i}" for i in range(10_000))
    statistics = Statistics(many)
    for what in (
        Cut(long, many),
        Node(long, long, many, many, many),
        TensorSpec(long, "float32", tuple(range(10_000))),
        Port(long, long + "y", "float32", tuple(range(10_000))),
        Group(long, "loop", many),
        Added(long, "post", long, long),
        statistics,
    ):
        assert len(repr(what)) < 400
        assert repr(what).startswith(f"{type(what).__name__}(")
    assert repr(Statistics(["main", "post"])) == "Statistics(0 frames; main → post)"
    assert repr(TensorSpec("x:0", "uint8", (None, 3))) == "TensorSpec(x:0, uint8 [?, 3])"


@pytest.mark.parametrize("name", ["a\0b", "\0", "a\udc80\ud800"])
def test_a_path_that_no_system_takes_is_an_error_of_this_package(tmp_path, name):
    whole = chain()
    parts = gs.split(whole, outputs=["a"], shapes=False)
    place = f"{tmp_path}/{name}"
    uses = [
        lambda: gs.load(place),
        lambda: gs.load_parts(place),
        lambda: gs.save(parts, place),
        lambda: whole.save(place),
        lambda: parts["main"].save(place),
        lambda: gs.draw(whole, shapes=False).save(place + ".svg"),
        lambda: gs.plan(whole, crop_file=place),
        lambda: gs.AsyncRunner(place),
        lambda: gs.export(whole, place, to="nothing"),
        lambda: gs.fetch("http://127.0.0.1:9/x.pb", place),
        lambda: run_batch(whole, [place], tmp_path / "out"),
    ]
    for use in uses:
        with pytest.raises(GraphSplitError):
            use()
    with pytest.raises(OptionError, match=r"^out cannot be '.*': no path holds a NUL or a lone surrogate$"):
        run_batch(whole, [tmp_path], place)
    assert list(tmp_path.iterdir()) == []


def test_names_as_long_as_the_system_takes_can_be_written(tmp_path):
    whole = chain()
    for length in (200, 241, 242, 251):
        path = whole.save(tmp_path / ("n" * length + ".pb"))
        assert gs.load(path).index.inputs == ("x:0",)
        gs.draw(whole, shapes=False).save(tmp_path / ("s" * length + ".svg"))
    gs.save(gs.split(whole, outputs=["a"], shapes=False), tmp_path / ("d" * 255))
    with pytest.raises(FormatError, match="cannot be written: File name too long"):
        whole.save(tmp_path / ("n" * 256))


_HEAD = {"graphsplit": "0.1.0", "schema": 1, "settings": {}}
_DONE = {"part": 0, "file": "part-00000.jsonl", "frames": 1, "sources": ["a"], "rejects": []}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{**_DONE, "part": -1}], r"line 2: not the journal of a batch, or a damaged one: part -1"),
        ([{**_DONE, "frames": -5}], r"line 2: .* of -5 frames"),
        ([_DONE, {**_DONE, "file": "b.jsonl"}], r"line 3: .*part 0 a second time"),
        ([{**_DONE, "file": "../../etc/passwd"}], r"line 2: .*'\.\./\.\./etc/passwd', which is not in the folder"),
        ([{**_DONE, "file": ""}], r"line 2: .*which is not in the folder"),
        ([{**_DONE, "part": "zero"}], r"line 2: not the journal"),
    ],
)
def test_a_journal_that_no_run_has_written_is_refused(tmp_path: Path, lines, message):
    content = "".join(json.dumps(line) + "\n" for line in (_HEAD, *lines))
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(FormatError, match=message):
        Journal(tmp_path, {}, resume=True)
    assert (tmp_path / JOURNAL).read_text() == content


@pytest.mark.slow
def test_a_model_that_fails_while_it_is_measured_is_one_line():
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 4], name="x")
        tf.debugging.check_numerics(tf.math.log(tf.nn.relu(x, name="m") - 1e30), "bad", name="y")
    with pytest.raises(GraphSplitError, match=r"^measuring whole failed: bad : Tensor had NaN values \(node 'y'\)$"):
        gs.bench(gs.split(graph.as_graph_def(), outputs=["m"], shapes=False), frames=2)


HOSTILE = "a\x1b[31m\u202e<script>alert(1)</script>[red]&\x00"


def test_names_in_pages_and_pictures_are_text_and_reorder_nothing():
    from graphsplit.diagram.tables import html_text, table

    shown = "a\\x1b[31m\\u202e&lt;script&gt;alert(1)&lt;/script&gt;[red]&amp;\\x00"
    assert html_text(HOSTILE) == shown
    assert shown in table([HOSTILE], [[HOSTILE]])
    whole = model(placeholder("x"), node(f"s/{HOSTILE}", "Relu", "x"), node("y", "Tanh", f"s/{HOSTILE}"))
    svg = gs.draw(whole, gs.plan(whole, outputs=[f"s/{HOSTILE}"], shapes=False), shapes=False).svg
    ElementTree.fromstring(svg)
    for character in "\x1b\u202e\0":
        assert character not in svg
    assert "<script" not in svg
