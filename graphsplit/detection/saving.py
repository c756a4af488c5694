"""Where answers are saved: what is written for which source, and what is never written over."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from graphsplit.detection.extras import opencv
from graphsplit.detection.sinks import CODECS, ImageFile, ImageFolder, Sink, VideoFile
from graphsplit.detection.sources import Source
from graphsplit.errors import FormatError
from graphsplit.formats.atomic import check_folder, check_free, check_parent

__all__ = ["check_place", "saver"]


def saver(source: Source, out: str | PathLike[str], *, overwrite: bool) -> Sink:
    """What takes the annotated frames of a source: a picture for a picture, a folder for a folder, else a video.

    out  its place; for a picture or video also a folder that is there, in which it is called as its source

    Raises OverwriteError, and FormatError for an ending that OpenCV does not write.
    """
    path = Path(out)
    if source.kind == "folder":
        check_folder(path)
        _check_free(source, [path / f for f in source.files], overwrite)
        bad = next((f for f in source.files if not _is_image(Path(f))), None)
        if bad is not None:
            raise FormatError("OpenCV reads this kind of picture but does not write it; move it away", path=bad)
        check_parent(path)
        return ImageFolder(path, source.files)
    if path.is_dir() and source.path is not None:
        path = path / source.path.name
    ending = path.suffix or "without an ending"
    if source.kind == "image":
        if not _is_image(path):
            raise FormatError(f"a picture is written as .png, .jpg or what else OpenCV writes, not {ending}", path=path)
    elif path.suffix.lower() not in CODECS:
        raise FormatError(f"a video is written as {', '.join(CODECS)}, not {ending}", path=path)
    check_place(source, path, overwrite=overwrite)
    return ImageFile(path) if source.kind == "image" else VideoFile(path, fps=source.fps)


def check_place(source: Source, path: Path, *, overwrite: bool) -> None:
    """Refuse to write over the source, over what is there unless told to, and into a folder that is not there.

    Raises OverwriteError, FormatError.
    """
    _check_free(source, [path], overwrite)
    check_parent(path)


def _check_free(source: Source, paths: list[Path], overwrite: bool) -> None:
    own = [] if source.path is None else [source.path, *(source.path / f for f in source.files)]
    check_free(paths, sources=own, overwrite=overwrite)


def _is_image(path: Path) -> bool:
    return bool(path.suffix) and bool(opencv().haveImageWriter(str(path)))
