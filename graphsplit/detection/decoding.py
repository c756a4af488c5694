"""What a model answers for one picture → ``supervision.Detections``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphsplit.detection.extras import opencv, supervision
from graphsplit.detection.images import Array
from graphsplit.detection.layouts import Layout
from graphsplit.errors import GraphSplitError

__all__ = ["decode", "named", "paste"]


def decode(values: Mapping[str, Array], layout: Layout, *, image: tuple[int, int], fed: tuple[int, int], threshold: float) -> Any:
    """The detections of a picture whose score is at or above the threshold, in the order of the model. A box that is not
    finite is no detection.

    values     the tensors of the layout
    image, fed  (height, width) of the picture, and of what the model was fed

    xyxy float32 [n, 4] in pixels of the picture, confidence float32 [n], class_id int [n] as the model numbers them, mask
    bool [n, height, width] where the model gives masks. For a map of labels: one entry for each class in it but 0, its
    mask, what encloses it, and confidence 1.

    Raises GraphSplitError for values that are not shaped as the layout says.
    """
    if layout.labels:
        return _regions(values[layout.labels], image)
    if layout.packed:
        return _packed(values[layout.packed], image, fed, threshold)
    boxes, scores, classes = (_first(values[t], rank) for t, rank in zip(layout.tensors[:3], (3, 2, 2), strict=True))
    count = len(scores)
    if layout.count:
        count = min(count, int(np.asarray(values[layout.count]).reshape(-1)[0]))
    if boxes.shape != (len(scores), 4) or len(classes) != len(scores):
        raise GraphSplitError(
            f"{layout.boxes} has shape {list(boxes.shape)}, {layout.scores} {list(scores.shape)} and {layout.classes} "
            f"{list(classes.shape)}: these are no boxes with a score and a class each"
        )
    kept = np.flatnonzero((scores[:count] >= threshold) & np.isfinite(boxes[:count]).all(axis=1))
    height, width = image
    xyxy = boxes[kept][:, [1, 0, 3, 2]].astype(np.float32) * np.asarray([width, height, width, height], np.float32)
    masks = paste(_first(values[layout.masks], 4)[kept], xyxy, image) if layout.masks else None
    return _detections(xyxy, scores[kept], classes[kept], masks)


def _first(value: Array, rank: int) -> Array:
    """The values of the first picture of a batch; a batch of one may have been left out."""
    value = np.asarray(value)
    return value[0] if value.ndim == rank else value


def _detections(xyxy: Array, scores: Array, classes: Array, masks: Array | None = None) -> Any:
    return supervision().Detections(
        xyxy=np.asarray(xyxy, np.float32).reshape(-1, 4),
        confidence=np.asarray(scores, np.float32),
        class_id=np.rint(classes).astype(int),
        mask=masks,
    )


def _packed(value: Array, image: tuple[int, int], fed: tuple[int, int], threshold: float) -> Any:
    rows = _first(value, 3)
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise GraphSplitError(f"the detections have shape {list(np.shape(value))}; known are [1, N, 6]")
    rows = rows[(rows[:, 4] >= threshold) & np.isfinite(rows).all(axis=1)]
    across, down = image[1] / fed[1], image[0] / fed[0]
    return _detections(rows[:, :4] * np.asarray([across, down, across, down], np.float32), rows[:, 4], rows[:, 5])


def _regions(value: Array, image: tuple[int, int]) -> Any:
    labels = _first(value, 3)
    if labels.ndim != 2:
        raise GraphSplitError(f"the map of labels has shape {list(np.shape(value))}; known is [1, height, width]")
    if labels.shape != image:
        labels = opencv().resize(labels.astype(np.int32), image[::-1], interpolation=opencv().INTER_NEAREST)
    classes = np.asarray([c for c in np.unique(labels) if c != 0], dtype=int)
    masks = labels[None] == classes[:, None, None]
    return _detections(_enclosing(masks), np.ones(len(classes)), classes, masks)


def _enclosing(masks: Array) -> Array:
    """bool [n, height, width], none of them empty → [n, 4]: xmin, ymin, xmax, ymax in pixels."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[i] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def paste(masks: Array, xyxy: Array, image: tuple[int, int]) -> Array:
    """Masks of boxes → masks of the picture.

    masks  float [n, h, w]: probabilities inside of each box; more than one half is inside
    xyxy   float [n, 4]: the boxes, in pixels; what lies outside of the picture is cut off

    bool [n, height, width].
    """
    cv2 = opencv()
    height, width = image
    pasted = np.zeros((len(masks), height, width), dtype=bool)
    for mask, box, target in zip(masks, xyxy, pasted, strict=True):
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.maximum(np.ceil(box[2:]).astype(int), (left + 1, top + 1))
        if max(right - left, bottom - top) > 4 * max(height, width):  # nonsense of an untrained model, not worth the memory
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if right <= max(left, 0) or bottom <= max(top, 0) or left >= width or top >= height:
            continue
        inside = cv2.resize(np.asarray(mask, np.float32), (int(right - left), int(bottom - top))) > 0.5
        rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
        target[rows, columns] = inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return pasted


def named(detections: Any, names: Mapping[int, str]) -> Any:
    """The same detections with ``data["class_name"]``; a class without a name is called by its number."""
    found = [names.get(int(c), str(int(c))) for c in detections.class_id]
    detections.data["class_name"] = np.asarray(found, dtype=str)
    return detections
