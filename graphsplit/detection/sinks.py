"""Where answers go: JSON lines, pictures, a video. Each is written whole or not at all.

Everything is written under another name beside its place, and takes its own when it is kept (`keep`); what is not kept is
removed (`drop`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from graphsplit.detection.extras import opencv
from graphsplit.detection.frame import Frame
from graphsplit.detection.images import Array
from graphsplit.errors import FormatError
from graphsplit.formats.atomic import Staging

__all__ = ["CODECS", "ImageFile", "ImageFolder", "JsonLines", "Sink", "VideoFile", "found_json", "record"]

# The ending of a video says what it is; OpenCV's own encoders, which are there wherever OpenCV is.
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_RATE = 30.0  # pictures a second, where a camera does not tell


class Sink(Protocol):
    """Somewhere frames go."""

    path: Path

    def write(self, frame: Frame) -> None:
        """Take one more frame."""

    def keep(self) -> None:
        """Finish, and put what was written in its place."""

    def drop(self) -> None:
        """Remove what was written."""


def record(frame: Frame) -> dict[str, Any]:
    """A frame as JSON: {frame, time_s, boxes: [[ymin, xmin, ymax, xmax]] normalised, scores, classes, latency_ms}."""
    height, width = frame.image.shape[:2]
    return {
        "frame": frame.number,
        "time_s": round(frame.time_s, 6),
        **found_json(frame.detections, height, width),
        "latency_ms": round(frame.latency_ms, 3),
    }


def found_json(detections: Any, height: int, width: int) -> dict[str, Any]:
    """Detections in a picture of that size in pixels as JSON: {boxes, scores, classes}, boxes normalised."""
    boxes = detections.xyxy[:, [1, 0, 3, 2]] / [height, width, height, width]
    return {
        "boxes": [[round(float(v), 7) for v in box] for box in boxes],
        # The shortest number that is this float32: 0.7 stays 0.7, and at or above a threshold of 0.7.
        "scores": [float(str(score)) for score in detections.confidence],
        "classes": [int(c) for c in detections.class_id],
    }


class JsonLines:
    """One JSON object a frame and line."""

    def __init__(self, path: Path) -> None:
        self.path, self._staging = path, Staging(path.parent)
        self._file = open(self._staging.place(path), "x", encoding="utf-8")  # noqa: SIM115

    def write(self, frame: Frame) -> None:
        """Take one more frame."""
        self._file.write(json.dumps(record(frame)) + "\n")

    def keep(self) -> None:
        """Finish, and put what was written in its place."""
        self._file.close()
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written."""
        self._file.close()
        self._staging.drop()


class VideoFile:
    """A video with the size and rate of its source (OpenCV's encoders leave out an odd row or column).

    A picture that was dropped before it is filled in with the one that follows, so that time goes by as it did.
    """

    def __init__(self, path: Path, *, fps: float | None) -> None:
        self.path, self._staging = path, Staging(path.parent)
        self._fps = fps or _RATE
        self._writer: Any = None
        self._size = (0, 0)
        self._next = 0

    def write(self, frame: Frame) -> None:
        """Take one more frame. Raises FormatError when it cannot be written."""
        cv2 = opencv()
        drawn = frame.drawn
        size = (drawn.shape[1], drawn.shape[0])
        if self._writer is None:
            self._size = size
            code = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._staging.place(self.path)), code, self._fps, size)
            if not self._writer.isOpened():
                raise FormatError("OpenCV cannot write this video; another ending (.avi) may do", path=self.path)
        if size != self._size:  # a stream may change it on its way
            drawn = cv2.resize(drawn, self._size)
        for _ in range(max(1, frame.number + 1 - self._next)):
            self._writer.write(drawn)
        self._next = frame.number + 1

    def keep(self) -> None:
        """Finish, and put what was written in its place. Raises FormatError for a video without a picture."""
        if self._writer is None:
            raise FormatError("there was no picture to write", path=self.path)
        self._writer.release()
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written."""
        if self._writer is not None:
            self._writer.release()
        self._staging.drop()


class ImageFile:
    """The picture of a source that is one picture."""

    def __init__(self, path: Path) -> None:
        self.path, self._staging = path, Staging(path.parent)

    def write(self, frame: Frame) -> None:
        """Take the frame."""
        _write_image(self._staging.place(self.path), frame.drawn)

    def keep(self) -> None:
        """Put it in its place."""
        self._staging.keep()

    def drop(self) -> None:
        """Remove it."""
        self._staging.drop()


class ImageFolder:
    """The pictures of a folder, called as they are there."""

    def __init__(self, path: Path, files: tuple[str, ...]) -> None:
        self.path, self._files = path, files
        self._staging = Staging(path.absolute().parent)

    def write(self, frame: Frame) -> None:
        """Take one more frame."""
        _write_image(self._staging.place(self.path / self._files[frame.number]), frame.drawn)

    def keep(self) -> None:
        """Put what was written in its place."""
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written."""
        self._staging.drop()


def _write_image(path: Path, image: Array) -> None:
    there, data = opencv().imencode(path.suffix, image)
    if not there:
        raise FormatError("OpenCV cannot write this picture", path=path)
    path.write_bytes(data.tobytes())
