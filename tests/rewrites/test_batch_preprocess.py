"""The loop over images as ops over the batch: what is taken out of the loop, what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.formats import GraphDefModel, load
from graphsplit.rewrites import lifting, rewrite
from tests.rewrites.detectors import compared, loops_of_tensorflow_1, v1
from tests.shared import shared_model


def preprocessor(body, dtype=tf.float32, input_dtype=tf.float32) -> GraphDefModel:
    """A loop over images: float32 [b, h, w, 3] → what the body makes of each."""
    with tf.Graph().as_default() as graph, loops_of_tensorflow_1():
        images = v1.placeholder(input_dtype, [None, None, None, 3], "images")
        found = v1.map_fn(body, images, dtype=dtype, parallel_iterations=1)
        results = found if isinstance(found, (list, tuple)) else [found]
        names = [tf.identity(tensor, f"out_{number}").name for number, tensor in enumerate(results)]
    # Loops have ends that nobody reads; they are no outputs.
    return GraphDefModel([graph.as_graph_def().SerializeToString(deterministic=True)], output_names=names)


def resized(image, size=(7, 5), op=tf.raw_ops.ResizeBilinear, **more):
    return tf.squeeze(op(images=tf.expand_dims(image, 0), size=tf.constant(size), **more), [0])


def feeds(number: int):
    rng = np.random.default_rng(number)
    return {"images:0": rng.uniform(0, 255, (1 + number % 3, *rng.integers(1, 30, 2), 3)).astype(np.float32)}


BODIES = {
    "resize": resized,
    "resize and normalise": lambda image: (resized(image) - [1.0, 2.0, 3.0]) * (2.0 / 255.0) - 1.0,
    "normalise and resize": lambda image: resized(image * (2.0 / 255.0) - 1.0),
    "nearest": lambda image: resized(image, op=tf.raw_ops.ResizeNearestNeighbor),
    "bicubic, half pixel centres": lambda image: resized(image, op=tf.raw_ops.ResizeBicubic, half_pixel_centers=True),
    "size from the image": lambda image: tf.squeeze(
        tf.raw_ops.ResizeBilinear(images=tf.expand_dims(image, 0), size=tf.shape(image)[:2] * 2 + 1), [0]
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_loop_becomes_ops_over_the_batch(name):
    model = preprocessor(BODIES[name])
    rewritten = rewrite(model, batch_preprocess=True)
    assert [r["name"] for r in rewritten.rewrites] == ["batch_preprocess"]
    assert not [n for n in rewritten.index.nodes if n.op in ("Enter", "NextIteration", "TensorArrayV3")]
    assert compared(model, rewritten, feeds, 24) == 0


def test_what_is_the_same_for_all_images_is_repeated():
    model = preprocessor(lambda image: (resized(image), tf.shape(image), tf.constant([7, 5, 3])), (tf.float32, tf.int32, tf.int32))
    rewritten = rewrite(model, batch_preprocess=True)
    assert rewritten.rewrites
    assert not rewritten.index.groups
    assert compared(model, rewritten, feeds, 12) == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda image: resized(image) / tf.reduce_max(image), "not known to treat each image independently"),
        (lambda image: resized(tf.image.flip_left_right(image)), "ReverseV2"),
        (lambda image: resized(tf.cond(tf.reduce_mean(image) > 1, lambda: image, lambda: -image)), "holds a"),
        (lambda image: tf.expand_dims(resized(image), 0)[0], "not known to treat"),
        (lambda image: resized(image) + tf.random.uniform([]), "holds a RandomUniform"),
    ],
)  # fmt: skip
def test_what_may_mix_images_is_left_alone(body, reason):
    rewritten = rewrite(preprocessor(body), batch_preprocess=True)
    assert not rewritten.rewrites
    assert [entry["name"] for entry in rewritten.left_alone] == ["batch_preprocess"]
    assert reason in rewritten.left_alone[0]["reason"]
    assert rewritten.index.groups


def test_a_loop_that_counts_otherwise_is_left_alone():
    graph = preprocessor(resized).graph_def
    steps = [n for n in graph.node if n.op in ("AddV2", "Add")]
    two = graph.node.add()
    two.CopyFrom(next(n for n in graph.node if n.name == steps[0].input[1]))
    two.name = "two"
    two.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.int32(2)))
    for step in steps:
        step.input[1] = "two"
    rewritten = rewrite(GraphDefModel([graph.SerializeToString()], output_names=["out_0:0"]), batch_preprocess=True)
    assert "count from 0 by 1" in rewritten.left_alone[0]["reason"]


def test_a_planted_difference_is_seen(monkeypatch):
    model = preprocessor(BODIES["resize and normalise"])
    copy = lifting.Lift._copy

    def swapped(lift, node, inputs, port):
        return copy(lift, node, inputs[::-1] if node.op == "Sub" else inputs, port)

    monkeypatch.setattr(lifting.Lift, "_copy", swapped)
    assert compared(model, rewrite(model, batch_preprocess=True), feeds, 3) == 3


def test_shared_models_lose_their_preprocessing_loop():
    model = load(shared_model("ssd_mobilenet_v1_face_2018.pb"))
    rewritten = rewrite(model, batch_preprocess=True)
    assert rewritten.rewrites
    assert len(rewritten.index.groups) == len(model.index.groups) - 1
    frcnn = rewrite(load(shared_model("faster_rcnn_inception_v2_coco_2018.pb")), batch_preprocess=True)
    assert not frcnn.rewrites
    assert "Merge" in frcnn.left_alone[0]["reason"]


def test_arrays_that_are_asked_for_their_size_are_stacked_like_others():
    model = preprocessor(resized)
    graph = model.graph_def
    stack = next(n for n in graph.node if n.op == "TensorArrayGatherV3")
    counted = next(n for n in graph.node if n.name == stack.input[1])
    graph.node.add(name="size", op="TensorArraySizeV3", input=[stack.input[0], stack.input[2]])
    counted.input[1] = "size"
    model = GraphDefModel([graph.SerializeToString()], output_names=["out_0:0"])
    rewritten = rewrite(model, batch_preprocess=True)
    assert rewritten.rewrites, rewritten.left_alone
    assert compared(model, rewritten, feeds, 6) == 0


def test_a_batch_of_no_images_stays_one():
    model = preprocessor(resized)
    rewritten = rewrite(model, batch_preprocess=True)
    assert compared(model, rewritten, lambda number: {"images:0": np.zeros((0, 5, 4, 3), np.float32)}, 1) == 0


def test_a_loop_that_may_end_early_is_left_alone():
    model = preprocessor(resized)
    graph = model.graph_def
    by_name = {n.name: n for n in graph.node}
    end = next(n for n in graph.node if n.op == "LoopCond")
    stop = graph.node.add(name="stop", op="LogicalNot", input=[end.input[0]])
    graph.node.add(name="again", op="LogicalOr", input=[end.input[0], stop.name])
    assert by_name[end.input[0]].op in ("LogicalAnd", "Less")
    end.input[0] = "again"
    rewritten = rewrite(GraphDefModel([graph.SerializeToString()], output_names=["out_0:0"]), batch_preprocess=True)
    assert "LogicalOr instead of a LogicalAnd or Less" in rewritten.left_alone[0]["reason"]
