"""Where results go: JSON lines, image files, videos. Each is written whole or not at all.

Everything is written aside, and moved to its destination by `keep` or removed by `drop`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

from graphsplit.detection.extras import opencv
from graphsplit.detection.frame import Frame
from graphsplit.errors import FormatError
from graphsplit.formats.atomic import Staging
from graphsplit.formats.switch import reported
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from cv2 import VideoWriter
    from supervision import Detections

__all__ = [
    "CODECS",
    "DetectionsJson",
    "FrameJson",
    "ImageFile",
    "ImageFolder",
    "JsonLines",
    "Sink",
    "SinkPerSource",
    "VideoFile",
    "detections_json",
    "record",
]

# File name extension → codec: OpenCV's own encoders, available wherever OpenCV is.
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_RATE = 30.0  # frames per second, if a camera does not state them


class DetectionsJson(TypedDict):
    """The detections of a frame as JSON.

    Attributes:
        boxes: [ymin, xmin, ymax, xmax] of each detection, normalised.
        scores: The score of each.
        classes: The class id of each.
    """

    boxes: list[list[float]]
    scores: list[float]
    classes: list[int]


class FrameJson(DetectionsJson):
    """A frame as JSON.

    Attributes:
        source: The source or the file of a folder, as `Picture.source`.
        frame: Index of the image in its source, counted from 0.
        time_s: Seconds since the beginning of the source.
        labels: The class name of each detection.
        latency_ms: Milliseconds from entering the first section to leaving the last.
    """

    source: str
    frame: int
    time_s: float
    labels: list[str]
    latency_ms: float


class Sink(Protocol):
    """A destination of frames.

    Attributes:
        path: Of the file or folder.
    """

    path: Path

    def write(self, frame: Frame) -> None:
        """Add a frame."""

    def keep(self) -> None:
        """Finish, and move what was written to its destination."""

    def drop(self) -> None:
        """Remove what was written and not kept."""


def record(frame: Frame) -> FrameJson:
    """Convert a frame to its line of JSON."""
    height, width = frame.image.shape[:2]
    return {
        "source": frame.source,
        "frame": frame.number,
        "time_s": round(frame.time_s, 6),
        **detections_json(frame.detections, height, width),
        "labels": [str(name) for name in frame.detections.data["class_name"]],
        "latency_ms": round(frame.latency_ms, 3),
    }


def detections_json(detections: Detections, height: int, width: int) -> DetectionsJson:
    """Convert detections to JSON.

    Args:
        detections: Boxes in pixels, scores and class ids.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    boxes = detections.xyxy[:, [1, 0, 3, 2]] / [height, width, height, width]
    return {
        "boxes": [[round(float(v), 7) for v in box] for box in boxes],
        # The shortest decimal of this float32: 0.7 stays 0.7, at or above a threshold of 0.7.
        "scores": [float(str(score)) for score in detections.confidence],
        "classes": [int(c) for c in detections.class_id],
    }


