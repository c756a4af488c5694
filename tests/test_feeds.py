"""What inputs are, read from their readers; sizes found by trial; values and shapes that people state."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import function

import graphsplit as gs
from graphsplit.errors import FeedError, GraphSplitError, SectionRunError
from graphsplit.formats import GraphDefModel
from graphsplit.inference.demands import Demand, demands
from graphsplit.inference.synthesis import Synthesis, as_fed

tf1 = tf.compat.v1
Build = Callable[[], Any]


def built(build: Build, *, v1: bool = True) -> GraphDefModel:
    """The graph that a function builds; its result is the output ``out``."""
    with tf.Graph().as_default() as graph:
        if v1:
            tf1.disable_control_flow_v2()
        else:
            tf1.enable_control_flow_v2()
        tf.identity(build(), name="out")
    tf1.enable_control_flow_v2()  # as other tests expect it
    return GraphDefModel([graph.as_graph_def().SerializeToString()])


def unknown(name: str, dtype: Any = tf.float32) -> Any:
    return tf1.placeholder(dtype, None, name=name)


def filters(*shape: int) -> Any:
    return tf.constant(np.ones(shape, np.float32))


def kept(x: Any, keep: Any) -> Any:
    """Dropout as TensorFlow 1 built it."""
    return tf.math.divide(x, keep) * tf.floor(keep + tf.random.uniform(tf.shape(x), name="dropout/random_uniform"))


def gru_like() -> Any:
    x = tf.reshape(unknown("x"), [tf.shape(unknown("y"))[0], 28, 28])
    return tf.reduce_sum(x, [1, 2])


# What a reader says ↔ what is fed. The first input is x.
READ: dict[str, tuple[Build, Demand]] = {
    "convolution": (lambda: tf.nn.conv2d(unknown("x"), filters(3, 3, 5, 2), 1, "SAME"), Demand((None, None, None, 5))),
    "depthwise": (
        lambda: tf.nn.depthwise_conv2d(unknown("x"), filters(3, 3, 4, 2), [1, 1, 1, 1], "SAME"),
        Demand((None, None, None, 4)),
    ),
    "channels first": (
        lambda: tf1.nn.max_pool(unknown("x"), [1, 1, 2, 2], [1, 1, 2, 2], "VALID", data_format="NCHW"),
        Demand((None, None, None, None)),
    ),
    "transposed": (
        lambda: tf.nn.conv2d(tf.transpose(unknown("x"), [0, 2, 3, 1]), filters(3, 3, 3, 2), 1, "SAME"),
        Demand((None, 3, None, None)),
    ),
    "scaled first": (
        lambda: tf.nn.conv2d((tf.identity(unknown("x")) - 127.5) / 127.5, filters(3, 3, 1, 2), 1, "SAME"),
        Demand((None, None, None, 1)),
    ),
    "a batch is added": (
        lambda: tf.nn.conv2d(tf.expand_dims(unknown("x"), 0), filters(3, 3, 3, 2), 1, "SAME"),
        Demand((None, None, 3)),
    ),
    "padded": (
        lambda: tf.nn.conv2d(tf.pad(unknown("x"), [[0, 0], [1, 1], [1, 1], [0, 0]]), filters(3, 3, 3, 2), 1, "SAME"),
        Demand((None, None, None, 3)),
    ),
    "matrix": (lambda: tf.matmul(unknown("x"), filters(7, 2)), Demand((None, 7))),
    "transposed matrix": (lambda: tf.matmul(unknown("x"), filters(2, 7), transpose_b=True), Demand((None, 7))),
    "resized": (lambda: tf1.image.resize_bilinear(unknown("x"), [8, 8]), Demand((None, None, None, None))),
    "flattened": (
        lambda: tf.matmul(tf.reshape(unknown("x"), [-1, 12]), filters(12, 2)),
        Demand(elements=12),
    ),
    "table": (lambda: tf.gather(filters(9, 4), unknown("x", tf.int32)), Demand(below=9)),
    "one hot": (lambda: tf.one_hot(unknown("x", tf.int64), 6), Demand(below=6)),
    "keep": (lambda: kept(filters(4), unknown("x")), Demand((), value=1.0)),
    "wav": (lambda: tf.audio.decode_wav(unknown("x", tf.string))[0], Demand((), content="wav")),
    "png": (lambda: tf.image.decode_png(unknown("x", tf.string)), Demand((), content="picture")),
    "number": (lambda: tf.strings.to_number(unknown("x", tf.string)), Demand(content="number")),
}


@pytest.mark.parametrize("kind", READ)
def test_readers_say_what_an_input_is(kind):
    build, expected = READ[kind]
    assert demands(built(build))["x:0"] == expected


def flag_v1() -> Any:
    x = tf1.placeholder(tf.float32, [None, 4], name="x")
    return tf1.cond(unknown("phase_train", tf.bool), lambda: x * 2.0, lambda: x + 1.0)


def two_flags() -> Any:
    x = unknown("x")
    h = tf.matmul(x, filters(6, 6))
    h = tf1.cond(tf.logical_not(unknown("is_training", tf.bool)), lambda: h, lambda: h * 2.0)
    return h * unknown("keep_prob")


def video() -> Any:
    return tf.nn.conv3d(unknown("x"), filters(2, 2, 2, 3, 1), [1, 1, 1, 1, 1], "SAME")


def tokens() -> Any:
    ids, mask = unknown("ids", tf.int32), unknown("mask")
    return tf.reduce_sum(tf.gather(filters(11, 8), ids) * tf.expand_dims(mask, -1), 1)


def audio() -> Any:
    x = tf1.placeholder(tf.float32, [None, None], name="x")
    return tf.matmul(tf.abs(tf.signal.rfft(tf.reshape(x, [-1, 16_000]))), filters(8_001, 2))


def square() -> Any:
    x = tf1.placeholder(tf.float32, [None, None, None, 3], name="x")
    return tf.matmul(tf.reshape(tf.nn.avg_pool2d(x, 8, 8, "VALID"), [-1, 16 * 16 * 3]), filters(16 * 16 * 3, 2))


def bmp() -> Any:
    return tf.cast(tf.image.decode_bmp(unknown("x", tf.string)), tf.float32)


def unused() -> Any:
    unknown("unused", tf.variant)
    return tf.nn.relu(tf1.placeholder(tf.float32, [None, 4], name="x"))


PROVEN: dict[str, Build] = {f.__name__: f for f in (flag_v1, two_flags, video, tokens, audio, square, bmp, unused)} | {
    k: b for k, (b, _) in READ.items() if k not in ("channels first",)
}


@pytest.mark.parametrize("kind", PROVEN)
def test_what_people_have_is_proven_without_a_word(kind):
    whole = built(PROVEN[kind])
    index = whole.index
    inner = [t for n in index.nodes if n.kind == "op" and n.name != "out" for t in n.outputs if t not in index.captive]
    for tensor in inner:
        try:
            parts = gs.split(whole, tensor, shapes=False)
        except gs.CutError:
            continue
        assert gs.verify(whole, parts, isolate=False).equal, tensor
        return
    raise AssertionError("no legal cut")


def test_conditions_of_tensorflow_2_are_read():
    whole = built(two_flags, v1=False)
    found = Synthesis(whole)
    assert found.inputs["is_training:0"].value is False
    assert found.inputs["keep_prob:0"].value == 1.0
    (one, _) = found.feeds()
    assert one["is_training:0"].shape == ()


def test_sizes_come_from_the_message_of_a_model_that_refuses():
    def build() -> Any:
        x = tf1.placeholder(tf.float32, [None, None, 3], name="x")
        return tf.matmul(tf.reshape(x, [-1, 3 * 777]) * 2.0, filters(2331, 2))

    whole = built(build)
    report = gs.verify(whole, gs.split(whole, "mul", shapes=False), isolate=False)
    assert report.equal
    assert report.chosen == {"x:0": {"shape": [None, 777, 3]}}


def serialised() -> Any:
    """A string that holds a tensor, which nobody can guess, times a number."""
    return tf.io.parse_tensor(unknown("x", tf.string), tf.float32) * tf1.placeholder(tf.float32, [None, 3], name="y")


def test_an_advice_for_what_no_trial_finds_works():
    whole = built(serialised)
    parts = gs.split(whole, "mul", shapes=False)
    with pytest.raises(SectionRunError, match=r"were synthetic; pass real ones \(feeds=…\), or state shapes \(shapes=…\)"):
        gs.verify(whole, parts, isolate=False)
    text = tf.io.serialize_tensor(np.ones((2, 3), np.float32)).numpy()
    feeds = {"x": np.array(text, dtype=object), "y": np.ones((2, 3), np.float32)}
    assert gs.verify(whole, parts, feeds, isolate=False).equal
    assert gs.verify(whole, parts, {"x": feeds["x"]}, shapes={"y": [2, 3]}, isolate=False).equal


def two_lengths() -> Any:
    """One has to be 3 and the other 4, which no reader says."""
    x, y = tf1.placeholder(tf.float32, [1, None], name="x"), tf1.placeholder(tf.uint8, [1, None], name="y")
    return tf.raw_ops.Cross(a=x, b=x) * tf.bitcast(y, tf.float32)


def test_sizes_that_differ_are_found_one_by_one():
    whole = built(two_lengths)
    parts = gs.split(whole, "Cross", shapes=False)
    assert gs.verify(whole, parts, isolate=False).chosen == {"x:0": {"shape": [1, 3]}, "y:0": {"shape": [1, 4]}}
    assert gs.verify(whole, parts, shapes={"x": [1, 3], "y": [None, 4]}, isolate=False).equal
    assert gs.verify(whole, parts, {"x": np.ones((1, 3), np.float32)}, shapes={"y:0": [1, 4]}, isolate=False).equal


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({"z": [1]}, "no input 'z'; there are x:0"),
        ({"x": [1, 4, 4, 3]}, r"'x:0' has shape \[\?, 4\] in the file, which \[1, 4, 4, 3\] contradicts"),
        ({"x": [1, 5]}, r"'x:0' has shape \[\?, 4\] in the file, which \[1, 5\] contradicts"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(shapes, text):
    whole = built(unused)
    with pytest.raises(FeedError, match=text):
        gs.verify(whole, gs.split(whole, "Relu", shapes=False), shapes=shapes, isolate=False)


def called() -> Any:
    """A function that is not inlined: what is inside states no rank."""

    @tf.function
    def inside(x: Any) -> Any:
        return tf.nn.conv2d(x, filters(3, 3, 3, 2), 1, "SAME")

    return inside(unknown("x"))


def cut_to_length() -> Any:
    return tf1.placeholder(tf.float32, [None, None], name="x")[:, : unknown("n", tf.int32)] * 2.0


def spectrum() -> Any:
    return tf.abs(tf.signal.stft(tf1.placeholder(tf.float32, [None], name="x"), 512, 256)) * 2.0


def cell() -> Any:
    x, c, h = unknown("x"), unknown("c"), unknown("h")
    weights = {"wci": filters(8), "wcf": filters(8), "wco": filters(8), "b": filters(32)}
    return tf.raw_ops.LSTMBlockCell(x=x, cs_prev=c, h_prev=h, w=filters(20, 32), **weights).h * 2.0


def patches() -> Any:
    """A fixed number of patches, which 64 and 72 pixels have."""
    return tf.nn.conv2d(unknown("x"), filters(16, 16, 3, 4), 16, "VALID") + filters(1, 4, 4, 4)


def suppressed() -> Any:
    boxes = unknown("x") * 2.0
    return tf.gather(boxes, tf.image.non_max_suppression(boxes, unknown("scores"), 10))


def stateless() -> Any:
    return unknown("x") * tf.random.stateless_uniform([4], unknown("seed", tf.int32))


def branch_by_number() -> Any:
    return tf1.cond(tf.equal(unknown("x", tf.int32), 1), lambda: filters(2), lambda: filters(2) * 2.0) + 1.0


def resized() -> Any:
    return tf1.image.resize_bilinear(unknown("x") * 2.0, unknown("size", tf.int32))


def einsum() -> Any:
    return tf.raw_ops.Einsum(inputs=[unknown("x"), filters(6, 2, 3)], equation="abc,cde->abde")


# What is fed in the first run.
FED: dict[str, tuple[Build, dict[str, tuple[int, ...]]]] = {
    "a number that branches": (branch_by_number, {"x:0": ()}),
    "Squeeze": (lambda: tf.squeeze(unknown("x"), [2]) @ filters(1, 5, 4), {"x:0": (1, 1, 1, 5)}),
    "Split": (lambda: tf.concat(tf.split(unknown("x"), 3, 3)[::-1], 3) * filters(1, 1, 1, 3), {"x:0": (1, 320, 320, 3)}),
    "StridedSlice": (lambda: tf.nn.conv2d(unknown("x")[..., ::-1], filters(3, 3, 1, 2), 1, "SAME"), {"x:0": (1, 320, 320, 1)}),
    "a new axis": (lambda: tf.nn.conv2d(unknown("x")[None, ..., None], filters(3, 3, 1, 2), 1, "SAME"), {"x:0": (1, 1)}),
    "ConcatV2": (
        lambda: tf.matmul(tf.concat([unknown("x"), unknown("y")], 1), filters(21, 4)),
        {"x:0": (1, 10), "y:0": (1, 11)},
    ),
    "Einsum": (einsum, {"x:0": (1, 1, 6)}),
    "LSTM": (cell, {"x:0": (1, 12), "c:0": (1, 8), "h:0": (1, 8)}),
    "TopK": (lambda: tf.nn.top_k(filters(1, 5) * 2.0, unknown("x", tf.int32))[0], {"x:0": ()}),
    "NonMaxSuppression": (suppressed, {"x:0": (1, 4), "scores:0": (1,)}),
    "size of a resizer": (resized, {"x:0": (1, 320, 320, 3), "size:0": (2,)}),
    "a function": (called, {"x:0": (1, 320, 320, 3)}),
    "a length": (cut_to_length, {"x:0": (1, 1), "n:0": ()}),
    "frames": (spectrum, {"x:0": (512,)}),
    "patches": (patches, {"x:0": (1, 72, 72, 3)}),
    "a seed": (stateless, {"x:0": (1,), "seed:0": (2,)}),
}


@pytest.mark.parametrize("name", FED)
def test_a_split_of_what_states_no_shapes_is_proven(name):
    build, shapes = FED[name]
    whole = built(build, v1=name != "a function")
    report = gs.verify(whole, gs.split(whole), isolate=False)
    assert report.equal
    fed = {word.partition(" ")[0]: word[word.index("[") : word.index("]") + 1] for word in re.split(r", (?=\w+:)", report.feeds[0])}
    assert fed == {tensor: str(list(shape)) for tensor, shape in shapes.items()}


EXAMPLE = {
    "a": tf.io.FixedLenFeature([2, 3], tf.float32),
    "b": tf.io.FixedLenFeature([200], tf.int64),
    "c": tf.io.FixedLenFeature([1], tf.string),
}


CONTENTS: dict[str, Build] = {
    "GIF": lambda: tf.image.decode_gif(unknown("x", tf.string)),
    "BMP": lambda: tf.image.decode_bmp(unknown("x", tf.string)),
    "PNG or JPEG": lambda: tf.image.decode_png(unknown("x", tf.string), 3),
    "base64": lambda: tf.image.decode_jpeg(tf.io.decode_base64(unknown("x", tf.string)), 3),
    "WAV": lambda: tf.audio.decode_wav(unknown("x", tf.string), desired_channels=1).audio,
    "an example": lambda: tf.io.parse_example(tf1.placeholder(tf.string, [None], name="x"), EXAMPLE)["a"],
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_a_string_is_decoded_as_is_what_it_holds(name):
    whole = built(lambda: tf.multiply(tf.cast(CONTENTS[name](), tf.float32), 2.0, name="mul"))
    assert gs.verify(whole, gs.split(whole, "mul", shapes=False), isolate=False).equal


def empty_picture() -> Any:
    picture = tf.image.decode_jpeg(tf.constant(b"", name="contents"), channels=3)
    return tf.nn.conv2d(tf.cast(picture, tf.float32)[None], filters(3, 3, 3, 2), 1, "SAME", name="features") * 2.0


def constant_picture() -> Any:
    picture = tf.constant(np.ones((1, 4, 4, 3), np.float32), name="contents")
    return tf.nn.conv2d(picture, filters(3, 3, 3, 2), 1, "SAME", name="features") * 2.0


@pytest.mark.parametrize("build", [empty_picture, constant_picture])
def test_a_constant_is_an_input_where_it_is_named(build, tmp_path):
    whole = built(build).save(tmp_path / "whole.pb")
    parts = gs.split(whole, inputs="contents", outputs="features")
    assert parts.inputs == ("contents:0",)
    folder = gs.save(parts, tmp_path / "o")
    assert gs.verify(whole, folder, isolate=False).equal
    with gs.Pipeline(folder, devices={"main": "/cpu:0"}) as pipe, pytest.raises(FeedError, match="'contents:0' is not fed"):
        pipe.run({})


def test_an_empty_picture_that_is_decoded_is_an_input_and_another_constant_is_none():
    assert [s.name for s in built(empty_picture).inputs] == ["contents:0"]
    assert built(constant_picture).inputs == ()


def test_a_model_that_crashes_on_a_size_is_tried_on_others():
    """oneDNN aborts on a convolution of a row; TensorFlow infers nothing inside of a function of version 1."""

    @function.Defun(tf.float32)
    def inside(x: Any) -> Any:
        return tf.nn.conv2d(x[..., ::-1], filters(3, 3, 3, 2), 1, "SAME")

    whole = built(lambda: inside(unknown("x")))
    assert gs.verify(whole, gs.split(whole), isolate=False).equal


SPECS = (
    gs.TensorSpec("f:0", "float32", None), gs.TensorSpec("i:0", "uint8", (None,)), gs.TensorSpec("b:0", "bool", ()),
    gs.TensorSpec("s:0", "string", None),
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"f": 1}, 1.0), ({"f:0": [[1, 2.5]]}, [[1.0, 2.5]]), ({"i": [0, 255]}, [0, 255]), ({"b": True}, True), ({"s": "a"}, b"a"),
     ({"s": ["a", "b"]}, [b"a", b"b"])],
)  # fmt: skip
def test_values_become_arrays_of_their_inputs(value, expected):
    (array,) = as_fed(SPECS, value).values()
    assert array.tolist() == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"g": 1}, "no input 'g'; there are f:0, i:0, b:0, s:0"),
        ({"ff": 1}, r"no input 'ff'; did you mean f\?"),
        ({"i": [1.5]}, r"'i:0' is uint8, which '\[1\.5\]' is not"),
        ({"i": [256]}, r"'i:0' is uint8, which '\[256\]' is not"),
        ({"i": [-1]}, r"'i:0' is uint8, which '\[-1\]' is not"),
        ({"b": 1}, "'b:0' is bool, which '1' is not"),
        ({"f": True}, "'f:0' is float32, which 'True' is not"),
        ({"f": "one"}, "'f:0' is float32, which 'one' is not"),
        ({"f": [[1], [1, 2]]}, "'f:0' is float32, which"),
        ({"b": [True]}, r"'b:0' must have shape \[\], not \[1\]"),
    ],
)
def test_values_of_another_kind_are_refused(value, text):
    with pytest.raises(FeedError, match=text):
        as_fed(SPECS, value)


# In the manifest


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    return built(two_flags, v1=False).save(tmp_path / "flags.pb")


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({"nosuch:0": 1}, r"\$\.feeds\.nosuch:0: is not an input of the whole"),
        ({"x:0": "text"}, r"\$\.feeds\.x:0: neither a number"),
        ({"x:0": {"shape": ["a"]}}, r"\$\.feeds\.x:0: a shape is"),
        ({"x:0": {"size": [1]}}, r"\$\.feeds\.x:0: a shape is"),
        ({"is_training:0": 3}, "'is_training:0' is bool, which '3' is not"),
    ],
)
def test_a_manifest_with_wrong_feeds_is_refused(flags, tmp_path, feeds, text):
    folder = gs.save(gs.split(flags, "MatMul", shapes=False), tmp_path / "o")
    content = json.loads((folder / "split.json").read_text())
    (folder / "split.json").write_text(json.dumps(content | {"feeds": feeds}))
    with pytest.raises(GraphSplitError, match=text):
        gs.verify(flags, folder, isolate=False)
