"""An input that has a default: a PlaceholderWithDefault, fed if it is fed, its default if not, alike at every door.

zeros ─▶ image ─▶ conv ─▶ h ─▶ y          image: an input, optional
one ───▶ keep ───────────▲──▲             keep: one more, read by both sections
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.cli import run
from graphsplit.errors import FeedError, FormatError
from graphsplit.formats import GraphDefModel
from graphsplit.inference.feeds import image_feeds, made_feeds
from graphsplit.parts.parts import Parts

from .graphs import const, model, node, placeholder

IMAGE = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
pytestmark = pytest.mark.filterwarnings("ignore:.*gpu")
Door = Callable[[Parts, dict[str, Any]], np.ndarray[Any, Any]]


def default(name: str, source: str, shape: list[int | None] | None = None, **attrs: Any) -> Any:
    return node(name, "PlaceholderWithDefault", source, shape=shape, **{"dtype": tf.float32, **attrs})


def constant_default() -> GraphDefModel:
    return model(
        const("zeros", np.full([1, 4, 3], -1.0, np.float32)),
        default("image", "zeros", [None, 4, 3]),
        const("one", 1.0),
        default("keep", "one", []),
        node("h", "Mul", "image", "keep"),
        node("relu", "Relu6", "h"),
        node("sum", "Sub", "relu", "keep"),
        node("y", "Mul", "sum", "image"),
    )


def computed_default() -> GraphDefModel:
    """The default of `image` is computed from another input; both sections read it."""
    return model(
        placeholder("x", [None, 4, 3]),
        const("two", 2.0),
        node("twice", "Mul", "x", "two"),
        default("image", "twice", [None, 4, 3]),
        node("h", "Neg", "image"),
        node("y", "Mul", "h", "image"),
    )


def run_whole(whole: GraphDefModel, feeds: dict[str, Any]) -> Any:
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(whole.graph_def, name="")
        with tf.compat.v1.Session() as session:
            return session.run("y:0", feeds)


def piped(parts: Parts, feeds: dict[str, Any]) -> Any:
    with gs.Pipeline(parts) as pipe:
        return pipe.run(feeds)["y:0"]


def streamed(policy: str) -> Door:
    def door(parts: Parts, feeds: dict[str, Any]) -> Any:
        with gs.Pipeline(parts) as pipe:
            pipe.warm_up(feeds)
            return next(out["y:0"] for out in pipe.stream(iter([feeds]), policy=policy))

    return door


def placed(parts: Parts, feeds: dict[str, Any]) -> Any:
    return gs.place(parts).run(feeds)["y:0"]


def called_back(parts: Parts, feeds: dict[str, Any]) -> Any:
    frames, results = [0], []
    with gs.AsyncRunner(parts["main"]) as runner:
        runner.set_postprocessing_model(parts["post"])
        values = [feeds.get(p.tensor) for p in runner.inputs]
        runner.connect_input(lambda: values if frames and not frames.pop() else None)
        runner.connect_output(lambda *arrays: results.append(arrays))
        runner.wait()
    return results[0][0]


def several_streams(parts: Parts, feeds: dict[str, Any]) -> Any:
    frames, results = {0: [0], 1: [0]}, []
    with gs.MultiStreamRunner(parts["main"]) as runner:
        runner.set_postprocessing_model(parts["post"])
        values = [feeds.get(p.tensor) for p in runner.inputs]
        runner.connect_streams(
            lambda stream: values if frames[stream] and not frames[stream].pop() else None,
            lambda stream, *arrays: results.append(arrays),
            2,
        )
        runner.wait()
    assert len(results) == 2
    return results[1][0]


DOORS = [piped, streamed("block"), streamed("latest"), placed, called_back, several_streams]
CONSTANT = [{}, {"image:0": IMAGE}, {"keep:0": np.float32(0.5)}, {"image:0": np.stack([IMAGE[0]] * 2), "keep:0": np.float32(2)}]
COMPUTED = [{"x:0": IMAGE}, {"x:0": IMAGE, "image:0": IMAGE + 5}]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("make", "several"), [(constant_default, CONSTANT), (computed_default, COMPUTED)])
def test_it_is_fed_if_fed_and_its_default_if_not(
    make: Callable[[], GraphDefModel], several: list[dict[str, Any]], door: Door, tmp_path: Path
) -> None:
    whole = make()
    parts = gs.load_parts(gs.save(gs.split(whole, outputs=["h"], isolate=False), tmp_path))
    for feeds in several:
        assert np.array_equal(door(parts, feeds), run_whole(whole, feeds)), feeds
        assert gs.verify(whole, parts, feeds, isolate=False).equal


@pytest.mark.parametrize("door", DOORS[:4])
def test_a_name_that_is_no_input_is_an_error(door: Door) -> None:
    parts = gs.split(constant_default(), outputs=["h"], isolate=False)
    with pytest.raises(FeedError, match=r"no input 'zeros'; there are image:0, keep:0"):
        door(parts, {"zeros": IMAGE})
    with pytest.raises(FeedError, match=r"no input 'zeros'"):
        gs.verify(constant_default(), parts, {"zeros": IMAGE}, isolate=False)


def test_it_is_checked_like_any_input() -> None:
    parts = gs.split(constant_default(), outputs=["h"], isolate=False)
    with pytest.raises(gs.CutError, match="image:0 is fed from outside"):
        gs.split(constant_default(), outputs=["image"], isolate=False)
    with pytest.raises(FeedError, match="'image:0' must be float32, not uint8"):
        gs.verify(constant_default(), parts, {"image:0": IMAGE.astype(np.uint8)}, isolate=False)


def test_the_index_says_which_inputs_have_a_default() -> None:
    whole = constant_default()
    assert [(s.name, s.optional) for s in whole.inputs] == [("image:0", True), ("keep:0", True)]
    assert dict(whole.index.defaults) == {"image:0": "zeros", "keep:0": "one"}
    assert [(s.name, s.optional) for s in computed_default().inputs] == [("x:0", False), ("image:0", True)]
    assert dict(computed_default().index.defaults) == {"image:0": None}


def test_each_section_that_reads_a_constant_default_has_its_own_copy() -> None:
    parts = gs.split(constant_default(), outputs=["h"], isolate=False)
    for part in parts:
        assert {"image", "keep", "zeros", "one"} <= part.model.index.name_to_node_map.keys()
    assert {p.tensor: p.optional for p in parts["post"].inputs} == {"image:0": True, "keep:0": True, "h:0": False}
    assert [p.tensor for p in parts["main"].outputs] == ["h:0"]


@pytest.mark.parametrize("repair", ["auto", "border", "replicate"])
def test_a_computed_default_is_in_one_section_and_crosses(repair: Any) -> None:
    parts = gs.split(computed_default(), outputs=["h"], repair=repair, isolate=False)
    assert {p.tensor: p.optional for p in parts["main"].inputs} == {"x:0": False, "image:0": True}
    assert {p.tensor: p.optional for p in parts["post"].inputs} == {"h:0": False, "image:0": False}
    assert "twice" not in parts["post"].model.index.name_to_node_map
    assert gs.verify(computed_default(), parts, isolate=False).equal


def test_a_computed_default_that_only_the_last_section_reads_is_fed_there() -> None:
    whole = model(
        placeholder("x", [None, 4, 3]),
        node("h", "Neg", "x"),
        node("e", "Exp", "h"),
        default("image", "e", [None, 4, 3]),
        node("y", "Relu", "image"),
    )
    parts = gs.split(whole, outputs=["h"], isolate=False)
    assert [(p.tensor, p.optional) for p in parts["post"].inputs] == [("image:0", True), ("h:0", False)]
    for feeds in COMPUTED:
        assert np.array_equal(piped(parts, feeds), run_whole(whole, feeds))
    assert gs.verify(whole, parts, isolate=False).runs == 3


@pytest.mark.parametrize(("make", "sections"), [(constant_default, ["main", "post"]), (computed_default, ["pre", "main", "post"])])
def test_it_may_be_where_main_starts(make: Callable[[], GraphDefModel], sections: list[str]) -> None:
    whole = make()
    parts = gs.split(whole, inputs=["image"], outputs=["h"], isolate=False)
    assert [p.name for p in parts] == sections
    report = gs.verify(whole, parts, isolate=False)
    assert report.equal
    assert report.runs == 3


def test_a_default_that_is_an_input_or_another_default() -> None:
    whole = model(
        placeholder("x", [None, 3]),
        default("a", "x", [None, 3]),
        default("b", "a", None),
        node("h", "Neg", "b"),
        node("y", "Mul", "h", "a"),
    )
    parts = gs.split(whole, outputs=["h"], isolate=False)
    x = np.ones([1, 3], np.float32)
    for feeds in ({"x": x}, {"x": x, "a": 2 * x}, {"x": x, "b": 3 * x}, {"x": x, "a": 2 * x, "b": 3 * x}):
        assert np.array_equal(piped(parts, feeds), run_whole(whole, {f"{k}:0": v for k, v in feeds.items()}))
    assert gs.verify(whole, parts, isolate=False).equal


def test_one_of_unknown_shape_takes_any() -> None:
    whole = model(const("c", [1.0, 2.0]), default("x", "c"), node("h", "Neg", "x"), node("y", "Exp", "h"))
    parts = gs.split(whole, outputs=["h"], isolate=False)
    assert parts["main"].inputs[0].shape is None
    for feeds in ({}, {"x:0": np.ones([2, 2], np.float32)}, {"x:0": np.float32(1)}):
        assert np.array_equal(piped(parts, feeds), run_whole(whole, feeds))


def test_a_graph_of_nothing_else_returns_what_is_fed() -> None:
    whole = model(const("c", np.int32(3)), default("x", "c", [], dtype=tf.int32), default("z", "c", dtype=tf.int32))
    assert whole.index.outputs == ("x:0", "z:0")
    parts = gs.split(whole, isolate=False)
    assert [p.name for p in parts] == ["main"]
    for feeds, expected in (({}, [3, 3]), ({"x": np.int32(5)}, [5, 3]), ({"x": np.int32(5), "z": np.int32(7)}, [5, 7])):
        with gs.Pipeline(parts) as pipe:
            assert [int(v) for v in pipe.run(feeds).values()] == expected
        assert gs.verify(whole, parts, feeds, isolate=False).equal


def test_one_inside_a_cond_is_no_input() -> None:
    whole = model(
        placeholder("x"),
        placeholder("p", [], tf.bool),
        node("c/s", "Switch", "x", "p"),
        default("c/d", "c/s:1"),
        node("c/m", "Merge", "c/s", "c/d", N=2),
        node("y", "Neg", "c/m"),
    )
    assert whole.index.inputs == ("x:0", "p:0")
    assert not whole.index.defaults


def test_one_inside_a_loop_is_no_input_and_one_that_enters_it_is() -> None:
    def body(n: Any, a: Any) -> Any:
        return n + 1, tf.raw_ops.PlaceholderWithDefault(input=a * 2.0, shape=[None, 3])

    tf1 = tf.compat.v1
    was_on = tf1.control_flow_v2_enabled()
    tf1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            start = tf1.placeholder_with_default(tf.ones([1, 3]), [None, 3], name="start")
            _, looped = tf1.while_loop(lambda n, a: n < 3, body, [0, start])
            tf.identity(tf.identity(looped, name="h") + start, name="y")
    finally:
        if was_on:
            tf1.enable_control_flow_v2()
    whole = gs.load(graph.as_graph_def())
    assert [s.name for s in whole.inputs] == ["start:0"]
    parts = gs.split(whole, outputs=["h"], isolate=False)
    for feeds, expected in (({}, 9.0), ({"start": np.full([2, 3], 2, np.float32)}, 18.0)):
        assert (piped(parts, feeds) == expected).all()
    assert gs.verify(whole, parts, isolate=False).runs == 3


def test_a_default_that_runs_after_another_node_is_in_one_section() -> None:
    whole = model(
        placeholder("p", [], tf.bool),
        const("text", np.array(b"no")),
        node("check", "Assert", "p", "text", T=[tf.string]),
        const("c", [1.0, 2.0]),
        default("x", "c", [None]),
        node("h", "Neg", "x"),
        node("y", "Mul", "h", "x"),
    )
    graph = whole.graph_def
    next(n for n in graph.node if n.name == "x").input.append("^check")
    whole = gs.load(graph)
    assert dict(whole.index.defaults) == {"x:0": None}
    parts = gs.split(whole, outputs=["h"], isolate=False)
    assert {p.tensor: p.optional for p in parts["post"].inputs} == {"x:0": False, "h:0": False}
    for feeds in ({"p": np.array(True)}, {"p": np.array(False), "x": np.ones(3, np.float32)}):
        assert np.array_equal(piped(parts, feeds), run_whole(whole, {f"{k}:0": v for k, v in feeds.items()}))


def test_frames_of_one_stream_may_feed_it_or_not() -> None:
    parts = gs.split(constant_default(), outputs=["h"], isolate=False)
    several = [CONSTANT[i % 4] for i in range(9)]
    with gs.Pipeline(parts) as pipe:
        results = [out["y:0"] for out in pipe.stream(several)]
    for feeds, result in zip(several, results, strict=True):
        assert np.array_equal(result, run_whole(constant_default(), feeds))


def test_one_inside_a_function_is_no_input() -> None:
    @tf.function(autograph=False)
    def f(x: Any) -> Any:
        return tf.raw_ops.PlaceholderWithDefault(input=tf.constant(2.0), shape=[]) * x

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.identity(f(x), name="y")
    whole = gs.load(graph.as_graph_def())
    assert [s.name for s in whole.inputs] == ["x:0"]


def test_synthetic_feeds_leave_switches_and_single_numbers_at_their_default() -> None:
    whole = model(
        const("f", np.array(False)),
        default("training", "f", [], dtype=tf.bool),
        const("k", 1.0),
        default("keep", "k", []),
        const("z", np.zeros([1, 8, 8, 3], np.float32)),
        default("image", "z", [None, 8, 8, 3]),
        node("n", "Mul", "image", "keep"),
        node("t", "Cast", "training", SrcT=tf.bool, DstT=tf.float32),
        node("y", "Mul", "n", "t"),
    )
    assert [sorted(feed) for feed in made_feeds(whole)] == [["image:0"], ["image:0"], []]
    assert [feed["image:0"].shape[0] for feed in made_feeds(whole)[:2]] == [1, 2]
    assert gs.verify(whole, gs.split(whole, outputs=["n"], isolate=False), isolate=False).runs == 3


def test_pictures_are_fed_where_all_else_has_a_default(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(tf.io.encode_png(np.full([5, 4, 3], 9, np.uint8)).numpy())
    whole = model(const("k", 1.0), default("keep", "k", []), placeholder("x", [None, None, None, 3]), node("y", "Mul", "x", "keep"))
    assert [sorted(feed) for feed in image_feeds(whole, [file])] == [["x:0"], ["x:0"]]


def test_a_section_that_ignores_what_is_fed_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof feeds the default and a value: it would see a section that drops the value."""
    whole = constant_default()
    parts = gs.split(whole, outputs=["h"], isolate=False)
    from graphsplit.verification import equivalence

    run = equivalence.run_parts
    monkeypatch.setattr(equivalence, "run_parts", lambda parts, feeds, sessions, alike: run(parts, {}, sessions) | dict(feeds))
    assert not gs.verify(whole, parts, isolate=False).equal


