"""Mean average precision of a frozen detector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import supervision as sv
import tensorflow as tf
from supervision.metrics import MeanAveragePrecision

from graphsplit.demo.data.shapes import CLASSES, Frame

v1 = tf.compat.v1
OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


class Score(NamedTuple):
    """mAP@0.5 over all classes, and the average precision of each."""

    overall: float
    by_class: dict[str, float]


def mean_average_precision(graph_def: v1.GraphDef, pictures: Iterable[Frame]) -> Score:
    """Measure a detector: mAP at an IoU of 0.5, over detections of any score.

    Args:
        graph_def: The frozen detector.
        pictures: Test images with their true boxes and labels.
    """
    metric = MeanAveragePrecision()
    for predicted, truth in detections(graph_def, pictures):
        metric.update(predicted, truth)
    result = metric.compute()
    each = dict(zip(result.matched_classes.tolist(), result.ap_per_class[:, 0].tolist(), strict=True))
    return Score(float(result.map50), {CLASSES[i - 1]: each[i] for i in sorted(each)})


def detections(graph_def: v1.GraphDef, pictures: Iterable[Frame]) -> Iterator[tuple[sv.Detections, sv.Detections]]:
    """Yield the predicted and the true detections of each image, boxes in pixels."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with v1.Session(graph=graph) as session:
            for image, boxes, labels in pictures:
                fed = {"image_tensor:0": image[None]}
                predicted, scores, classes, count = session.run([f"{name}:0" for name in OUTPUTS], fed)
                n = int(count[0])
                xyxy, class_id = _pixels(predicted[0, :n], image), classes[0, :n].astype(int)
                truth = sv.Detections(_pixels(boxes, image), class_id=labels)
                yield sv.Detections(xyxy, confidence=scores[0, :n], class_id=class_id), truth


def _pixels(boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Normalised ymin, xmin, ymax, xmax → xmin, ymin, xmax, ymax in pixels: float32 [n, 4]."""
    height, width = image.shape[:2]
    return boxes[:, [1, 0, 3, 2]] * np.array([width, height, width, height], np.float32)