class JsonLines:
    """One line of JSON per frame, see `FrameJson`.

    Args:
        path: Of the file.
        overwrite: Replace a file that exists by the time it is kept.
    """

    def __init__(self, path: Path, *, overwrite: bool = True) -> None:
        self.path, self._staging = path, Staging(path.parent, overwrite=overwrite)
        self._file = open(self._staging.place(path), "x", encoding="utf-8")  # noqa: SIM115

    def write(self, frame: Frame) -> None:
        """Add a frame."""
        with reported(self.path):
            self._file.write(json.dumps(record(frame)) + "\n")

    def keep(self) -> None:
        """Finish, and move the file to its destination."""
        with reported(self.path):
            self._file.close()
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written and not kept."""
        with suppress(OSError):  # a full disk, which has been reported
            self._file.close()
        self._staging.drop()


class VideoFile:
    """A video with the size and frame rate of its source (OpenCV's encoders drop an odd row or column).

    A dropped frame is replaced by the one that follows it, so that the video keeps its length.

    Args:
        path: Of the file; its extension is one of `CODECS`.
        fps: Frames per second; None: 30.
        overwrite: Replace a file that exists by the time it is kept.
        staging: Where it is written, if several sinks are kept together; None: in a staging folder of its own.
    """

    def __init__(self, path: Path, *, fps: float | None, overwrite: bool = True, staging: Staging | None = None) -> None:
        self.path, self._staging = path, staging or Staging(path.parent, overwrite=overwrite)
        self._fps = fps or _RATE
        self._writer: VideoWriter | None = None
        self._place = path  # where it is written meanwhile
        self._size = (0, 0)
        self._next = 0

    def write(self, frame: Frame) -> None:
        """Add a frame. Raises FormatError if OpenCV cannot write the video."""
        cv2 = opencv()
        drawn = frame.drawn
        size = (drawn.shape[1], drawn.shape[0])
        if self._writer is None:
            self._size = size
            code = cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])
            self._place = self._staging.place(self.path)
            self._writer = cv2.VideoWriter(str(self._place), code, self._fps, size)
            if not self._writer.isOpened():
                raise FormatError("OpenCV cannot write this video; try another file name extension, such as .avi", path=self.path)
        if size != self._size:  # a stream may change its size
            drawn = cv2.resize(drawn, self._size)
        for _ in range(max(1, frame.number + 1 - self._next)):
            self._writer.write(drawn)
        self._next = frame.number + 1

    def finish(self) -> None:
        """Release the encoder; no more frames follow."""
        if self._writer is not None:
            self._writer.release()

    def check(self) -> None:
        """Refuse a video whose last frame cannot be read back: OpenCV does not report a full disk. Raises FormatError."""
        cv2 = opencv()
        written = cv2.VideoCapture(str(self._place))
        whole = written.isOpened() and written.get(cv2.CAP_PROP_FRAME_COUNT) == self._next
        whole = whole and written.set(cv2.CAP_PROP_POS_FRAMES, self._next - 1) and written.read()[0]
        written.release()
        if not whole:
            raise FormatError("cannot be written: OpenCV lost frames; check that the disk is not full", path=self.path)

    def keep(self) -> None:
        """Finish, and move the file to its destination.

        Raises:
            FormatError: There was no frame, or frames could not be written.
            OverwriteError: The file exists, and `overwrite` is not set.
        """
        if self._writer is None:
            raise FormatError("there was no frame to write", path=self.path)
        self.finish()
        self.check()
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written and not kept."""
        self.finish()
        self._staging.drop()


class ImageFile:
    """One annotated image.

    Args:
        path: Of the file; its extension is the format.
        overwrite: As of `VideoFile`.
        staging: As of `VideoFile`.
    """

    def __init__(self, path: Path, *, overwrite: bool = True, staging: Staging | None = None) -> None:
        self.path, self._staging = path, staging or Staging(path.parent, overwrite=overwrite)

    def write(self, frame: Frame) -> None:
        """Write the frame."""
        _write_image(self._staging, self.path, frame.drawn)

    def keep(self) -> None:
        """Move the file to its destination."""
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written and not kept."""
        self._staging.drop()


class ImageFolder:
    """The annotated images of a folder, under the same names.

    Args:
        path: Of the new folder, or of an existing one.
        files: The images, relative to the folder, by the number of their frame.
        overwrite: As of `VideoFile`.
        staging: As of `VideoFile`.
    """

    def __init__(self, path: Path, files: tuple[str, ...], *, overwrite: bool = True, staging: Staging | None = None) -> None:
        self.path, self._files = path, files
        self._staging = staging or Staging(path.absolute().parent, overwrite=overwrite)

    def write(self, frame: Frame) -> None:
        """Add a frame."""
        _write_image(self._staging, self.path / self._files[frame.number], frame.drawn)

    def keep(self) -> None:
        """Move the images into the folder."""
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written and not kept."""
        self._staging.drop()


class SinkPerSource:
    """A folder with a sink for each of several sources.

    Args:
        path: Of the folder, new or existing.
        sinks: `Picture.source` → the sink of its source.
        staging: Where all of them are written.
    """

    def __init__(self, path: Path, sinks: Mapping[str, Sink], staging: Staging) -> None:
        self.path, self._sinks, self._staging = path, sinks, staging
        self._written: list[Sink] = []

    def write(self, frame: Frame) -> None:
        """Add a frame to the sink of its source. Sources come one after the other."""
        sink = self._sinks[frame.source]
        if sink not in self._written:
            self._finish()
            self._written.append(sink)
        sink.write(frame)

    def keep(self) -> None:
        """Finish, and move what was written into the folder, all of it or nothing."""
        self._finish()
        for sink in self._written:
            if isinstance(sink, VideoFile):
                sink.check()
        self._staging.keep()

    def drop(self) -> None:
        """Remove what was written and not kept."""
        self._finish()
        self._staging.drop()

    def _finish(self) -> None:
        if self._written and isinstance(video := self._written[-1], VideoFile):
            video.finish()


def _write_image(staging: Staging, path: Path, image: Array) -> None:
    written, data = opencv().imencode(path.suffix, image)
    if not written:
        raise FormatError("OpenCV cannot write this image", path=path)
    with reported(path):
        staging.place(path).write_bytes(data.tobytes())
