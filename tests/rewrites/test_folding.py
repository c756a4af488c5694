"""Constants computed ahead: what is exact by definition, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.formats import GraphDefModel
from graphsplit.rewrites import folding, rewrite
from tests.rewrites.detectors import compared, v1


def built(build) -> GraphDefModel:
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        tf.identity(build(x), "y")
    return GraphDefModel([graph.as_graph_def().SerializeToString(deterministic=True)], output_names=["y:0"])


def feeds(number: int):
    return {"x:0": np.random.default_rng(number).random((3, 4)).astype(np.float32)}


def ops(model) -> list[str]:
    return sorted(n.op for n in model.index.nodes if n.kind == "op")


def test_counting_and_moving_values_is_done_ahead():
    def build(x):
        numbers = tf.range(0, tf.constant(3) + 1, 1)
        column = tf.reshape(tf.tile(tf.expand_dims(tf.cast(numbers, tf.float32), 0), [2, 1]), [2, 4])
        return tf.matmul(x, column, transpose_b=True) + tf.fill([2], 1.5)

    model = built(build)
    rewritten = rewrite(model)
    assert ops(rewritten) == ["AddV2", "Identity", "MatMul"]
    assert compared(model, rewritten, feeds, 3) == 0
    assert not rewritten.rewrites


def test_arithmetic_with_floats_is_left_to_the_machine_that_runs_it():
    def build(x):
        return x * tf.sqrt(tf.constant([2.0, 3.0, 5.0, 7.0])) / (tf.constant(1.0) + tf.constant(2.0))

    model = built(build)
    rewritten = rewrite(model)
    assert ops(rewritten) == ops(model)
    assert compared(model, rewritten, feeds, 3) == 0


def test_large_values_are_not_written_into_the_file():
    model = built(lambda x: x + tf.fill([4096, 1, 4], 1.0))
    rewritten = rewrite(model)
    assert "Fill" in ops(rewritten)
    assert rewritten.nbytes < 4096


def test_what_fails_when_it_runs_is_left_to_fail():
    model = built(lambda x: x + tf.cast(tf.reshape(tf.constant([1, 2, 3]), tf.constant([3])), tf.float32)[0])
    graph = model.graph_def
    for node in graph.node:
        if node.op == "Reshape":
            odd = graph.node.add(name="odd", op="Const")
            odd.CopyFrom(next(n for n in graph.node if n.name == node.input[1]))
            odd.name = "odd"
            odd.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.int32([2])))
            node.input[1] = "odd"
    rewritten = rewrite(GraphDefModel([graph.SerializeToString()], output_names=["y:0"]))
    assert "Reshape" in ops(rewritten)


def test_outputs_keep_their_names_even_when_they_are_constant():
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None], "x")
        tf.identity(x, "y")
        tf.identity(tf.constant([1, 2]), "anchors")
    rewritten = rewrite(GraphDefModel([graph.as_graph_def().SerializeToString()], output_names=["y:0", "anchors:0"]))
    assert rewritten.index.outputs == ("y:0", "anchors:0")


@pytest.mark.parametrize(
    "build",
    [
        lambda: tf.fill([2**20, 2**20], 1),
        lambda: tf.range(0, 2**31 - 1, 1),
        lambda: tf.tile(tf.constant([1, 2]), [2**30]),
        lambda: tf.zeros([60_000, 1], tf.int32) + tf.zeros([1, 60_000], tf.int32),
        lambda: tf.concat([tf.zeros([2000], tf.int32)] * 3, 0),
    ],
    ids=["Fill", "Range", "Tile", "AddV2", "ConcatV2"],
)
def test_what_would_be_large_is_not_computed_first(build, monkeypatch):
    def computes(*args):
        raise AssertionError("computed")

    model = built(lambda x: x + tf.cast(tf.reduce_sum(build()), tf.float32))
    for op in ("Fill", "Range", "Tile", "AddV2", "ConcatV2"):
        monkeypatch.setitem(folding._OPS, op, computes)
    assert "Sum" in ops(rewrite(model))


def test_a_chain_of_constants_is_folded_once_in_whatever_order_the_file_has_it(monkeypatch):
    computed = 0
    add = folding._OPS["AddV2"]

    def counted(*args):
        nonlocal computed
        computed += 1
        return add(*args)

    def build(x):
        total = tf.constant(0)
        for _ in range(200):
            total += 1
        return x + tf.cast(total, tf.float32)

    graph = built(build).graph_def
    nodes = list(reversed(graph.node))
    del graph.node[:]
    graph.node.extend(nodes)
    model = GraphDefModel([graph.SerializeToString(deterministic=True)], output_names=["y:0"])
    monkeypatch.setitem(folding._OPS, "AddV2", counted)
    rewritten = rewrite(model)
    assert ops(rewritten) == ["AddV2", "Identity"]
    assert computed == 200
