"""Anchors of an SSD, their assignment to objects, and the encoding of boxes relative to anchors.

Scales grow evenly from the finest feature map to the coarsest. Every cell of a map has a square anchor of its scale, a wide and
a tall one of the same area, and a square between this scale and the next:

    map     20×20   10×10   5×5    3×3    2×2
    scale    0.10    0.25   0.40   0.55   0.70    of the image's side            4 · (400 + 100 + 25 + 9 + 4) = 2152 anchors

This is ssd_anchor_generator of the Object Detection API with min_scale 0.1, max_scale 0.7, five layers, aspect ratios
1, 2 and ½, and reduce_boxes_in_lowest_layer off. All boxes are ymin, xmin, ymax, xmax, normalised.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

GRIDS = (20, 10, 5, 3, 2)
ASPECTS = (1.0, 2.0, 0.5, 1.0)  # width : height
PER_CELL = len(ASPECTS)
VARIANCES = np.array([10.0, 10.0, 5.0, 5.0], np.float32)  # scale factors of the Faster R-CNN box coder

Boxes = NDArray[np.float32]


def scales() -> list[tuple[float, ...]]:
    """The scales of a cell's anchors, map by map: s, s, s, √(s · next)."""
    steps = [*np.linspace(0.1, 0.7, len(GRIDS)), 1.0]
    return [(s, s, s, float(np.sqrt(s * after))) for s, after in pairwise(steps)]


def anchors() -> Boxes:
    """All anchors in the order of the predictions, map, row, column, anchor of the cell: float32 [2152, 4]."""
    boxes = []
    for grid, sizes in zip(GRIDS, scales(), strict=True):
        centres = (np.arange(grid) + 0.5) / grid
        y, x = (c[:, :, None] for c in np.meshgrid(centres, centres, indexing="ij"))
        height, width = np.array(sizes) / np.sqrt(ASPECTS), np.array(sizes) * np.sqrt(ASPECTS)
        boxes.append(np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=-1).reshape(-1, 4))
    return np.concatenate(boxes).astype(np.float32)


def overlap(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union: float32 [len(a), len(b)]."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)


def encode(boxes: Boxes, base: Boxes) -> Boxes:
    """Encode boxes relative to anchors with the Faster R-CNN box coder.

    Args:
        boxes: float32 [n, 4].
        base: The anchor of each box: float32 [n, 4].

    Returns:
        float32 [n, 4]: offsets of the centre in y and x, logarithms of height and width.
    """
    sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    base_sides, base_centres = base[:, 2:] - base[:, :2], (base[:, 2:] + base[:, :2]) / 2
    return np.concatenate([(centres - base_centres) / base_sides, np.log(sides / base_sides)], axis=1) * VARIANCES


def assign(boxes: Boxes, labels: NDArray[np.int64], base: Boxes) -> tuple[NDArray[np.int32], Boxes]:
    """Assign objects to anchors.

    An anchor is assigned the object that it overlaps most if that is at least 0.5 (intersection over union); from 0.4 to 0.5
    it is ignored. Every object is also assigned to the anchor that overlaps it most.

    Args:
        boxes: Of the objects: float32 [n, 4].
        labels: Of the objects, from 1: int64 [n].
        base: The anchors: float32 [anchors, 4].

    Returns:
        int32 [anchors]: 0 = background, 1 … = class, -1 = ignored; and the box code of each, float32 [anchors, 4].
    """
    targets, codes = np.zeros(len(base), np.int32), np.zeros_like(base)
    if len(boxes) == 0:
        return targets, codes
    table = overlap(base, boxes)
    best = table.argmax(axis=1)
    value = table[np.arange(len(base)), best]
    targets[value >= 0.4] = -1
    forced = table.argmax(axis=0)
    best[forced] = np.arange(len(boxes))
    positive = value >= 0.5
    positive[forced] = True
    targets[positive] = labels[best[positive]]
    codes[positive] = encode(boxes[best[positive]], base[positive])
    return targets, codes
