"""A tiny detector, and a way to call the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graphsplit.cli import run


@dataclass
class Answer:
    """What a command did: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def call(*args: object) -> Answer:
        capfd.readouterr()
        try:
            status = run([str(a) for a in args])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Answer(status, out, err)

    return call


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """image ─▶ Cast ─▶ net/conv ─┬─▶ scores ─▶ post/top ─▶ best
    └─▶ shape ────▶ post/scale ─▶ size        (shape is read behind the cut at scores)
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.uint8, [None, 8, 8, 3], name="image_tensor")
        net = tf.nn.conv2d(tf.cast(image, tf.float32, name="Cast"), tf.ones([3, 3, 3, 4]) / 9, 2, "SAME", name="net/conv")
        scores = tf.sigmoid(tf.reshape(net, [-1, 64], name="net/flat"), name="scores")
        best, _ = tf.nn.top_k(scores, 5, name="post/top")
        tf.identity(best, name="best")
        tf.identity(tf.cast(tf.shape(net), tf.float32) * tf.reduce_sum(scores), name="size")
        path = tmp_path_factory.mktemp("detector") / "detector.pb"
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return path
