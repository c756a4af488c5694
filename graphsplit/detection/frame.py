"""One frame of a stream with its detections."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from graphsplit.detection.drawing import draw
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """An image with its detections.

    Attributes:
        number: Index in its source, counted from 0; a live source skips the numbers of dropped frames.
        time_s: Seconds since the beginning of the source.
        image: uint8 [height, width, 3], RGB.
        detections: ``supervision.Detections``: `xyxy` in pixels, `confidence`, `class_id`, ``data["class_name"]``, and `mask`
            for models with masks.
        latency_ms: Milliseconds from entering the first section to leaving the last.
        regions: Whether the detections are regions of a segmentation map, for which boxes mean little.
        source: The source, or the file of a folder, as `Picture.source`.
    """

    number: int
    time_s: float
    image: Array
    detections: Detections = field(repr=False)
    latency_ms: float
    regions: bool = False
    source: str = ""

    @cached_property
    def drawn(self) -> Array:
        """The image with its detections drawn on it: uint8 [height, width, 3] in OpenCV's order **BGR**, for files and windows."""
        return draw(self.image, self.detections, boxes=not self.regions)

    @property
    def annotated(self) -> Array:
        """The image with its detections drawn on it: uint8 [height, width, 3], RGB."""
        return self.drawn[:, :, ::-1]
