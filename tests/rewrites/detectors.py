"""Post-processing as exporters of several years wrote it, in small: boxes and scores in, detections out.

boxes [b, k, q, 4] ─┐
scores [b, k, C] ───┼─ for each image: for each class NonMaxSuppressionV2 … V5 ─ join ─ sort ─ clip ─ cut ─ pad ─ stack
window [b, 4] ──────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from graphsplit.formats import GraphDefModel
from graphsplit.runtimes.tensorflow import TensorFlowSession

v1 = tf.compat.v1
RAW = tf.raw_ops


@contextmanager
def loops_of_tensorflow_1() -> Iterator[None]:
    """While it is open, loops consist of Enter, Merge, Switch and Exit."""
    before = control_flow_util.ENABLE_CONTROL_FLOW_V2
    control_flow_util.ENABLE_CONTROL_FLOW_V2 = False
    try:
        yield
    finally:
        control_flow_util.ENABLE_CONTROL_FLOW_V2 = before


def detector(
    op: str = "V3",
    *,
    classes: int = 4,
    per_class_boxes: bool = False,
    columns: int | None = None,
    unrolled: int = 0,
    iou: float = 0.5,
    threshold: float = 0.1,
    per_class: int = 6,
    total: int = 10,
    first: float = 0.0,
    sigma: float = 0.0,
    pad: bool = False,
    carried: str = "",
    window: str = "fed",
    anchors: int | None = None,
    ids: Sequence[float] | None = None,
    early: Sequence[str] | None = None,
    late: Sequence[str] | None = None,
) -> GraphDefModel:
    """A detector's post-processing.

    Args:
        op: V2: scores filtered and boxes clipped before the suppression (2017); V3, V4, V5: both after it, unless `early` says so.
        unrolled: Number of images in a batch without a loop.
        carried: "rows": a tensor with a row for each anchor; "masks": one with a value for each class.
        window: "fed", "unit" (a constant), "captured" (one for all images, from outside of the loop), or "none".
        columns: Number of boxes of an anchor (default: one, or one for each class).
        ids: What each class is called in the result (default: `first`, `first` + 1, …).
        early: What is done to the boxes of a class before the suppression, in order: "scores" drops low scores, "clip" clips boxes
            and drops those without area, "bare clip" only clips, "inner clip" is "clip" with half of the window. Default: scores
            and clip for V2, else nothing.
        late: What is done to the boxes of all classes after the suppression, likewise. Default: nothing for V2, else a clip.
    """
    q = columns or (classes if per_class_boxes else 1)
    with tf.Graph().as_default() as graph, loops_of_tensorflow_1():
        batch = unrolled or None
        boxes = v1.placeholder(tf.float32, [batch, anchors, q, 4], "boxes")
        scores = v1.placeholder(tf.float32, [batch, anchors, classes], "scores")
        windows = v1.placeholder(tf.float32, [batch, 4], "window") if window == "fed" else None
        captured = v1.placeholder(tf.float32, [4], "window") if window == "captured" else None
        if window == "unit":
            windows = tf.tile(tf.constant([[0.0, 0.0, 1.0, 1.0]]), [tf.shape(boxes)[0], 1])
        extra = {"rows": [classes + 1], "masks": [q, 2, 2], "": None}[carried]
        extras = None if extra is None else v1.placeholder(tf.float32, [batch, anchors, *extra], "extra")
        settings = {
            "op": op, "classes": classes, "iou": iou, "threshold": threshold, "per_class": per_class, "total": total,
            "ids": [first + i for i in range(classes)] if ids is None else ids, "sigma": sigma, "pad": pad, "carried": carried,
            "early": ("scores", "clip") if op == "V2" and early is None else early,
            "late": late,
        }  # fmt: skip
        fields = {"b": boxes, "s": scores, "w": windows, "x": extras}
        names = [n for n, t in fields.items() if t is not None]
        tensors = [fields[n] for n in names]

        def one(image: Any) -> list[Any]:
            image = dict(zip(names, image, strict=True))
            return _one(image["b"], image["s"], image.get("w", captured), image.get("x"), **settings)

        if unrolled:
            images = zip(*(tf.unstack(t) for t in tensors), strict=True)
            results = [tf.stack(r) for r in zip(*map(one, images), strict=True)]
        else:
            dtypes = [tf.float32] * (3 if extras is None else 4) + [tf.int32]
            results = v1.map_fn(one, tensors, dtype=dtypes, parallel_iterations=1)
        called = ["detection_boxes", "detection_scores", "detection_classes", *([] if extras is None else ["detection_extra"])]
        for name, tensor in zip([*called, "num_detections"], results, strict=True):
            tf.identity(tensor, name)
    return GraphDefModel([graph.as_graph_def().SerializeToString(deterministic=True)])


def _one(
    boxes: Any, scores: Any, window: Any, extra: Any, *, op: str, classes: int, iou: float, threshold: float, per_class: int,
    total: int, ids: Sequence[float], sigma: float, pad: bool, carried: str, early: Sequence[str] | None,
    late: Sequence[str] | None,
) -> list[Any]:  # fmt: skip
    columns = tf.unstack(boxes, axis=1)
    masks = tf.unstack(extra, axis=1) if carried == "masks" else None
    lists: list[list[Any]] = []
    for number in range(classes):
        fields = [columns[number % len(columns)], tf.reshape(tf.slice(scores, [0, number], [tf.shape(scores)[0], 1]), [-1])]
        if extra is not None:
            fields.append(extra if masks is None else masks[number % len(masks)])
        if early is not None:
            fields = _early(fields, window, op, early, iou, threshold, per_class)
        else:
            fields = _padded(fields, window, op, iou, threshold, per_class, sigma, pad)
        lists.append([*fields[:2], tf.zeros_like(fields[1]) + ids[number], *fields[2:]])
    fields = [tf.concat(column, 0) for column in zip(*lists, strict=True)]
    for step in (() if early is not None else ("clip",)) if late is None else late:
        fields = _clip(_sort(fields), window * 0.5 if step == "inner clip" else window)
    if early is not None:
        return _end(_take(_sort(fields), tf.minimum(total, tf.shape(fields[0])[0])), total, None)
    fields[1] = tf.where(tf.cast(_area(fields[0]), tf.bool), fields[1], -1.0 * tf.ones(tf.shape(fields[0])[0]))
    valid = tf.reduce_sum(tf.cast(tf.greater_equal(fields[1], 0), tf.int32))
    fields = _sort(fields)
    most = tf.minimum(total, tf.shape(fields[0])[0])
    fields = _take(fields, most)
    count = tf.where(most > valid, valid, most)
    return _end(_take(fields, count), total, count)


def _early(fields: list[Any], window: Any, op: str, steps: Sequence[str], iou: float, threshold: float, most: int) -> list[Any]:
    for step in steps:
        if step == "scores":
            fields = _keep(fields, tf.greater(fields[1], threshold))
        elif window is None:
            continue
        elif step == "bare clip":
            fields = [_clipped(fields[0], window), *fields[1:]]
        else:
            fields = _clip(fields, window * 0.5 if step == "inner clip" else window)
    limit = tf.minimum(most, tf.shape(fields[0])[0])
    arguments = {"boxes": fields[0], "scores": fields[1], "max_output_size": limit, "iou_threshold": iou}
    kind = RAW.NonMaxSuppressionV2 if op == "V2" else partial(RAW.NonMaxSuppressionV3, score_threshold=threshold)
    chosen = kind(**arguments)
    return [tf.gather(f, chosen) for f in fields]


def _padded(fields: list[Any], window: Any, op: str, iou: float, threshold: float, most: int, sigma: float, pad: bool) -> list[Any]:
    limit = tf.minimum(most, tf.shape(fields[0])[0]) if not pad else tf.constant(most)
    inputs = {
        "boxes": fields[0],
        "scores": fields[1],
        "max_output_size": limit,
        "iou_threshold": iou,
        "score_threshold": threshold,
    }
    kept = None
    if op == "V3":
        chosen = RAW.NonMaxSuppressionV3(**inputs)
        count = tf.shape(chosen)[0]
    elif op == "V4":
        chosen, count = RAW.NonMaxSuppressionV4(**inputs, pad_to_max_output_size=pad)
    else:
        chosen, kept, _ = RAW.NonMaxSuppressionV5(**inputs, soft_nms_sigma=sigma, pad_to_max_output_size=pad)
        count = tf.shape(chosen)[0]
        kept = tf.concat([kept, tf.zeros([limit - count])], -1)
    if not pad:
        chosen = tf.concat([chosen, tf.zeros([limit - tf.shape(chosen)[0]], tf.int32)], 0)
    fields = [tf.gather(f, chosen) for f in fields]
    if kept is not None:
        fields[1] = kept
    fields[1] = tf.where(tf.less(tf.range(limit), count), fields[1], -1.0 * tf.ones([limit]))
    return fields


def _keep(fields: list[Any], condition: Any) -> list[Any]:
    indices = tf.cast(tf.reshape(tf.where(condition), [-1]), tf.int32)
    return [tf.gather(f, indices) for f in fields]


def _area(boxes: Any) -> Any:
    ymin, xmin, ymax, xmax = tf.split(boxes, 4, axis=1)
    return tf.squeeze((ymax - ymin) * (xmax - xmin), [1])


def _clip(fields: list[Any], window: Any) -> list[Any]:
    if window is None:
        return fields
    boxes = _clipped(fields[0], window)
    return _keep([boxes, *fields[1:]], tf.greater(_area(boxes), 0))


def _clipped(boxes: Any, window: Any) -> Any:
    ymin, xmin, ymax, xmax = tf.split(boxes, 4, axis=1)
    low_y, low_x, high_y, high_x = tf.unstack(window)

    def between(value: Any, low: Any, high: Any) -> Any:
        return tf.maximum(tf.minimum(value, high), low)

    columns = [
        between(ymin, low_y, high_y),
        between(xmin, low_x, high_x),
        between(ymax, low_y, high_y),
        between(xmax, low_x, high_x),
    ]
    return tf.concat(columns, 1)


def _sort(fields: list[Any]) -> list[Any]:
    _, order = tf.nn.top_k(fields[1], tf.shape(fields[0])[0], sorted=True)
    return [tf.gather(f, order) for f in fields]


def _take(fields: list[Any], count: Any) -> list[Any]:
    return [tf.gather(f, tf.range(count)) for f in fields]


def _end(fields: list[Any], total: int, count: Any) -> list[Any]:
    found = tf.shape(fields[0])[0]
    count = found if count is None else count
    padded = [tf.pad(f, [[0, total - found]] + [[0, 0]] * (len(f.shape) - 1)) for f in fields]
    return [*padded, count]


def compared(before: GraphDefModel, after: GraphDefModel, feeds: Callable[[int], dict[str, np.ndarray]], count: int) -> int:
    """How many of `count` feeds give other outputs after than before, bit by bit."""
    names = before.index.outputs
    wrong = 0
    with (
        TensorFlowSession(before.serialized(), optimize=False) as one,
        TensorFlowSession(after.serialized(), optimize=False) as two,
    ):
        for number in range(count):
            feed = feeds(number)
            expected, found = one.run(feed, names), two.run(feed, names)
            wrong += any(a.tobytes() != b.tobytes() or a.shape != b.shape for a, b in zip(expected, found, strict=True))
    return wrong
