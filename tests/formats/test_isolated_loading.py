"""Whatever TensorFlow and Keras do with a file when they load it, they do it in the child process.

load(path) ──▶ child: TensorFlow, Keras ──▶ frozen bytes, or one line
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.errors import FormatError
from graphsplit.formats import isolated, load, saved_model
from graphsplit.formats import keras as keras_files
from graphsplit.isolation import shared
from graphsplit.isolation.child_process import Child
from graphsplit.isolation.failures import ChildError, reported_error

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hazards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A shared child of 4 GiB that has the tasks of this package."""
    shared.stop()
    monkeypatch.setattr(shared, "Child", lambda *args, **options: Child(*args, memory=2**32, **options))
    yield
    shared.stop()


class Plain(tf.Module):
    """y = 2 x."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable([2.0, 2.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def double(self, x: Any) -> Any:
        return {"y": x * self.factor}


def saved_v1(path: Path, initialiser: Any) -> Path:
    """A SavedModel of TensorFlow 1 whose initialiser is what a function adds to the graph."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        y = tf.identity(x * 2.0, name="y")
        builder = tf.compat.v1.saved_model.Builder(str(path))
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        operation = initialiser()
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=operation)
        builder.save()
    return path


def endless() -> Any:
    loop = tf.while_loop(lambda i: i >= 0.0, lambda i: i * 0.5, [tf.constant(1.0)])
    return tf.group(loop)


def gigabytes() -> Any:
    # Through a placeholder, so that no optimisation computes it while it is saved.
    size = tf.compat.v1.placeholder_with_default(tf.constant(50 * 2**28), [])
    return tf.group(tf.reduce_sum(tf.random.uniform(tf.reshape(size, [1]))))


def printing() -> Any:
    return tf.print("loud", output_stream=sys.stdout)


def test_saved_models_and_keras_files_are_frozen_elsewhere_as_they_are_here(tmp_path: Path) -> None:
    module = Plain()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.double)
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="scores")]).save(tmp_path / "m.keras")
    for path in (tmp_path / "saved", tmp_path / "m.keras"):
        apart, here = load(path), load(path, isolate=False)
        assert apart.sha256 == here.sha256
        assert apart.signature == here.signature
        assert apart.signature.outputs
        assert [t.name for t in apart.outputs] == [t.name for t in here.outputs]
        assert b"".join(apart.chunks) == b"".join(here.chunks)
        assert list(apart.signature.outputs) == list(here.signature.outputs)


def test_one_child_freezes_infers_and_proves(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.ReLU()]).save(tmp_path / "m.keras")
    before, _ = shared.call("process", None)
    model = load(tmp_path / "m.keras")
    node = next(n for n in model.index.nodes if n.op == "MatMul")
    parts = gs.split(model, outputs=node.outputs)
    gs.verify(model, parts)
    assert shared.call("process", None)[0].value == before.value


@pytest.mark.slow
def test_an_initialiser_that_never_ends_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "_DEADLINE", 8.0)
    monkeypatch.setattr(saved_model, "read_frozen", lambda *_: (None, "reading runs no initialiser"))
    path = saved_v1(tmp_path / "m", endless)
    with pytest.raises(FormatError, match=r"m: loading it did not end within 8 seconds; freeze it where") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_initialiser_that_needs_too_much_memory_is_one_line(
    hazards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_model, "read_frozen", lambda *_: (None, "reading runs no initialiser"))
    path = saved_v1(tmp_path / "m", gigabytes)
    with pytest.raises(FormatError, match=r"needed more than [\d.]+ GiB of memory|OOM when allocating") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["saved_model", "keras"])
def test_a_crash_is_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint or a weight that native code does not survive, whatever the reason."""

    def crash(*args: Any, **options: Any) -> Any:
        raise ChildError("crashed (signal 6: Check failed)")

    monkeypatch.setattr(shared, "call", crash)
    monkeypatch.setattr(saved_model, "read_frozen", lambda *_: (None, "reading is tested elsewhere"))
    if kind == "keras":
        path = tmp_path / "m.keras"
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(path)
    else:
        module = Plain()
        path = tmp_path / "m"
        tf.saved_model.save(module, str(path), signatures=module.double)
    with pytest.raises(FormatError, match=r"loading it crashed \(signal 6: Check failed\); save it again"):
        load(path)


def test_what_a_model_prints_while_it_is_loaded_is_not_in_the_answer(tmp_path: Path) -> None:
    path = saved_v1(tmp_path / "m", printing)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "graphsplit", "show", str(path), "--json"]
    shown = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["outputs"]
    assert "loud" not in shown.stdout


@pytest.mark.parametrize(
    "reply",
    [
        None,
        {},
        {"outputs": ["y:0"], "keys": [{}, {"y": 3}]},
        {"outputs": [1], "keys": [{}, {}]},
        {"outputs": ["y:0"], "keys": {}},
        {"outputs": None, "keys": [{}, {}]},
    ],
)
def test_an_answer_that_is_none_is_refused(reply: Any) -> None:
    with pytest.raises(ChildError, match="sent what is not an answer"):
        isolated._frozen(reply, (np.zeros(3, np.uint8),))
    good = {"outputs": ["y:0"], "keys": [{}, {}]}
    for arrays in ((), (np.zeros(3),), (np.zeros((3, 1), np.uint8),), (np.zeros(3, np.uint8),) * 2):
        with pytest.raises(ChildError, match="sent what is not an answer"):
            isolated._frozen(good, arrays)


def test_the_cause_of_an_error_is_kept_and_bounded() -> None:
    report: dict[str, Any] = {"kind": "ValueError", "text": "0"}
    for number in range(1, 500):
        report = {"kind": "ValueError", "text": str(number), "cause": report}
    error: BaseException | None = reported_error(report)
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    assert texts == ["499", "498", "497", "496"]


def test_objects_that_tensorflow_cannot_build_are_loaded_as_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As optimizers of Keras 2 with their slots: "'_UserObject' object has no attribute 'add_slot'"."""
    module = Plain()
    path = tmp_path / "m"
    tf.saved_model.save(module, str(path), signatures=module.double)
    expected = load(path, isolate=False)

    def fails(folder: str) -> Any:
        raise AttributeError("'_UserObject' object has no attribute 'add_slot'")

    monkeypatch.setattr(tf.saved_model, "load", fails)
    model = load(path, isolate=False)
    assert list(model.signature.outputs) == list(expected.signature.outputs) == ["y"]
    assert {"Mul"} <= {n.op for n in model.index.nodes}  # the call is inlined
    feed = np.array([[1.0, 3.0]], np.float32)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(b"".join(model.chunks)), name="")
        np.testing.assert_array_equal(session.run(model.outputs[0].name, {model.inputs[0].name: feed}), 2 * feed)


def test_the_tasks_are_named_for_the_child() -> None:
    for task in (saved_model.freeze_task, keras_files.freeze_task):
        assert task.__module__.startswith("graphsplit.")
        assert getattr(sys.modules[task.__module__], task.__name__) is task
