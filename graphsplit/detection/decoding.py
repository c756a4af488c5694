"""The outputs of a model for one image → ``supervision.Detections``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphsplit.detection.extras import opencv, supervision
from graphsplit.detection.layouts import Layout, settled
from graphsplit.errors import GraphSplitError
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["decode", "name_classes", "paste"]


def decode(
    values: Mapping[str, Array], layout: Layout, *, image: tuple[int, int], fed: tuple[int, int], threshold: float
) -> Detections:
    """Decode the detections of an image whose score is at or above a threshold, in the order of the model.

    Boxes with a coordinate that is not finite are left out.

    Args:
        values: The tensors of the layout.
        layout: Which tensor is what.
        image: (height, width) of the image.
        fed: (height, width) of the model's input.
        threshold: The lowest score, 0 … 1.

    Returns:
        `xyxy` float32 [n, 4] in pixels of the image, `confidence` float32 [n], `class_id` int [n] as the model numbers them,
        `mask` bool [n, height, width] if the model has masks. Of a segmentation map: one detection for each class in it but
        0, with its mask, the box around it, and confidence 1.

    Raises:
        GraphSplitError: for values that do not fit the layout.
    """
    known = settled(layout, values)
    if known is None:
        return _detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    layout = known
    if layout.segmentation:
        return _regions(values[layout.segmentation], image)
    if layout.packed:
        return _packed(values[layout.packed], image, fed, threshold)
    boxes, scores, classes = (_first(values[t], rank) for t, rank in zip(layout.tensors[:3], (3, 2, 2), strict=True))
    count = len(scores)
    if layout.count:
        count = min(count, int(np.asarray(values[layout.count]).reshape(-1)[0]))
    if boxes.shape != (len(scores), 4) or len(classes) != len(scores):
        raise GraphSplitError(
            f"{layout.boxes} has shape {list(boxes.shape)}, {layout.scores} {list(scores.shape)} and {layout.classes} "
            f"{list(classes.shape)}; expected [N, 4], [N] and [N]"
        )
    kept = np.flatnonzero((scores[:count] >= threshold) & np.isfinite(boxes[:count]).all(axis=1))
    height, width = image
    xyxy = boxes[kept][:, [1, 0, 3, 2]].astype(np.float32) * np.asarray([width, height, width, height], np.float32)
    masks = paste(_first(values[layout.masks], 4)[kept], xyxy, image) if layout.masks else None
    return _detections(xyxy, scores[kept], classes[kept], masks)


def _first(value: Array, rank: int) -> Array:
    """The values of the first image of a batch; the batch dimension may be missing."""
    value = np.asarray(value)
    return value[0] if value.ndim == rank else value


def _detections(xyxy: Array, scores: Array, classes: Array, masks: Array | None = None) -> Detections:
    return supervision().Detections(
        xyxy=np.asarray(xyxy, np.float32).reshape(-1, 4),
        confidence=np.asarray(scores, np.float32),
        class_id=np.rint(classes).astype(int),
        mask=masks,
    )


def _packed(value: Array, image: tuple[int, int], fed: tuple[int, int], threshold: float) -> Detections:
    rows = _first(value, 3)
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise GraphSplitError(f"the detections have shape {list(np.shape(value))}; expected [1, N, 6]")
    rows = rows[(rows[:, 4] >= threshold) & np.isfinite(rows).all(axis=1)]
    across, down = image[1] / fed[1], image[0] / fed[0]
    return _detections(rows[:, :4] * np.asarray([across, down, across, down], np.float32), rows[:, 4], rows[:, 5])


def _regions(value: Array, image: tuple[int, int]) -> Detections:
    pixels = _first(value, 3)
    if pixels.ndim != 2:
        raise GraphSplitError(f"the segmentation map has shape {list(np.shape(value))}; expected [1, height, width]")
    if pixels.shape != image:
        pixels = opencv().resize(pixels.astype(np.int32), image[::-1], interpolation=opencv().INTER_NEAREST)
    classes = np.asarray([c for c in np.unique(pixels) if c != 0], dtype=int)
    masks = pixels[None] == classes[:, None, None]
    return _detections(_boxes_around(masks), np.ones(len(classes)), classes, masks)


def _boxes_around(masks: Array) -> Array:
    """bool [n, height, width], none of them empty → [n, 4]: xmin, ymin, xmax, ymax in pixels."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[i] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def paste(masks: Array, xyxy: Array, image: tuple[int, int]) -> Array:
    """Turn masks of boxes into masks of the image.

    Args:
        masks: float [n, h, w]: probabilities inside each box; above one half is inside.
        xyxy: float [n, 4]: the boxes in pixels; what lies outside the image is cut off.
        image: (height, width) of the image.

    Returns:
        bool [n, height, width].
    """
    cv2 = opencv()
    height, width = image
    pasted = np.zeros((len(masks), height, width), dtype=bool)
    for mask, box, target in zip(masks, xyxy, pasted, strict=True):
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.maximum(np.ceil(box[2:]).astype(int), (left + 1, top + 1))
        if max(right - left, bottom - top) > 4 * max(height, width):  # a bogus box must not cost memory
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if right <= max(left, 0) or bottom <= max(top, 0) or left >= width or top >= height:
            continue
        inside = cv2.resize(np.asarray(mask, np.float32), (int(right - left), int(bottom - top))) > 0.5
        rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
        target[rows, columns] = inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return pasted


def name_classes(detections: Detections, names: Mapping[int, str]) -> Detections:
    """Copy detections and add ``data["class_name"]``; a class without a name is called by its id."""
    class_names = [names.get(int(c), str(int(c))) for c in detections.class_id]
    return replace(detections, data={**detections.data, "class_name": np.asarray(class_names, dtype=str)})
