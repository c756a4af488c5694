"""Sources that OpenCV captures: video files, cameras, streams."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.detection.extras import opencv
from graphsplit.detection.pictures import Notice, Picture, Report, Source, source_name
from graphsplit.errors import FormatError

if TYPE_CHECKING:
    from cv2 import VideoCapture

__all__ = ["open_camera", "open_stream", "open_video", "without_password"]

_CAMERAS = {
    "linux": "`ls /dev/video*` or `v4l2-ctl --list-devices` lists the cameras",
    "darwin": "`system_profiler SPCameraDataType` lists the cameras",
    "win32": "the device manager lists the cameras",
}


def open_video(path: Path) -> Source:
    capture = _capture(str(path), FormatError("neither an image nor a video that OpenCV can read, or a damaged one", path=path))
    return _captured(capture, path.name, "video", live=False, again=str(path), path=path)


def open_camera(text: str) -> Source:
    number = text.removeprefix("camera:")
    if not re.fullmatch(r"\d{1,4}", number):
        raise FormatError("a camera is camera:0, camera:1, …", path=text)
    how = _CAMERAS.get(sys.platform, "the system's settings list the cameras")
    capture = _capture(int(number), FormatError(f"no such camera, or it is in use; {how}", path=text))
    return _captured(capture, text, "camera", live=True)


def open_stream(address: str) -> Source:
    name = without_password(address)
    capture = _capture(address, FormatError("cannot open this stream; check the address, and that its server runs", path=name))
    # A stream that states its length waits for its reader.
    return _captured(capture, name, "stream", live=capture.get(opencv().CAP_PROP_FRAME_COUNT) <= 0)


def without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)


def _capture(what: str | int, error: FormatError) -> VideoCapture:
    cv2 = opencv()
    try:
        capture: VideoCapture = cv2.VideoCapture(what)
    except cv2.error as cause:
        raise error from cause
    if not capture.isOpened():
        raise error
    return capture


def _captured(
    capture: VideoCapture, name: str, kind: str, *, live: bool, again: str | None = None, path: Path | None = None
) -> Source:
    """A source that OpenCV captures; `again` is opened for every iteration but the first."""
    cv2 = opencv()
    width, height, fps, count = (
        capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)
    )
    opened = [capture]

    def pictures(source: Source, report: Report | None) -> Iterator[Picture]:
        if not opened and again is None:
            raise FormatError("already read; open it again", path=name)
        return _frames(opened.pop() if opened else cv2.VideoCapture(again), source, report)

    def release() -> None:
        while opened:
            opened.pop().release()

    return Source(
        name,
        kind,
        pictures,
        name if path is None else source_name(path),
        live=live,
        size=(int(width), int(height)) if width > 0 and height > 0 else None,
        fps=float(fps) if 0 < fps < 1000 else None,
        count=int(count) if 0 < count < 2**31 and not live else None,
        path=path,
        close=release,
    )


def _frames(capture: VideoCapture, source: Source, report: Report | None) -> Iterator[Picture]:
    """The frames of a capture until there are no more. It is released at the end, also if the reader stops early."""
    cv2 = opencv()
    number = 0
    started = time.perf_counter()
    try:
        while True:
            available, frame = capture.read()
            if not available:
                break
            if number == 0:
                started = time.perf_counter()
            elapsed = time.perf_counter() - started if source.live else _time(capture, number, source.fps)
            yield Picture(number, elapsed, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), source.id)
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise FormatError("no frame could be read", path=source.path or source.name)
    if report is None:
        return
    if source.live:
        report(Notice(source.id, f"ended after {number} frames", False))
    elif source.count is not None and number < source.count:
        report(Notice(source.id, f"ended early: {number} of {source.count} frames could be read", False))


def _time(capture: VideoCapture, number: int, fps: float | None) -> float:
    """Seconds since the beginning of a video: the frame's own timestamp, else computed from the frame rate."""
    stated = capture.get(opencv().CAP_PROP_POS_MSEC) / 1000
    if number == 0 or stated > 0:
        return float(max(stated, 0.0))
    return number / fps if fps else 0.0
