"""One picture of a stream and what was found in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from graphsplit.detection.drawing import draw
from graphsplit.detection.images import Array

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """A picture with its detections.

    number      of the picture in its source, counted from 0; a live source leaves out the numbers that were dropped
    time_s      seconds from the beginning of the source
    image       uint8 RGB (height, width, 3)
    detections  ``supervision.Detections``: xyxy in pixels, confidence, class_id, data["class_name"], mask where there is one
    latency_ms  milliseconds from the door of the first section to the end of the last one
    regions     whether they are regions of a segmented picture, of which boxes say nothing
    """

    number: int
    time_s: float
    image: Array
    detections: Any = field(repr=False)
    latency_ms: float
    regions: bool = False

    @cached_property
    def drawn(self) -> Array:
        """The picture with its detections drawn on it, uint8 **BGR** as OpenCV wants it for files and windows."""
        return draw(self.image, self.detections, boxes=not self.regions)

    @property
    def annotated(self) -> Array:
        """The picture with its detections drawn on it, uint8 RGB (height, width, 3)."""
        return self.drawn[:, :, ::-1]
