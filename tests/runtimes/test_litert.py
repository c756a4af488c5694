"""TFLite models in LiteRT: feeds that do not fit are refused, not crashed on; sections in pipelines and callback runners."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest

from graphsplit.errors import FeedError, FormatError, MissingExtraError, PlacementError, SectionRunError, TrustError
from graphsplit.execution.callbacks import AsyncRunner
from graphsplit.execution.pipeline import Pipeline
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.inference.sessions import open_session
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Part, Parts, Port, Source
from graphsplit.runtimes.litert import LiteRTSession
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import verify

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import Built, chain, everything, looped, per_channel

CPU = {"main": "/cpu:0", "post": "/cpu:0"}


def made(built: Built) -> TFLiteModel:
    return TFLiteModel(built.bytes())


def session(built: Built, **options: object) -> LiteRTSession:
    found = open_session(made(built), **options)  # type: ignore[arg-type]
    assert isinstance(found, LiteRTSession)
    return found


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    deadline = time.time() + 60
    shared = ("litert", "graphsplit-child")
    mine = lambda: [t for t in threading.enumerate() if t.name.startswith("graphsplit-") and not any(s in t.name for s in shared)]  # noqa: E731
    while mine() and time.time() < deadline:
        time.sleep(0.01)
    assert mine() == []


# feeds


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({}, "'x' is not fed"),
        ({"y": row(1, 2, 3, 4)}, "'x' is not fed"),
        ({"x": np.zeros((1, 5), np.float32)}, r"'x' must have shape \[1, 4\], not \[1, 5\]"),
        ({"x": np.zeros((2, 4), np.float32)}, r"'x' must have shape \[1, 4\], not \[2, 4\]"),
        ({"x": np.zeros(4, np.float32)}, r"'x' must have shape \[1, 4\], not \[4\]"),
        ({"x": np.float32(1)}, r"'x' must have shape \[1, 4\], not \[\]"),
        ({"x": np.zeros((1, 4))}, "'x' must be float32, not float64"),
        ({"x": np.zeros((1, 4), np.int8)}, "'x' must be float32, not int8"),
        ({"x": np.array([["a"] * 4])}, "'x' must be float32, not str"),
        ({"x": None}, "'x' must be float32, not object"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_and_the_session_goes_on(feed, says):
    opened = session(chain())
    with pytest.raises(ValueError, match=says):
        opened.run(feed, ["t2"])
    assert opened.run({"x": row(0, 0, 0, 0)}, ["t2"])[0].tolist() == [[3, 6, 9, 12]]


def test_a_free_batch_takes_any_size_and_a_fixed_size_beside_it_only_its_own():
    opened = session(chain(signature=(-1, 4)))
    for batch in (1, 5, 2, 1, 0):
        (found,) = opened.run({"x": np.ones((batch, 4), np.float32)}, ["t2"])
        assert found.shape == (batch, 4)
    with pytest.raises(ValueError, match=r"'x' must have shape \[\?, 4\], not \[2, 5\]"):
        opened.run({"x": np.ones((2, 5), np.float32)}, ["t2"])


def test_tensors_in_between_are_given_after_a_resize_too():
    opened = session(chain(signature=(-1, 4)))
    feed = {"x": np.ones((3, 4), np.float32)}
    opened.run(feed, ["t2"])
    first, second = opened.run(feed, ["t0", "t1"])
    assert first.tolist() == [[1, 2, 3, 4]] * 3
    assert second.tolist() == [[2, 4, 6, 8]] * 3
    assert opened.run({"x": np.ones((1, 4), np.float32)}, ["t1", "x"])[1].shape == (1, 4)


def test_a_shape_that_an_operator_refuses_is_an_error_and_the_next_one_runs():
    """x [?, ?] + c [4]: five columns do not fit."""
    opened = session(chain(signature=(-1, -1)))
    assert opened.run({"x": np.zeros((2, 4), np.float32)}, ["t2"])[0].shape == (2, 4)
    with pytest.raises(RuntimeError, match=r"failed to (prepare|reshape)"):
        opened.run({"x": np.zeros((2, 5), np.float32)}, ["t2"])
    assert opened.run({"x": np.zeros((2, 4), np.float32)}, ["t2"])[0].shape == (2, 4)
    assert opened.run({"x": np.zeros((1, 4), np.float32)}, ["t2"])[0].shape == (1, 4)


def test_results_are_copies_that_no_later_run_changes():
    opened = session(chain())
    (first,) = opened.run({"x": row(0, 0, 0, 0)}, ["t2"])
    opened.run({"x": row(9, 9, 9, 9)}, ["t2"])
    assert first.tolist() == [[3, 6, 9, 12]]


def test_strings_go_in_and_come_out():
    built = Built()
    x, y = built.main.tensor("x", [2], "string"), built.main.tensor("y", [2, 1], "string")
    built.main.op("RESHAPE", [x, built.main.tensor("shape", [2], "int32", value=[2, 1])], [y])
    built.main.ends([x], [y])
    opened = session(built)
    for given in (np.array([b"ab", b""], object), np.array(["ab", ""]), np.array([b"ab", b""])):
        assert opened.run({"x": given}, ["y"])[0].tolist() == [[b"ab"], [b""]]


def test_int4_goes_in_as_int8_and_is_proven():
    built = Built()
    x = built.main.tensor("x", [1, 4], "int4", quantization=per_channel([0.5]))
    y = built.main.tensor("y", [1, 4])
    built.main.op("DEQUANTIZE", [x], [y], version=6)
    built.main.ends([x], [built.main.relu(y, "z")])
    whole = made(built)
    assert open_session(whole).run({"x": np.array([[1, 2, 3, -4]], np.int8)}, ["y"])[0].tolist() == [[0.5, 1, 1.5, -2]]
    assert verify(whole, split(whole, outputs="y", shapes=False)).equal


def test_prepare_takes_values_in_order():
    built = Built()
    x, y = built.main.tensor("x", [1]), built.main.tensor("y", [1])
    z = built.main.tensor("z", [1])
    built.main.op("SUB", [x, y], [z])
    built.main.ends([x, y], [z])
    opened = session(built)
    call = opened.prepare(["y", "x"], ["z"])
    assert call([np.float32([2]), np.float32([10])])[0].tolist() == [8]
    with pytest.raises(ValueError, match="shorter"):
        call([np.float32([2])])
    opened.close()


def test_threads_and_kernels_are_chosen():
    for options in ({"threads": 2}, {"optimize": False}, {"threads": 1, "optimize": False}):
        with session(everything(), **options) as opened:
            assert opened.run({"x": row(1, 2, 3, 4)}, ["y"])[0].shape == (1, 4)


# time and refusals


def test_a_loop_that_takes_too_long_is_left_behind_in_time():
    opened = session(looped(1.6e7), timeout=0.2)  # some seconds: nothing is left behind for long
    began = time.time()
    with pytest.raises(TimeoutError, match=r"did not end within 0.2 seconds"):
        opened.run({"x": np.zeros(1, np.float32)}, ["y"])
    assert time.time() - began < 5
    with pytest.raises(RuntimeError, match="an earlier run did not end in time and is still running; open another session"):
        opened.run({"x": np.zeros(1, np.float32)}, ["y"])


def test_a_loop_that_ends_gives_its_value_in_time():
    opened = session(looped(5.0), timeout=30)
    assert opened.run({"x": np.zeros(1, np.float32)}, ["y"])[0].tolist() == [5.0]


def test_a_failure_within_a_timed_run_is_raised():
    """x [4] ─▶ GATHER of a row that is not there."""
    built = Built()
    x, y = built.main.tensor("x", [1], "int32"), built.main.tensor("y", [1])
    built.main.op("GATHER", [built.main.tensor("rows", [3], value=[1, 2, 3]), x], [y])
    built.main.ends([x], [y])
    opened = session(built, timeout=30)
    assert opened.run({"x": np.int32([2])}, ["y"])[0].tolist() == [3]
    with pytest.raises(RuntimeError, match="GATHER"):
        opened.run({"x": np.int32([77])}, ["y"])


def test_what_litert_refuses_is_a_format_error():
    built = Built()
    x, y = built.main.tensor("x", [1]), built.main.tensor("y", [1])
    built.main.op("Mine", [x], [y], custom=b"")
    built.main.ends([x], [y])
    with pytest.raises(FormatError, match=r"LiteRT refuses the model: .*Mine"):
        session(built, trust=True)
    with pytest.raises(TrustError, match="Mine"):
        session(built)
    with pytest.raises(TrustError, match="Mine"):
        Pipeline(_whole(made(built)), devices={"main": "/cpu:0"})


def _whole(model: TFLiteModel) -> Parts:
    ends = [tuple(Port(s.name, s.name, s.dtype, s.shape) for s in side) for side in (model.inputs, model.outputs)]
    part = Part("main", model, *ends, "/cpu:0")
    return Parts((part,), tuple(p.tensor for p in ends[0]), tuple(p.tensor for p in ends[1]), Source(None, "tflite", "m", model))


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingExtraError, match=r"ai-edge-litert is not installed: pip install 'graphsplit\[tflite\]'"):
        session(chain())
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(MissingExtraError, match="flatbuffers is not installed"):
        split(made(chain()), outputs="t0", shapes=False)


# the proof


def test_the_proof_sees_a_section_that_computes_something_else():
    whole = made(chain())
    parts = split(whole, outputs="t0", shapes=False)
    other = chain()
    other.model.buffers[3].data = np.frombuffer(np.float32([1, 2, 3, 4.0001]).tobytes(), np.uint8)
    wrong = split(made(other), outputs="t0", shapes=False)
    mixed = Parts((parts["main"], wrong["post"]), parts.inputs, parts.outputs, parts.source)
    report = verify(whole, mixed)
    assert not report.equal
    assert report.first_divergent_section == "post"
    assert verify(whole, parts).equal


def test_open_sizes_are_found_by_trial():
    """x [?, ?] ─▶ RELU a ─▶ RESHAPE y"""

    def reshaped(*shape: int) -> TFLiteModel:
        built = Built()
        x = built.main.tensor("x", [1, 4], signature=[-1, -1])
        a = built.main.relu(x, "a")
        y = built.main.tensor("y", shape)
        built.main.op("RESHAPE", [a, built.main.tensor("shape", [2], "int32", value=shape)], [y])
        built.main.ends([x], [y])
        return made(built)

    for shape in ((1, 12), (3, 4)):
        whole = reshaped(*shape)
        assert verify(whole, split(whole, outputs="a", shapes=False)).equal
    whole = reshaped(3, 10_007)
    parts = split(whole, outputs="a", shapes=False)
    assert verify(whole, parts, shapes={"x": [3, 10_007]}).equal
    assert verify(whole, parts, {"x": np.ones((3, 10_007), np.float32)}).equal
    with pytest.raises(FeedError, match="must be float32"):
        verify(whole, parts, {"x": np.ones((3, 4))})


# sections at work


def test_a_pipeline_of_tflite_sections_gives_what_the_whole_gives():
    whole = made(everything())
    parts = split(whole, outputs="tensor_9", shapes=False)
    feeds = [{"x": row(i, -i, 2 * i, 1)} for i in range(20)]
    opened = open_session(whole)
    with Pipeline(parts, devices=CPU, threads=1) as pipe:
        for feed, found in zip(feeds, pipe.stream(feeds), strict=True):
            np.testing.assert_array_equal(found["y"], opened.run(feed, ["y"])[0])
        with pytest.raises(FeedError):
            pipe.run({"z": row(1, 2, 3, 4)})
        assert pipe.run(feeds[0])["y"].shape == (1, 4)


def test_a_feed_that_does_not_fit_ends_with_the_name_of_the_section():
    parts = split(made(chain()), outputs="t0", shapes=False)
    with Pipeline(parts, devices=CPU) as pipe, pytest.raises((SectionRunError, FeedError), match="must have shape"):
        pipe.run({"x": np.zeros((1, 7), np.float32)})


def test_an_accelerator_is_reached_by_its_delegate_only():
    parts = split(made(chain()), outputs="t0", shapes=False)
    with pytest.warns(UserWarning, match=r"section 'main' is TFLite: without a delegate for /gpu:0 it runs on the CPU"):
        Pipeline(parts).close()
    with pytest.raises(PlacementError, match="is TFLite and needs a delegate to run on /gpu:0"):
        Pipeline(parts, strict=True)
    with pytest.raises(FormatError, match=r"cannot load the TFLite delegate: .*nowhere\.so"):
        Pipeline(parts, delegates={"main": "/nowhere.so"})
    with pytest.raises(PlacementError, match="no section 'other'; there are main, post"):
        Pipeline(parts, delegates={"other": "/nowhere.so"})


def test_a_tflite_main_and_a_tensorflow_post_work_together():
    """x ─▶ chain (TFLite) ─▶ t2 ─▶ Relu, TopK (GraphDef) ─▶ best"""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        border = tf.compat.v1.placeholder(tf.float32, [1, 4], name="border")
        tf.nn.top_k(tf.nn.relu(border), 2, name="best")
    post = GraphDefModel([graph.as_graph_def().SerializeToString()])
    whole = made(chain())
    t2, best = Port("t2", "t2", "float32", (1, 4)), Port("best:0", "best:0", "float32", (1, 2))
    main = Part("main", whole, (Port("x", "x", "float32", (1, 4)),), (t2,), "/cpu:0")
    behind = Part("post", post, (Port("t2", "border:0", "float32", (1, 4)),), (best,), "/cpu:0")
    parts = Parts((main, behind), ("x",), ("best:0",), Source(None, "tflite", "m", whole))
    with Pipeline(parts, threads=1) as pipe:
        assert pipe.run({"x": row(0, 0, 0, 0)})["best:0"].tolist() == [[12, 9]]
    with pytest.raises(PlacementError, match="section 'post' runs in TensorFlow; only TFLite sections take a delegate"):
        Pipeline(parts, delegates={"post": "/nowhere.so"})


def test_sections_are_saved_loaded_and_run_between_callbacks(tmp_path):
    whole = made(chain())
    save(split(whole, outputs="t0", shapes=False), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model_main.tflite", "model_post.tflite", "split.json"]
    again = load_parts(tmp_path)
    assert [p.format for p in again] == ["tflite", "tflite"]
    assert verify(whole, again).equal
    frames = iter([row(i, 0, 0, 0) for i in range(5)])
    found = []
    runner = AsyncRunner(tmp_path / "model_main.tflite")
    runner.set_postprocessing_model(tmp_path / "model_post.tflite")
    runner.connect_input(lambda: next(frames, None))
    with pytest.warns(UserWarning, match="without a delegate"):  # main is meant for /gpu:0
        runner.connect_output(lambda value: found.append(value[0, 0]))
    runner.wait()
    assert found == [3, 4, 5, 6, 7]
    runner.shutdown()