def test_the_manifest_keeps_which_inputs_are_optional(tmp_path: Path) -> None:
    folder = gs.save(gs.split(constant_default(), outputs=["h"], isolate=False), tmp_path)
    content = json.loads((folder / "split.json").read_text())
    assert [p.get("optional") for p in content["sections"][1]["inputs"]] == [True, True, None]
    content["sections"][1]["inputs"][2]["optional"] = True
    (folder / "split.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"\$\.sections\[1\]\.inputs\[2\]\.optional: 'h:0' in 'model_post\.pb' has no default"):
        gs.load_parts(folder)


def test_show_states_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = constant_default().save(tmp_path / "a.pb")
    assert run(["show", str(file), "--json"]) == 0
    image, keep = json.loads(capsys.readouterr().out)["inputs"]
    assert image == {"tensor": "image:0", "dtype": "float32", "shape": [None, 4, 3], "optional": True, "default": None}
    assert keep == {"tensor": "keep:0", "dtype": "float32", "shape": [], "optional": True, "default": 1.0}
    assert run(["show", str(file)]) == 0
    assert "input (optional, default 1.0)" in capsys.readouterr().out


@pytest.mark.parametrize("section", [None, "main", "post"])
@pytest.mark.parametrize("make", [constant_default, computed_default])
def test_a_saved_model_has_it_as_an_input(make: Callable[[], GraphDefModel], section: str | None, tmp_path: Path) -> None:
    parts = gs.split(make(), outputs=["h"], isolate=False)
    exported = gs.export(parts, tmp_path / "out", to="saved_model", section=section)
    assert exported.report.equal
    assert "image:0" in [p.tensor for p in exported.inputs]


def test_a_section_in_another_format_has_no_default(tmp_path: Path) -> None:
    """As after `export(to="tflite")`: main is a model without the default, so the whole needs a value."""
    parts = gs.split(constant_default(), outputs=["h"], isolate=False)
    main = model(placeholder("image", [None, 4, 3]), placeholder("keep", []), node("h", "Mul", "image", "keep"))
    parts = parts.replaced("main", main, {t: t for t in ("image:0", "keep:0", "h:0")})
    assert [p.optional for p in parts.input_ports] == [False, False]
    assert [p.optional for p in parts["post"].inputs] == [True, True, False]
    report = gs.verify(constant_default(), parts, isolate=False)
    assert report.equal
    assert report.runs == 3
    for door in (piped, placed):
        with pytest.raises(FeedError, match=r"'image:0' is not fed; 'keep:0' is not fed"):
            door(parts, {})
        feeds = {"image:0": IMAGE, "keep:0": np.float32(2)}
        assert np.array_equal(door(parts, feeds), run_whole(constant_default(), feeds))


@pytest.mark.parametrize("make", [constant_default, computed_default])
def test_a_triton_repository_has_it_as_an_input_of_the_ensemble(make: Callable[[], GraphDefModel], tmp_path: Path) -> None:
    pytest.importorskip("tritonclient")
    exported = gs.export(gs.split(make(), outputs=["h"], isolate=False), tmp_path / "out", to="triton")
    assert exported.report.equal
    assert "image:0" in [p.tensor for p in exported.inputs]


def test_the_signature_of_a_saved_model_states_a_constant_default(tmp_path: Path) -> None:
    gs.export(constant_default(), tmp_path / "out", to="saved_model")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "out")).signature_def["serving_default"]
        assert {k: float(tf.make_ndarray(v).max()) for k, v in signature.defaults.items()} == {"image": -1.0, "keep": 1.0}
        assert np.array_equal(session.run(signature.outputs["y"].name), run_whole(constant_default(), {}))


@pytest.mark.slow
def test_bench_runs_it() -> None:
    assert gs.bench(gs.split(constant_default(), outputs=["h"], isolate=False), frames=6, devices={"main": "/cpu:0"}).frames


def test_sizes_of_what_follows_are_inferred_for_any_batch() -> None:
    whole = model(
        const("z", np.zeros([1, 6], np.float32)),
        default("x", "z", [None, 6]),
        const("s", np.array([-1, 3], np.int32)),
        node("h", "Neg", "x"),
        node("r", "Reshape", "h", "s", T=tf.float32, Tshape=tf.int32),
        node("y", "Neg", "h"),
        node("w", "Neg", "r"),
    )
    parts = gs.split(whole, outputs=["h"], isolate=False)
    assert parts["main"].outputs[0].shape == (None, 6)
