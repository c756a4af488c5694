"""Detections drawn on a picture, by supervision; lines and letters grow with the picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphsplit.detection.extras import opencv, supervision
from graphsplit.detection.images import Array

__all__ = ["captions", "draw"]

_SMALLEST = 0.4  # scale of OpenCV's font: its letters are then 9 pixels high, and still read well


def draw(image: Array, detections: Any, *, boxes: bool = True) -> Array:
    """A copy of the picture with masks, boxes and labels.

    image  uint8 RGB (height, width, 3)
    boxes  whether to draw boxes; for a map of labels there are none, and a label stands on its region

    uint8 **BGR** (height, width, 3): OpenCV's order, ready for a file or a window.
    """
    cv2, sv = opencv(), supervision()
    scene = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if not len(detections):
        return _array(scene)
    short = min(image.shape[:2])
    scale = max(_SMALLEST, short / 1000)
    line = max(1, round(short / 250))
    detections = detections[np.argsort(detections.confidence, kind="stable")]  # the surest is drawn last, over the others
    if detections.mask is not None:
        scene = sv.MaskAnnotator(opacity=0.45).annotate(scene, detections)
    if boxes:
        scene = sv.BoxAnnotator(thickness=line).annotate(scene, detections)
    label = sv.LabelAnnotator(
        text_scale=scale,
        text_thickness=max(1, round(2 * scale)),
        text_padding=max(2, round(8 * scale)),
        text_position=sv.Position.TOP_LEFT if boxes else sv.Position.CENTER_OF_MASS,
        text_color=_readable(sv),
        smart_position=True,
    )
    return _array(label.annotate(scene, detections, labels=captions(detections, scores=boxes)))


def _readable(sv: Any) -> Any:
    """For each colour of the palette, black or white: whichever can be read on it."""
    light = (0.299 * c.r + 0.587 * c.g + 0.114 * c.b > 140 for c in sv.ColorPalette.DEFAULT.colors)
    return sv.ColorPalette([sv.Color.BLACK if is_light else sv.Color.WHITE for is_light in light])


def captions(detections: Any, *, scores: bool = True) -> list[str]:
    """``face 0.97`` for each detection."""
    names = detections.data.get("class_name")
    found = [str(c) for c in detections.class_id] if names is None else [str(n) for n in names]
    return [f"{name} {score:.2f}" for name, score in zip(found, detections.confidence, strict=True)] if scores else found


def _array(scene: Any) -> Array:
    drawn: Array = scene
    return drawn
