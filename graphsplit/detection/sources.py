"""Where pictures come from: images, folders, videos, cameras, streams; one iterator for all of them."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from graphsplit.detection.extras import opencv
from graphsplit.detection.images import Array, read_image
from graphsplit.errors import FormatError

__all__ = ["Picture", "Source", "open_source"]

_IMAGES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".jp2", ".avif")
_CAMERAS = {
    "linux": "`ls /dev/video*` or `v4l2-ctl --list-devices` lists the cameras",
    "darwin": "`system_profiler SPCameraDataType` lists the cameras",
    "win32": "the device manager lists the cameras",
}


class Picture(NamedTuple):
    """One picture of a source.

    number  counted from 0
    time_s  seconds from the first picture; 0 for pictures that are no video
    image   uint8 RGB (height, width, 3)
    """

    number: int
    time_s: float
    image: Array


@dataclass
class Source:
    """A source, open; iterating over it gives each `Picture`. A camera or stream can be iterated over once.

    name    what to call it; without the password of a stream
    kind    "image", "folder", "video", "camera", "stream"
    live    whether it goes on while nobody reads
    size    (width, height) in pixels, where that is known
    fps     pictures a second, where that is known
    count   how many pictures, where that is known
    path    the file or folder
    files   names of the pictures relative to the folder, in order
    note    what is to be said when it has ended, such as that a video ended early
    close   releases what was opened and not iterated over; an iterator releases what it reads when it ends
    """

    name: str
    kind: str
    pictures: Callable[[Source], Iterator[Picture]] = field(repr=False)
    live: bool = False
    size: tuple[int, int] | None = None
    fps: float | None = None
    count: int | None = None
    path: Path | None = None
    files: tuple[str, ...] = ()
    note: str = ""
    close: Callable[[], None] = field(default=lambda: None, repr=False)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Picture]:
        return self.pictures(self)


def open_source(source: str | PathLike[str]) -> Source:
    """Open an image, a folder of images (with all folders in it, sorted by name), a video file, ``camera:0``, or a stream
    (``rtsp://…``, and what else OpenCV opens by an address).

    Raises FormatError: no such file, not readable, no pictures in a folder, a camera that is not there.
    """
    text = os.fspath(source)
    if text.startswith("camera:"):
        return _camera(text)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        return _stream(text)
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise FormatError("no such file or folder", path=path)
    if not path.is_file():
        raise FormatError("neither a file nor a folder (a pipe or a device is never opened; a camera is camera:0)", path=path)
    if path.stat().st_size == 0:
        raise FormatError("the file is empty", path=path)
    if path.suffix.lower() in _IMAGES or opencv().haveImageReader(str(path)):
        return _image(path)
    return _video(path)


def _image(path: Path) -> Source:
    image = read_image(path)
    size = (image.shape[1], image.shape[0])
    return Source(path.name, "image", lambda _: iter([Picture(0, 0.0, image)]), size=size, count=1, path=path)


def _folder(path: Path) -> Source:
    every = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    files = [p for p in every if p.suffix.lower() in _IMAGES and not any(part.startswith(".") for part in p.parts)]
    if not files:
        others = f"there is {every[0]}" if every else "it is empty"
        raise FormatError(f"no images in this folder ({others}); images are {', '.join(e[1:] for e in _IMAGES)}", path=path)

    def pictures(_: Source) -> Iterator[Picture]:
        for number, file in enumerate(files):
            yield Picture(number, 0.0, read_image(path / file))

    return Source(path.name or str(path), "folder", pictures, count=len(files), path=path, files=tuple(p.as_posix() for p in files))


# what OpenCV captures


def _video(path: Path) -> Source:
    what = "neither a picture nor a video that OpenCV reads, or a damaged one"
    capture = _open(str(path), FormatError(what, path=path))
    return _captured(capture, path.name, "video", live=False, again=str(path), path=path)


def _camera(text: str) -> Source:
    number = text.removeprefix("camera:")
    if not re.fullmatch(r"\d{1,4}", number):
        raise FormatError("a camera is camera:0, camera:1, …", path=text)
    how = _CAMERAS.get(sys.platform, "the system's settings list the cameras")
    capture = _open(int(number), FormatError(f"no such camera, or it is in use; {how}", path=text))
    return _captured(capture, text, "camera", live=True)


def _stream(address: str) -> Source:
    name = re.sub(r"//[^/@]*@", "//", address)
    capture = _open(address, FormatError("this stream cannot be opened; is the address right, and the other side up?", path=name))
    # What states how long it is waits for its reader.
    return _captured(capture, name, "stream", live=capture.get(opencv().CAP_PROP_FRAME_COUNT) <= 0)


def _open(what: str | int, error: FormatError) -> Any:
    cv2 = opencv()
    try:
        capture = cv2.VideoCapture(what)
    except cv2.error as cause:
        raise error from cause
    if not capture.isOpened():
        raise error
    return capture


def _captured(capture: Any, name: str, kind: str, *, live: bool, again: str | None = None, path: Path | None = None) -> Source:
    cv2 = opencv()
    width, height, fps, count = (
        capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT)
    )
    opened = [capture]

    def pictures(source: Source) -> Iterator[Picture]:
        if not opened and again is None:
            raise FormatError("was read already; open it again", path=name)
        return _frames(opened.pop() if opened else cv2.VideoCapture(again), source)

    def release() -> None:
        while opened:
            opened.pop().release()

    return Source(
        name,
        kind,
        pictures,
        live=live,
        size=(int(width), int(height)) if width > 0 and height > 0 else None,
        fps=float(fps) if 0 < fps < 1000 else None,
        count=int(count) if 0 < count < 2**31 and not live else None,
        path=path,
        close=release,
    )


def _frames(capture: Any, source: Source) -> Iterator[Picture]:
    """What a capture gives, until it gives nothing more. Released at the end, and when the reader stops early."""
    cv2 = opencv()
    number = 0
    source.note = ""
    started = time.perf_counter()
    try:
        while True:
            there, frame = capture.read()
            if not there:
                break
            if number == 0:
                started = time.perf_counter()
            elapsed = time.perf_counter() - started if source.live else _time(capture, number, source.fps)
            yield Picture(number, elapsed, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise FormatError("not one picture could be read", path=source.path or source.name)
    if source.live:
        source.note = f"{source.name} gave no more pictures after {number}"
    elif source.count is not None and number < source.count:
        source.note = f"{source.name} ended early: {number} of {source.count} pictures could be read"


def _time(capture: Any, number: int, fps: float | None) -> float:
    """Seconds from the beginning of a video: as it states for this frame, else by its rate."""
    stated = capture.get(opencv().CAP_PROP_POS_MSEC) / 1000
    if number == 0 or stated > 0:
        return float(max(stated, 0.0))
    return number / fps if fps else 0.0
