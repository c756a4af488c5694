"""Anchors of an SSD, which objects they answer for, and how a box is written relative to its anchor.

Scales grow evenly from the finest map to the coarsest. At every cell of a map lie a square of its scale, a wide and a tall
box of the same area, and a square between this scale and the next:

    map     20×20   10×10   5×5    3×3    2×2
    scale    0.10    0.25   0.40   0.55   0.70    of the picture's side          4 · (400 + 100 + 25 + 9 + 4) = 2152 anchors

This is the ssd_anchor_generator of the Object Detection API with min_scale 0.1, max_scale 0.7, five layers, aspect ratios
1, 2 and ½, and reduce_boxes_in_lowest_layer off. Boxes are ymin, xmin, ymax, xmax throughout, as shares of the side.
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
    """Scale of each anchor of a cell, map by map: s, s, s, √(s · next)."""
    steps = [*np.linspace(0.1, 0.7, len(GRIDS)), 1.0]
    return [(s, s, s, float(np.sqrt(s * after))) for s, after in pairwise(steps)]


def anchors() -> Boxes:
    """float32 [2152, 4], in the order of the predictions: map, row, column, anchor of the cell."""
    found = []
    for grid, sizes in zip(GRIDS, scales(), strict=True):
        centres = (np.arange(grid) + 0.5) / grid
        y, x = (c[:, :, None] for c in np.meshgrid(centres, centres, indexing="ij"))
        height, width = np.array(sizes) / np.sqrt(ASPECTS), np.array(sizes) * np.sqrt(ASPECTS)
        found.append(np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=-1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


def overlap(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union: float32 [len(a), len(b)]."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)


def encode(boxes: Boxes, base: Boxes) -> Boxes:
    """What the network has to say for these boxes: float32 [n, 4], offset and size of the centre in y, x, height, width."""
    sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    base_sides, base_centres = base[:, 2:] - base[:, :2], (base[:, 2:] + base[:, :2]) / 2
    return np.concatenate([(centres - base_centres) / base_sides, np.log(sides / base_sides)], axis=1) * VARIANCES


def assign(boxes: Boxes, labels: NDArray[np.int64], base: Boxes) -> tuple[NDArray[np.int32], Boxes]:
    """What each anchor should answer: int32 [anchors] of 0 = background, 1 … = class, -1 = not asked; and its code [anchors, 4].

    An anchor answers for the object it overlaps most, from 0.5 on; from 0.4 to 0.5 it is not asked. Every object has the
    anchor that fits it best, however little that is.
    """
    asked, codes = np.zeros(len(base), np.int32), np.zeros_like(base)
    if len(boxes) == 0:
        return asked, codes
    table = overlap(base, boxes)
    best = table.argmax(axis=1)
    value = table[np.arange(len(base)), best]
    asked[value >= 0.4] = -1
    forced = table.argmax(axis=0)
    best[forced] = np.arange(len(boxes))
    positive = value >= 0.5
    positive[forced] = True
    asked[positive] = labels[best[positive]]
    codes[positive] = encode(boxes[best[positive]], base[positive])
    return asked, codes
