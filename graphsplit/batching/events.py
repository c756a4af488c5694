"""What an engine yields, source by source in their order: a row for each frame, then the end of the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from graphsplit.detection.sinks import DetectionsJson

__all__ = ["End", "Event", "Reject", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One frame.

    Attributes:
        source: Index of its source in the list of items.
        frame: Index in its source, counted from 0.
        detections: None for a frame on which the model failed.
        reason: Why it failed.
    """

    source: int
    frame: int
    detections: DetectionsJson | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a source.

    Attributes:
        source: Index of the source in the list of items.
        frames: How many frames could be read.
        reason: Why the source, or what follows its last frame, is rejected; empty if it was read to its end.
    """

    source: int
    frames: int
    reason: str = ""


Event = Row | End


class Reject(TypedDict):
    """What could not be read or answered.

    Attributes:
        source: Name of the source.
        reason: Why; begins with the frame if a single frame failed.
    """

    source: str
    reason: str
