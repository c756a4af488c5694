"""The network: MobileNetV1 with depth multiplier 0.25, two more feature maps, and a predictor on each of five maps.

    160×160×3 ─ Conv2d_0 … Conv2d_5 ─┬─ … Conv2d_11 ─┬─ Conv2d_13 ─┬─ 3×3 s2 ─┬─ 3×3 s2 ─┐
                              20×20×64          10×10×128      5×5×256    3×3×128     2×2×64
                               BoxPredictor_0    _1              _2         _3          _4    → codes, logits

It is defined once, for variables in training and for constants in export.py: `weight(name, shape, start)` returns either as
a tensor. The names of variables and scopes are those of the Object Detection API.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import tensorflow as tf
from anchors import PER_CELL

from graphsplit.demo.data.shapes import CLASSES

SIZE = 160
COLUMNS = len(CLASSES) + 1  # the background is column 0
EPSILON = 1e-3
SCOPE = "FeatureExtractor/MobilenetV1"


class Unit(NamedTuple):
    """A convolution with batch normalisation and Relu6."""

    scope: str  # of the variables
    ops: str  # scope of the operations
    kernel: int
    stride: int
    channels: int | None  # None: depthwise
    predicted: bool = False


class Weights(Protocol):
    """The source of the weights."""

    training: bool

    def __call__(self, name: str, shape: tuple[int, ...], start: str) -> tf.Tensor: ...
    def observe(self, scope: str, mean: tf.Tensor, variance: tf.Tensor) -> None: ...


def units() -> list[Unit]:
    """All 31 units in order; each reads the output of the one before."""
    chain = [Unit(f"{SCOPE}/Conv2d_0", f"{SCOPE}/MobilenetV1/Conv2d_0", 3, 2, 8)]
    widths = [16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    for i, channels in enumerate(widths, 1):
        stride = 2 if i in (2, 4, 6, 12) else 1
        for kind, kernel, step, width in (("depthwise", 3, stride, None), ("pointwise", 1, 1, channels)):
            name = f"Conv2d_{i}_{kind}"
            predicted = kind == "pointwise" and i in (5, 11, 13)
            chain.append(Unit(f"{SCOPE}/{name}", f"{SCOPE}/MobilenetV1/{name}", kernel, step, width, predicted))
    for i, channels in ((3, 128), (4, 64)):  # numbered by their feature map
        squeeze = f"{SCOPE}/Conv2d_13_pointwise_1_Conv2d_{i}_1x1_{channels // 2}"
        reduce = f"{SCOPE}/Conv2d_13_pointwise_2_Conv2d_{i}_3x3_s2_{channels}"
        chain += [Unit(squeeze, squeeze, 1, 1, channels // 2), Unit(reduce, reduce, 3, 2, channels, True)]
    return chain


def run_unit(x: tf.Tensor, unit: Unit, weight: Weights) -> tf.Tensor:
    """float32 [batch, h, w, c] → [batch, ⌈h/stride⌉, ⌈w/stride⌉, channels]."""
    depth, strides = x.shape[-1], [1, unit.stride, unit.stride, 1]
    name, width = ("depthwise_weights", 1) if unit.channels is None else ("weights", unit.channels)
    start = "depthwise" if unit.channels is None else "conv"
    kernel = weight(f"{unit.scope}/{name}", (unit.kernel, unit.kernel, depth, width), start)
    channels = unit.channels or depth
    gamma, beta, mean, variance = (
        weight(f"{unit.scope}/BatchNorm/{name}", (channels,), start)
        for name, start in (("gamma", "ones"), ("beta", "zeros"), ("moving_mean", "mean"), ("moving_variance", "variance"))
    )
    with tf.name_scope(f"{unit.ops}/"):
        if unit.channels is None:
            x = tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, strides=strides, padding="SAME", name="depthwise")
        else:
            x = tf.raw_ops.Conv2D(input=x, filter=kernel, strides=strides, padding="SAME", name="Conv2D")
        statistics = {} if weight.training else {"mean": mean, "variance": variance}
        x, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            x, gamma, beta, **statistics, epsilon=EPSILON, is_training=weight.training, name="BatchNorm/FusedBatchNormV3"
        )
        if weight.training:
            weight.observe(f"{unit.scope}/BatchNorm", mean, variance)
        return tf.nn.relu6(x, name="Relu6")


def run_predictor(x: tf.Tensor, index: int, weight: Weights) -> tuple[tf.Tensor, tf.Tensor]:
    """A feature map → codes float32 [batch, anchors of the map, 1, 4] and logits [batch, anchors of the map, 9]."""
    outputs = []
    for head, columns in (("BoxEncodingPredictor", 4), ("ClassPredictor", COLUMNS)):
        scope = f"BoxPredictor_{index}/{head}"
        kernel = weight(f"{scope}/weights", (1, 1, x.shape[-1], PER_CELL * columns), "head")
        bias = weight(f"{scope}/biases", (PER_CELL * columns,), "zeros" if columns == 4 else "logits")
        with tf.name_scope(f"{scope}/"):
            y = tf.raw_ops.Conv2D(input=x, filter=kernel, strides=[1, 1, 1, 1], padding="SAME", name="Conv2D")
            y = tf.nn.bias_add(y, bias, name="BiasAdd")
        with tf.name_scope(f"BoxPredictor_{index}/"):
            batch = tf.shape(x)[0]
            outputs.append(tf.reshape(y, [batch, -1, 1, 4] if columns == 4 else [batch, -1, columns]))
    return outputs[0], outputs[1]


def run(images: tf.Tensor, weight: Weights) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [batch, 160, 160, 3] in -1 … 1 → codes float32 [batch, 2152, 4], logits float32 [batch, 2152, 9]."""
    x, maps = images, []
    for unit in units():
        x = run_unit(x, unit, weight)
        if unit.predicted:
            maps.append(x)
    codes, logits = zip(*(run_predictor(m, i, weight) for i, m in enumerate(maps)), strict=True)
    return tf.squeeze(tf.concat(codes, axis=1), axis=2), tf.concat(logits, axis=1)
