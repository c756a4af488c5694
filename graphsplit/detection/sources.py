"""Where images come from: image files, folders, videos, cameras, streams, or several of them; one iterator for all."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from graphsplit.detection.extras import opencv
from graphsplit.detection.images import read_image
from graphsplit.errors import FormatError
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from cv2 import VideoCapture

__all__ = ["Notice", "Picture", "Report", "Source", "is_live", "open_source", "open_sources", "reason_of", "source_name"]

_IMAGES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".jp2", ".avif")
_CAMERAS = {
    "linux": "`ls /dev/video*` or `v4l2-ctl --list-devices` lists the cameras",
    "darwin": "`system_profiler SPCameraDataType` lists the cameras",
    "win32": "the device manager lists the cameras",
}


class Picture(NamedTuple):
    """One image of a source.

    Attributes:
        number: Index in its source, counted from 0; of several sources, each counts its own.
        time_s: Seconds since the beginning of a video or stream; 0 for image files.
        image: uint8 [height, width, 3], RGB.
        source: The source as it was passed, see `source_name`; of a folder, the folder and the path of the file in it.
    """

    number: int
    time_s: float
    image: Array
    source: str = ""


class Notice(NamedTuple):
    """Something to report about a source besides its images.

    Attributes:
        source: The source or the file, as `Picture.source`.
        reason: Why it was rejected, or what else there is to report, such as that a video ended early.
        rejected: Whether it could not be read at all.
    """

    source: str
    reason: str
    rejected: bool


Report = Callable[[Notice], object]
Read = Callable[["Source", Report | None], Iterator[Picture]]


@dataclass(frozen=True)
class Source:
    """An open source. Iterating over it yields every `Picture`; a camera or stream can be iterated over once.

    Attributes:
        name: A short name, without the password of a stream.
        kind: "image", "folder", "video", "camera", "stream", "several", or "unreadable" for one of several that cannot be opened.
        pictures: Reads the images; `read` calls it.
        given: The source as it was passed, as `Picture.source`.
        live: Whether frames are lost while nobody reads.
        size: (width, height) in pixels, if known.
        fps: Frames per second, if known.
        count: The number of images, if known.
        path: The file or folder.
        files: The images of a folder, relative to it, in order.
        parts: The sources of "several", in order.
        close: Releases what was opened but not iterated over; an iterator releases its own at its end.
    """

    name: str
    kind: str
    pictures: Read = field(repr=False)
    given: str = ""
    live: bool = False
    size: tuple[int, int] | None = None
    fps: float | None = None
    count: int | None = None
    path: Path | None = None
    files: tuple[str, ...] = ()
    parts: tuple[Source, ...] = ()
    close: Callable[[], None] = field(default=lambda: None, repr=False)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Picture]:
        return self.read()

    def read(self, report: Report | None = None) -> Iterator[Picture]:
        """Read the images.

        Args:
            report: Called with a `Notice` for every file that cannot be read, which is then skipped, and for a source that
                ended early or is live and ended. None: a file that cannot be read raises FormatError.
        """
        return self.pictures(self, report)


def open_source(source: str | PathLike[str]) -> Source:
    """Open a source.

    Args:
        source: An image; a folder of images (including subfolders, sorted by name); a video file; ``camera:0``; or a stream
            (``rtsp://…``, and any other address that OpenCV opens).

    Raises:
        FormatError: for a file or camera that does not exist or cannot be read, and for a folder without images.
    """
    text = os.fspath(source)
    if text.startswith("camera:"):
        return _camera(text)
    if is_live(text):
        return _stream(text)
    path = _existing(text)
    if path.is_dir():
        return _folder(path)
    if path.stat().st_size == 0:
        raise FormatError("the file is empty", path=path)
    return _image(path, read_image(path)) if _is_image(path) else _video(path)


def open_sources(sources: Iterable[str | PathLike[str]]) -> Source:
    """Open one source as `open_source` does, or several that are read one after the other.

    Of several, a file that cannot be read is reported when its turn comes, and only the one being read is open.

    Args:
        sources: Images, folders and video files; a camera or a stream only alone.

    Raises:
        FormatError: for a source that does not exist, a folder without images, and a camera or stream among several.
    """
    given = [os.fspath(source) for source in sources]
    if len(given) == 1:
        return open_source(given[0])
    if live := next(filter(is_live, given), None):
        raise FormatError("a camera or a stream must be the only source", path=_without_password(live))
    parts = tuple(map(_one_of_several, dict.fromkeys(given)))
    counts = [part.count for part in parts if part.count is not None]
    count = sum(counts) if len(counts) == len(parts) else None
    return Source(f"{len(parts)} sources", "several", _read_parts, count=count, parts=parts)


def is_live(source: str) -> bool:
    """Whether a source is a camera or an address rather than a file."""
    return source.startswith("camera:") or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def source_name(path: str | PathLike[str]) -> str:
    """A path as rows name it: normalised, with / as separator, bytes that are not UTF-8 escaped."""
    return os.fsencode(Path(os.path.normpath(path)).as_posix()).decode("utf-8", "backslashreplace")


def reason_of(error: Exception) -> str:
    """The message of an error on one line, without the path that it is about."""
    message = str(error)
    if isinstance(error, FormatError) and error.path:
        message = message.removeprefix(f"{error.path}: ")
    return " ".join(message.split()) or type(error).__name__


def _existing(text: str) -> Path:
    if not text:
        raise FormatError("'' is not a source; name an image, a folder, a video, a camera (camera:0) or a stream (rtsp://…)")
    path = Path(text)
    if not path.exists():
        raise FormatError("no such file or folder", path=path)
    if not path.is_file() and not path.is_dir():
        raise FormatError("neither a file nor a folder; pipes and devices are not opened (a camera is camera:0)", path=path)
    return path


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGES or bool(opencv().haveImageReader(str(path)))


def _image(path: Path, image: Array | None = None) -> Source:
    """A source of one image, which is read when its turn comes if it is not passed."""
    name = source_name(path)

    def pictures(source: Source, report: Report | None) -> Iterator[Picture]:
        yield Picture(0, 0.0, read_image(path) if image is None else image, name)

    size = None if image is None else (image.shape[1], image.shape[0])
    return Source(path.name, "image", pictures, name, size=size, count=1, path=path)


def _folder(path: Path) -> Source:
    every = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    files = [p for p in every if p.suffix.lower() in _IMAGES and not any(part.startswith(".") for part in p.parts)]
    if not files:
        others = f"it holds {every[0]}" if every else "it is empty"
        raise FormatError(f"no images in this folder ({others}); images are {', '.join(e[1:] for e in _IMAGES)}", path=path)

    def pictures(source: Source, report: Report | None) -> Iterator[Picture]:
        for number, file in enumerate(files):
            name = source_name(path / file)
            try:
                image = read_image(path / file)
            except FormatError as error:
                if report is None:
                    raise
                report(Notice(name, reason_of(error), True))
            else:
                yield Picture(number, 0.0, image, name)

    names = tuple(p.as_posix() for p in files)
    return Source(path.name or str(path), "folder", pictures, source_name(path), count=len(files), path=path, files=names)


def _one_of_several(text: str) -> Source:
    path = _existing(text)
    if path.is_dir():
        return _folder(path)
    if _is_image(path):
        return _image(path)
    try:
        with _video(path) as source:
            return source  # closed; iterating opens it again
    except FormatError:
        return Source(path.name, "unreadable", lambda _, report: open_source(path).read(report), source_name(path), path=path)


def _read_parts(source: Source, report: Report | None) -> Iterator[Picture]:
    for part in source.parts:
        try:
            yield from part.read(report)
        except FormatError as error:
            if report is None:
                raise
            report(Notice(part.given, reason_of(error), True))


# what OpenCV captures


def _video(path: Path) -> Source:
    capture = _capture(str(path), FormatError("neither an image nor a video that OpenCV can read, or a damaged one", path=path))
    return _captured(capture, path.name, "video", live=False, again=str(path), path=path)


def _camera(text: str) -> Source:
    number = text.removeprefix("camera:")
    if not re.fullmatch(r"\d{1,4}", number):
        raise FormatError("a camera is camera:0, camera:1, …", path=text)
    how = _CAMERAS.get(sys.platform, "the system's settings list the cameras")
    capture = _capture(int(number), FormatError(f"no such camera, or it is in use; {how}", path=text))
    return _captured(capture, text, "camera", live=True)


def _stream(address: str) -> Source:
    name = _without_password(address)
    capture = _capture(address, FormatError("cannot open this stream; check the address, and that its server runs", path=name))
    # A stream that states its length waits for its reader.
    return _captured(capture, name, "stream", live=capture.get(opencv().CAP_PROP_FRAME_COUNT) <= 0)


def _without_password(address: str) -> str:
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
            yield Picture(number, elapsed, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), source.given)
            number += 1
    finally:
        capture.release()
    if number == 0:
        raise FormatError("no frame could be read", path=source.path or source.name)
    if report is None:
        return
    if source.live:
        report(Notice(source.given, f"ended after {number} frames", False))
    elif source.count is not None and number < source.count:
        report(Notice(source.given, f"ended early: {number} of {source.count} frames could be read", False))


def _time(capture: VideoCapture, number: int, fps: float | None) -> float:
    """Seconds since the beginning of a video: the frame's own timestamp, else computed from the frame rate."""
    stated = capture.get(opencv().CAP_PROP_POS_MSEC) / 1000
    if number == 0 or stated > 0:
        return float(max(stated, 0.0))
    return number / fps if fps else 0.0
