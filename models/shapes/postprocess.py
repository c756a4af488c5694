"""The second half of the detector: codes and logits → boxes, scores, classes, in the postprocessing graph of 2018.

Decode with the Faster R-CNN box coder, apply the sigmoid to all columns, drop the background; then for each image (a loop) and
each class: NonMaxSuppression, sort, clip to the image, keep a hundred, pad.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
from anchors import VARIANCES
from network import COLUMNS

v1 = tf.compat.v1
SCORE, IOU, PER_CLASS, IN_ALL = 1e-8, 0.6, 100, 100


class Detected(NamedTuple):
    """float32 [batch, 100, 4], [batch, 100], [batch, 100] (from 0) and [batch]."""

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    count: tf.Tensor


class Listed(NamedTuple):
    """Boxes, scores and classes of one image: float32 [n, 4], [n], [n]."""

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor

    def gather(self, rows: tf.Tensor) -> Listed:
        with tf.name_scope("Gather"):
            return Listed(*(tf.gather(field, rows) for field in self))


def postprocess(codes: tf.Tensor, logits: tf.Tensor, true_shapes: tf.Tensor, anchors: tf.Tensor, size: int) -> Detected:
    """codes f32 [batch, S, 4], logits f32 [batch, S, N+1], true_shapes i32 [batch, 3], anchors f32 [S, 4] → Detected."""
    with tf.name_scope("Postprocessor"):
        codes = tf.identity(codes, name="raw_box_encodings")
        locations = tf.identity(_decoded(codes, anchors), name="raw_box_locations")
        boxes = tf.expand_dims(locations, axis=2, name="ExpandDims_1")
        logits = tf.divide(logits, tf.constant(1.0, name="scale_logits/y"), name="scale_logits")
        scores = tf.identity(tf.sigmoid(logits, name="convert_scores"), name="raw_box_scores")
        scores = tf.slice(scores, [0, 0, 1], [-1, -1, -1], name="Slice")
        window = _clip_window(true_shapes, size)
        detected = _batch_suppression(boxes, scores, window)
        return detected._replace(count=tf.cast(detected.count, tf.float32, name="ToFloat_3"))


def _decoded(codes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(codes)
    batch, count = shape[0], shape[1]
    tiled = tf.tile(tf.expand_dims(anchors, 0, name="ExpandDims"), [batch, 1, 1])
    base, flat = tf.reshape(tiled, [-1, 4]), tf.reshape(codes, [-1, 4])
    with tf.name_scope("Decode"):
        with tf.name_scope("get_center_coordinates_and_sizes"):
            ymin, xmin, ymax, xmax = tf.unstack(tf.transpose(base), num=4)
            width, height = xmax - xmin, ymax - ymin
            y, x = ymin + height / 2.0, xmin + width / 2.0
        ty, tx, th, tw = (c / float(v) for c, v in zip(tf.unstack(tf.transpose(flat), num=4), VARIANCES, strict=True))
        w, h = tf.exp(tw) * width, tf.exp(th) * height
        yc, xc = ty * height + y, tx * width + x
        corners = tf.stack([yc - h / 2.0, xc - w / 2.0, yc + h / 2.0, xc + w / 2.0])
        corners = tf.transpose(corners)
    return tf.reshape(corners, tf.stack([batch, count, 4]))


def _clip_window(true_shapes: tf.Tensor, size: int) -> tf.Tensor:
    """The part of the resized image that is not padding: float32 [batch, 4]; [0, 0, 1, 1] without padding."""
    heights, widths, _ = tf.unstack(tf.cast(true_shapes, tf.float32, name="ToFloat"), num=3, axis=1)
    height, width = tf.cast(size, tf.float32, name="ToFloat_1"), tf.cast(size, tf.float32, name="ToFloat_2")
    window = [tf.zeros_like(heights), tf.zeros_like(widths), heights / height, widths / width]
    return tf.stack(window, axis=1, name="stack_1")


def _batch_suppression(boxes: tf.Tensor, scores: tf.Tensor, window: tf.Tensor) -> Detected:
    with tf.name_scope("BatchMultiClassNonMaxSuppression"):
        batch, count = tf.shape(boxes)[0], tf.shape(boxes)[1]
        valid = tf.ones([batch], tf.int32) * count
        dtypes = (tf.float32, tf.float32, tf.float32, tf.int32)
        return Detected(*v1.map_fn(_one_image, (boxes, scores, window, valid), dtype=dtypes, parallel_iterations=32))


def _one_image(inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
    boxes, scores, window, valid = inputs
    boxes = tf.reshape(tf.slice(boxes, [0, 0, 0], tf.stack([valid, -1, -1])), [-1, 1, 4])
    scores = tf.reshape(tf.slice(scores, [0, 0], tf.stack([valid, -1])), [-1, COLUMNS - 1])
    kept, count = _multi_class(boxes, scores, window)
    with tf.name_scope("PadOrClipBoxList"):
        fill = IN_ALL - tf.shape(kept.boxes)[0]
        boxes = tf.reshape(tf.pad(kept.boxes, [[0, fill], [0, 0]]), [IN_ALL, 4])
        scores, classes = (tf.reshape(tf.pad(field, [[0, fill]]), [IN_ALL]) for field in (kept.scores, kept.classes))
    return boxes, scores, classes, count


def _multi_class(boxes: tf.Tensor, scores: tf.Tensor, window: tf.Tensor) -> tuple[Listed, tf.Tensor]:
    """boxes f32 [S, 1, 4], scores f32 [S, N], window f32 [4] → at most a hundred, best first, and their number."""
    with tf.name_scope("MultiClassNonMaxSuppression"):
        rows = tf.shape(scores)[0]
        plain = tf.unstack(boxes, num=1, axis=1)[0]
        by_class = [_one_class(plain, scores, rows, index) for index in range(COLUMNS - 1)]
        with tf.name_scope("Concatenate"):
            together = Listed(*(tf.concat(fields, axis=0) for fields in zip(*by_class, strict=True)))
        clipped = _clip(_sorted(together), window)
        with tf.name_scope("Area"):
            area = tf.squeeze(_area(clipped.boxes), axis=1)
        nothing = -1.0 * tf.ones(tf.shape(clipped.boxes)[:1])
        clipped = clipped._replace(scores=v1.where(tf.cast(area, tf.bool), clipped.scores, nothing))
        real = tf.reduce_sum(tf.cast(clipped.scores >= 0.0, tf.int32))
        best = _sorted(clipped)
        most = tf.minimum(IN_ALL, tf.shape(best.boxes)[0])
        count = v1.where(most > real, real, most)
        return best.gather(tf.range(count)), count


def _one_class(boxes: tf.Tensor, scores: tf.Tensor, rows: tf.Tensor, index: int) -> Listed:
    """Up to a hundred boxes of a class after suppression; if there are fewer, padded with rows of score -1."""
    own = tf.reshape(tf.slice(scores, [0, index], tf.stack([rows, 1])), [-1])
    most = tf.minimum(PER_CLASS, tf.shape(boxes)[0])
    picked = tf.image.non_max_suppression(boxes, own, most, iou_threshold=IOU, score_threshold=SCORE)
    real = tf.shape(picked)[0]
    picked = tf.concat([picked, tf.zeros(tf.reshape(most - real, [-1]), tf.int32)], axis=0)
    with tf.name_scope("Gather"):
        own, boxes = tf.gather(own, picked), tf.gather(boxes, picked)
    own = v1.where(tf.range(most) < real, own, -1.0 * tf.ones(tf.reshape(most, [-1])))
    return Listed(boxes, own, tf.zeros_like(own) + float(index))


def _sorted(listed: Listed) -> Listed:
    with tf.name_scope("SortByField"):
        count, size = tf.shape(listed.boxes)[0], tf.size(listed.scores)
        check = v1.Assert(tf.equal(count, size), ["Incorrect field size: actual vs expected.", size, count])
        with tf.control_dependencies([check]):
            order = tf.raw_ops.TopKV2(input=listed.scores, k=count, name="TopKV2")[1]
        return listed.gather(order)


def _clip(listed: Listed, window: tf.Tensor) -> Listed:
    """Clip boxes to the window, and drop those that are then empty."""
    with tf.name_scope("ClipToWindow"):
        ymin, xmin, ymax, xmax = tf.split(listed.boxes, 4, axis=1)
        top, left, bottom, right = tf.unstack(window, num=4)
        y = [tf.maximum(tf.minimum(v, bottom), top) for v in (ymin, ymax)]
        x = [tf.maximum(tf.minimum(v, right), left) for v in (xmin, xmax)]
        boxes = tf.concat([y[0], x[0], y[1], x[1]], axis=1)
        with tf.name_scope("Area"):
            area = tf.squeeze(_area(boxes), axis=1)
        rows = tf.cast(tf.reshape(v1.where(area > 0.0), [-1]), tf.int32)
        return listed._replace(boxes=boxes).gather(rows)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    ymin, xmin, ymax, xmax = tf.split(boxes, 4, axis=1)
    return (ymax - ymin) * (xmax - xmin)
