"""Detections drawn on an image by supervision; line width and font size scale with the image."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from graphsplit.detection.extras import opencv, supervision
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from supervision import ColorPalette, Detections

__all__ = ["captions", "draw"]

_SMALLEST = 0.4  # scale of OpenCV's font: letters are 9 pixels high, still legible


def draw(image: Array, detections: Detections, *, boxes: bool = True) -> Array:
    """Draw masks, boxes and labels on a copy of an image.

    Args:
        image: uint8 [height, width, 3], RGB.
        detections: What to draw, as in `Frame.detections`.
        boxes: Whether to draw boxes; without, as for a segmentation map, each label is centred on its region.

    Returns:
        uint8 [height, width, 3] in OpenCV's order **BGR**, for files and windows.
    """
    cv2, sv = opencv(), supervision()
    scene: Array = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if not len(detections):
        return scene
    short = min(image.shape[:2])
    scale = max(_SMALLEST, short / 1000)
    line = max(1, round(short / 250))
    detections = detections[np.argsort(detections.confidence, kind="stable")]  # the most confident is drawn last, on top
    if detections.mask is not None:
        scene = sv.MaskAnnotator(opacity=0.45).annotate(scene, detections)
    if boxes:
        scene = sv.BoxAnnotator(thickness=line).annotate(scene, detections)
    label = sv.LabelAnnotator(
        text_scale=scale,
        text_thickness=max(1, round(2 * scale)),
        text_padding=max(2, round(8 * scale)),
        text_position=sv.Position.TOP_LEFT if boxes else sv.Position.CENTER_OF_MASS,
        text_color=_text_colours(sv),
        smart_position=True,
    )
    labelled: Array = label.annotate(scene, detections, labels=captions(detections, scores=boxes))
    return labelled


def _text_colours(sv: ModuleType) -> ColorPalette:
    """For each colour of the default palette black or white, whichever is legible on it."""
    light = (0.299 * c.r + 0.587 * c.g + 0.114 * c.b > 140 for c in sv.ColorPalette.DEFAULT.colors)
    return sv.ColorPalette([sv.Color.BLACK if is_light else sv.Color.WHITE for is_light in light])


def captions(detections: Detections, *, scores: bool = True) -> list[str]:
    """The text of each label: ``face 0.97``, or ``face`` without scores; the class id if the class has no name."""
    names = [str(n) for n in detections.data.get("class_name", detections.class_id)]
    return [f"{name} {score:.2f}" for name, score in zip(names, detections.confidence, strict=True)] if scores else names
