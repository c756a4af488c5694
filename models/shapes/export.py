"""The frozen graph: trained weights under the node names of the Object Detection API of 2018.

    image_tensor ─ ToFloat ─ Preprocessor/map (a loop) ─ FeatureExtractor ─ BoxPredictor_0 … _4 ─ concat ─ Postprocessor ─ outputs
                                  └─ true image shapes ───────────────────────────────────────────────┘

Control flow is TensorFlow 1's, Enter … Exit with TensorArrays, as in all frozen graphs of that time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from anchors import ASPECTS, GRIDS, scales
from network import SIZE, run
from postprocess import postprocess

v1 = tf.compat.v1


class Constants:
    """Weights as constants of the graph, each with the Identity `…/read` that freezing a variable leaves."""

    training = False

    def __init__(self, numbers: Mapping[str, np.ndarray]) -> None:
        self.numbers = numbers

    def __call__(self, name: str, shape: tuple[int, ...], start: str) -> tf.Tensor:
        value = self.numbers[name]
        if value.shape != shape:
            raise ValueError(f"{name} has shape {value.shape}, the network needs {shape}")
        with tf.name_scope(""):
            constant = tf.constant(value, name=name)
            with v1.colocate_with(constant.op):
                return tf.identity(constant, name=f"{name}/read")

    def observe(self, scope: str, mean: tf.Tensor, variance: tf.Tensor) -> None:
        raise AssertionError("a frozen network is not trained")


def freeze(numbers: Mapping[str, np.ndarray]) -> v1.GraphDef:
    """Build the whole detector.

        in   image_tensor       uint8   [batch, height, width, 3], RGB
        out  detection_boxes    float32 [batch, 100, 4], normalised ymin, xmin, ymax, xmax
             detection_scores   float32 [batch, 100], in descending order
             detection_classes  float32 [batch, 100], from 1
             num_detections     float32 [batch]

    Args:
        numbers: Weights by the names of the Object Detection API.
    """
    v2 = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            _build(numbers)
    finally:
        if v2:
            v1.enable_control_flow_v2()
    outputs = ["detection_boxes", "detection_scores", "detection_classes", "num_detections"]
    return v1.graph_util.extract_sub_graph(graph.as_graph_def(), outputs)


def _build(numbers: Mapping[str, np.ndarray]) -> None:
    image = v1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")
    resized, true_shapes = preprocess(tf.cast(image, tf.float32, name="ToFloat"))
    codes, logits = run(resized, Constants(numbers))
    detected = postprocess(codes, logits, true_shapes, grid_anchors(), SIZE)
    tf.identity(detected.boxes, name="detection_boxes")
    tf.identity(detected.scores, name="detection_scores")
    tf.identity(tf.add(detected.classes, 1.0, name="add"), name="detection_classes")
    tf.identity(detected.count, name="num_detections")


def preprocess(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [batch, h, w, 3] in 0 … 255 → float32 [batch, 160, 160, 3] in -1 … 1, and int32 [batch, 3]: their true shapes."""

    def resize(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.name_scope("ResizeImage"):
            to = tf.constant([SIZE, SIZE], name="stack")
            with tf.name_scope("resize"):
                resized = v1.image.resize_bilinear(tf.expand_dims(image, 0), to, align_corners=False, name="ResizeBilinear")
                resized = tf.squeeze(resized, axis=0)
            return resized, tf.constant([SIZE, SIZE, 3], name="stack_1")

    with tf.name_scope("Preprocessor"):
        resized, true_shapes = v1.map_fn(resize, images, dtype=(tf.float32, tf.int32))
        resized = tf.ensure_shape(resized, [None, SIZE, SIZE, 3]) if resized.shape.rank is None else resized
        return tf.subtract(tf.multiply(2.0 / 255.0, resized, name="mul"), 1.0, name="sub"), true_shapes


def grid_anchors() -> tf.Tensor:
    """The anchors of anchors.py, computed in the graph: float32 [2152, 4]."""
    with tf.name_scope("MultipleGridAnchorGenerator"):
        corners = [_grid(grid, sizes) for grid, sizes in zip(GRIDS, scales(), strict=True)]
    with tf.name_scope("Concatenate"):
        return tf.concat(corners, axis=0)


def _grid(grid: int, sizes: tuple[float, ...]) -> tf.Tensor:
    ratios = tf.sqrt(tf.constant(ASPECTS, tf.float32))
    heights, widths = tf.constant(sizes, tf.float32) / ratios, tf.constant(sizes, tf.float32) * ratios
    stride = 1.0 / tf.cast(grid, tf.float32)
    centres = tf.cast(tf.range(grid), tf.float32) * stride + 0.5 * stride
    x, y = tf.meshgrid(centres, centres)
    middle = tf.stack([y, x], axis=2)[:, :, tf.newaxis, :]
    half = 0.5 * tf.stack([heights, widths], axis=1)[tf.newaxis, tf.newaxis, :, :]
    return tf.reshape(tf.concat([middle - half, middle + half], axis=3), [-1, 4])
