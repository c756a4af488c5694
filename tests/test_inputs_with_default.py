"""Inputs with a default: may be fed or not at every door, with the same results as TensorFlow's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.cli import run as run_cli
from graphsplit.formats import GraphDefModel
from tests.shared import shared_case

tf1 = tf.compat.v1
HERE = {"main": "/cpu:0"}
X = np.arange(8, dtype=np.float32).reshape(2, 4) - 3


def whole(default: object = 0.5, *, through: int = 0) -> GraphDefModel:
    """x ─▶ ·scale ─▶ mid ─▶ Relu ─▶ +scale ─▶ y: both sections read the input `scale`, which has a default."""
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, [None, 4], name="x")
        value = tf.constant(default, tf.float32, name="default")
        for number in range(through):
            value = tf.identity(value, name=f"pass_{number}")
        scale = tf1.placeholder_with_default(value, [], name="scale")
        mid = tf.multiply(x, scale, name="mid")
        tf.add(tf.nn.relu(mid), scale, name="y")
    model = gs.load(graph)
    assert isinstance(model, GraphDefModel)
    return model


def expected(scale: float) -> np.ndarray:
    return np.maximum(X * np.float32(scale), 0) + np.float32(scale)


FEEDS = [({"x": X}, 0.5), ({"x": X, "scale": np.float32(2)}, 2.0), ({"x": X, "scale:0": np.float32(-1)}, -1.0)]


@pytest.mark.parametrize("through", [0, 3])
def test_it_is_an_input_of_the_model_and_of_each_section_that_reads_it(through: int, tmp_path: Path) -> None:
    model = whole(through=through)
    assert model.index.inputs == ("x:0", "scale:0")
    assert {t: v.tolist() for t, v in model.defaults.items()} == {"scale:0": 0.5}
    parts = gs.split(model, outputs="mid", devices=HERE)
    assert [[p.tensor for p in part.inputs] for part in parts] == [["x:0", "scale:0"], ["scale:0", "mid:0"]] or [
        sorted(p.tensor for p in part.inputs) for part in parts
    ] == [["scale:0", "x:0"], ["mid:0", "scale:0"]]
    gs.save(parts, tmp_path / "out")
    again = gs.load_parts(tmp_path / "out")
    assert {t: v.tolist() for t, v in again.defaults.items()} == {"scale:0": 0.5}
    # Any TensorFlow runs a section without feeding it.
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        tf.graph_util.import_graph_def(again["main"].graph_def, name="")
        np.testing.assert_array_equal(session.run("mid:0", {"x:0": X}), X * np.float32(0.5))


@pytest.mark.parametrize(("feeds", "scale"), FEEDS, ids=["left out", "fed", "fed by its full name"])
def test_every_door_takes_it_or_its_default(feeds: dict[str, np.ndarray], scale: float) -> None:
    model = whole()
    parts = gs.split(model, outputs="mid", devices=HERE)
    assert gs.verify(model, parts, feeds).equal
    np.testing.assert_array_equal(gs.place(parts, HERE).run(feeds)["y:0"], expected(scale))
    with gs.Pipeline(parts) as pipeline:
        np.testing.assert_array_equal(pipeline.run(feeds)["y:0"], expected(scale))
        for result in pipeline.stream([feeds, feeds]):
            np.testing.assert_array_equal(result["y:0"], expected(scale))
    assert gs.bench(parts, feeds=feeds, frames=3).whole.fps > 0


def test_the_runner_takes_all_inputs_or_those_that_are_needed() -> None:
    parts = gs.split(whole(), outputs="mid", devices=HERE)
    for array, scale in ((X, 0.5), ([X, np.float32(2)], 2.0)):
        results: list[np.ndarray] = []
        runner = gs.AsyncRunner(parts["main"])
        runner.set_postprocessing_model(parts["post"])
        frames = iter([array])
        runner.connect_input(lambda frames=frames: next(frames, None))
        runner.connect_output(results.append)
        runner.wait()
        np.testing.assert_array_equal(results[0], expected(scale))


def test_wrong_feeds_are_refused_as_for_any_input() -> None:
    parts = gs.split(whole(), outputs="mid", devices=HERE)
    with gs.Pipeline(parts) as pipeline:
        for feeds, message in (
            ({"x": X, "scale": np.float64(1)}, "must be float32"),
            ({"x": X, "scale": X}, r"must have shape \[\]"),
            ({"x": X, "default": np.float32(1)}, "no input 'default'"),
            ({"scale": np.float32(1)}, "'x:0' is not fed"),
        ):
            with pytest.raises(gs.FeedError, match=message):
                pipeline.run(feeds)
        np.testing.assert_array_equal(pipeline.run({"x": X})["y:0"], expected(0.5))


def test_one_whose_default_is_computed_is_no_input_and_says_so_at_every_door() -> None:
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder(tf.float32, [None, 4], name="x")
        half = tf1.placeholder_with_default(tf.reduce_mean(x), [], name="half")
        mid = tf.multiply(x, half, name="mid")
        tf.nn.relu(mid, name="y")
    model = gs.load(graph)
    assert model.index.inputs == ("x:0",)
    parts = gs.split(model, outputs="mid", devices=HERE)
    assert gs.verify(model, parts).equal
    feeds = {"x": X, "half": np.float32(2)}
    with gs.Pipeline(parts) as pipeline, pytest.raises(gs.FeedError, match="no input 'half'"):
        pipeline.run(feeds)
    with pytest.raises(gs.FeedError, match="no input 'half'"):
        gs.verify(model, parts, feeds)
    cut = gs.split(model, inputs="half:0,x:0", outputs="mid", devices=HERE)
    assert gs.verify(model, cut).equal


def test_a_picture_with_a_default_is_fed_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tf.Graph().as_default() as graph:
        image = tf1.placeholder_with_default(np.zeros((1, 8, 8, 3), np.float32), [None, 8, 8, 3], name="image")
        out = tf.nn.conv2d(image, tf.ones((3, 3, 3, 4)), 1, "SAME", name="mid")
        tf.nn.relu(out, name="out")
    path = tmp_path / "m.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    picture = np.ones((1, 8, 8, 3), np.float32)
    parts = gs.split(path, outputs="mid", devices=HERE)
    with gs.Pipeline(parts) as pipeline:
        assert pipeline.run({"image": picture})["out:0"].max() == 27
        assert pipeline.run({})["out:0"].max() == 0
    report = gs.verify(path, parts)
    assert report.equal
    assert report.runs == 2
    assert run_cli(["show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == [
        {"tensor": "image:0", "dtype": "float32", "shape": [None, 8, 8, 3], "optional": True}
    ]


def test_it_may_be_exported_and_fed(tmp_path: Path) -> None:
    parts = gs.split(whole(), outputs="mid", devices=HERE)
    for what, folder in ((whole(), "whole"), (parts, "parts")):
        gs.export(what, tmp_path / folder, to="saved_model")
        served = tf.saved_model.load(str(tmp_path / folder)).signatures["serving_default"]
        assert set(served.structured_input_signature[1]) == {"x", "scale"}
        (value,) = served(x=tf.constant(X), scale=tf.constant(2.0)).values()
        np.testing.assert_array_equal(value, expected(2))


def test_a_real_one_is_proven_with_what_is_fed() -> None:
    path = shared_case("real/litert_graph_with_placeholder_with_default.pbtxt")
    model = gs.load(path)
    assert model.defaults
    assert set(model.defaults) <= set(model.index.inputs)
