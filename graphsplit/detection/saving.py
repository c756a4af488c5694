"""Where results are saved: the sink for each kind of source, and what is never overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from graphsplit.detection.extras import opencv
from graphsplit.detection.pictures import Source, source_name
from graphsplit.detection.sinks import CODECS, ImageFile, ImageFolder, Sink, SinkPerSource, VideoFile
from graphsplit.errors import FormatError, OverwriteError
from graphsplit.formats.atomic import Staging, check_folder, check_free, check_parent

__all__ = ["check_place", "saver"]


def saver(source: Source, out: str | PathLike[str], *, overwrite: bool) -> Sink:
    """Open the sink for the annotated frames of a source: an image for an image, a folder for a folder or several sources,
    else a video.

    Args:
        source: The source.
        out: The destination. An image or video may also go into an existing folder, where it keeps the name of its source.
        overwrite: Replace existing files.

    Raises:
        OverwriteError: for an existing file, a file in place of a folder, and for the source itself.
        FormatError: for a file name extension that OpenCV does not write, or a destination in a folder that does not exist.
    """
    path, own = Path(out), list(_files(source))
    if source.kind in ("several", "folder") and not path.is_dir() and (path.suffix.lower() in CODECS or _is_image(path)):
        what = "a folder of images is" if source.kind == "folder" else "several sources are"
        raise FormatError(f"{what} saved as a folder; leave out the extension {path.suffix}", path=path)
    if source.kind == "several":
        check_folder(path)
    elif source.kind != "folder" and path.is_dir() and source.path is not None:
        path = path / source.path.name
    check_parent(path)
    if source.kind == "several":
        staging = Staging(path.absolute().parent, overwrite=overwrite)
        return SinkPerSource(path, _sinks(source, path, own, staging, overwrite=overwrite), staging)
    return _sink(source, path, own, None, overwrite=overwrite)


def _sinks(source: Source, folder: Path, own: Sequence[Path], staging: Staging, *, overwrite: bool) -> dict[str, Sink]:
    """`Picture.source` → the sink of its source, each under its own name in a folder."""
    sinks: dict[str, Sink] = {}
    owners: dict[Path, Source] = {}
    for part in source.parts:
        if part.kind == "unreadable" or part.path is None:
            continue
        place = folder / Path(os.path.abspath(part.path)).name  # also of . and ..
        if place in owners:
            raise OverwriteError(f"{owners[place].id} and {part.id} would both be saved as {place}", paths=[place])
        owners[place] = part
        sink = _sink(part, place, own, staging, overwrite=overwrite)
        sinks.update(dict.fromkeys([source_name(part.path / f) for f in part.files] or [part.id], sink))
    return sinks


def _sink(
    source: Source, path: Path, own: Sequence[Path], staging: Staging | None, *, overwrite: bool
) -> ImageFile | ImageFolder | VideoFile:
    if source.kind == "folder":
        check_folder(path)
        check_free([path / f for f in source.files], sources=own, overwrite=overwrite)
        unwritable = next((f for f in source.files if not _is_image(Path(f))), None)
        if unwritable is not None:
            raise FormatError("OpenCV reads this image format but does not write it; move the file elsewhere", path=unwritable)
        return ImageFolder(path, source.files, overwrite=overwrite, staging=staging)
    extension = path.suffix or "a name without extension"
    if source.kind == "image" and not _is_image(path):
        raise FormatError(f"an image is written as .png, .jpg or another format of OpenCV, not {extension}", path=path)
    if source.kind != "image" and path.suffix.lower() not in CODECS:
        raise FormatError(f"a video is written as {', '.join(CODECS)}, not {extension}", path=path)
    check_free([path], sources=own, overwrite=overwrite)
    if source.kind == "image":
        return ImageFile(path, overwrite=overwrite, staging=staging)
    return VideoFile(path, fps=source.fps, overwrite=overwrite, staging=staging)


def check_place(source: Source, path: Path, *, overwrite: bool) -> None:
    """Check that a file may be written.

    Args:
        source: The source, which is never overwritten.
        path: Of the file.
        overwrite: Replace an existing file.

    Raises:
        OverwriteError: for an existing file or folder, and for the source itself.
        FormatError: for a path in a folder that does not exist.
    """
    check_free([path], sources=_files(source), overwrite=overwrite)
    check_parent(path)


def _files(source: Source) -> Iterator[Path]:
    """The files and folders of a source."""
    for part in source.parts:
        yield from _files(part)
    if source.path is not None:
        yield source.path
        yield from (source.path / f for f in source.files)


def _is_image(path: Path) -> bool:
    return bool(path.suffix) and bool(opencv().haveImageWriter(str(path)))
