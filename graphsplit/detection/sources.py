"""Where images come from: image files, folders, videos, cameras, streams, or several of them; one iterator for all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from graphsplit.detection.captures import open_camera, open_stream, open_video, without_password
from graphsplit.detection.extras import opencv
from graphsplit.detection.images import read_image
from graphsplit.detection.pictures import Notice, Picture, Report, Source, reason_of, source_name
from graphsplit.errors import FormatError
from graphsplit.runtimes.arrays import Array

__all__ = ["is_live", "open_source", "open_sources"]

_IMAGES = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".jp2", ".avif")


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
        return open_camera(text)
    if is_live(text):
        return open_stream(text)
    path = _existing(text)
    if path.is_dir():
        return _folder(path)
    if path.stat().st_size == 0:
        raise FormatError("the file is empty", path=path)
    return _image(path, read_image(path)) if _is_image(path) else open_video(path)


def open_sources(sources: Iterable[str | PathLike[str]]) -> Source:
    """Open one source as `open_source` does, or several that are read one after the other.

    Of several, a file that cannot be read is reported when its turn comes, and only the one being read is open. One that is
    named twice is read once.

    Args:
        sources: Images, folders and video files; a camera or a stream only alone.

    Raises:
        FormatError: for a source that does not exist, a folder without images, and a camera or stream among several.
    """
    passed: dict[str, str] = {}
    for source in sources:
        text = os.fspath(source)
        passed.setdefault(source_name(text) if text and not is_live(text) else text, text)
    if len(passed) == 1:
        return open_source(*passed.values())
    if live := next(filter(is_live, passed), None):
        raise FormatError("a camera or a stream must be the only source", path=without_password(live))
    parts = tuple(map(_one_of_several, passed.values()))
    counts = [part.count for part in parts if part.count is not None]
    count = sum(counts) if len(counts) == len(parts) else None
    return Source(f"{len(parts)} sources", "several", _read_parts, count=count, parts=parts)


def is_live(source: str) -> bool:
    """Whether a source is a camera or an address rather than a file."""
    return source.startswith("camera:") or re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


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
        with open_video(path) as source:
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
            report(Notice(part.id, reason_of(error), True))
