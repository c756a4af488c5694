"""A tiny detector that really detects: it finds what is white, exactly, in images of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_spotter(path: Path, *, names=("detection_boxes", "detection_scores", "detection_classes", "num_detections"), masks=False):
    """Write the model.

    image_tensor ─▶ net/conv ─▶ heat ─┬─▶ rows, columns ─▶ detection_boxes     heat: 1 where the image is white
                                      └─▶ most ──────────▶ detection_scores    two entries, of which one is a detection
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")
        grey = tf.nn.conv2d(tf.cast(image, tf.float32) / 255, tf.ones([1, 1, 3, 1]) / 3, 1, "SAME", name="net/conv")
        heat = tf.squeeze(grey, -1, name="heat")
        white = tf.cast(heat > 0.9, tf.float32)

        def ends(axis):
            line = tf.reduce_max(white, axis)
            length = tf.shape(line)[1]
            low, high = tf.argmax(line, 1, tf.int32), length - tf.argmax(tf.reverse(line, [1]), 1, tf.int32)
            return low / length, high / length

        (top, bottom), (left, right) = ends(2), ends(1)
        box = tf.cast(tf.stack([top, left, bottom, right], 1), tf.float32)[:, None]
        most = tf.reduce_max(heat, [1, 2])[:, None]
        nothing = tf.zeros_like(most)
        tf.concat([box, tf.zeros_like(box)], 1, name=names[0])
        tf.concat([most, nothing], 1, name=names[1])
        tf.concat([1 + nothing, 1 + nothing], 1, name=names[2])
        if len(names) > 3:
            tf.ones_like(most[:, 0], name=names[3])
        if masks:
            disc = np.hypot(*np.mgrid[-1:1:15j, -1:1:15j]) < 0.8
            tf.tile(tf.constant(disc, tf.float32)[None, None], [tf.shape(image)[0], 2, 1, 1], name="detection_masks")
        path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def white_box(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """A dark image with a white rectangle. box: xmin, ymin, xmax, ymax."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 60
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image
