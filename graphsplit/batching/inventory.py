"""The inputs of a batch → its sources, each with a name that is the same in every run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from graphsplit.detection.pictures import source_name
from graphsplit.detection.sources import is_live
from graphsplit.errors import FormatError

__all__ = ["Item", "inventory"]


@dataclass(frozen=True, slots=True)
class Item:
    """One source: a file that should be an image or a video.

    Attributes:
        name: As rows name it: the path as it was passed; of a file in a folder, the folder and the path in it.
        path: Its absolute path.
    """

    name: str
    path: str


def inventory(inputs: Iterable[str | PathLike[str]], *, out: str | PathLike[str] | None = None) -> tuple[Item, ...]:
    """List the sources of a batch, in the order of the inputs, those of a folder sorted by path.

    A file that occurs twice, through a link or in two inputs, is one source, with the first name. Nothing is opened: every
    file of a folder is a source, and is rejected later if it is neither an image nor a video.

    Args:
        inputs: Images, videos, and folders of them (including subfolders, but nothing whose name begins with a dot).
        out: A folder whose files are not sources, even if it is inside an input.

    Raises:
        FormatError: for an input that does not exist, a folder without files, and a camera or stream.
    """
    target = None if out is None else os.path.realpath(out)
    items: dict[str, Item] = {}
    for passed in inputs:
        text = os.fspath(passed)
        if is_live(text):
            raise FormatError("a batch takes files and folders; `graphsplit detect` takes cameras and streams", path=text)
        if not text:
            raise FormatError("'' is not an input; name an image, a video or a folder")
        for path in _files(Path(text), target):
            real = os.path.realpath(path)
            items.setdefault(real, Item(source_name(path), real))
    return tuple(items.values())


def _files(path: Path, out: str | None) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.exists():
        raise FormatError("no such file or folder", path=path)
    if not path.is_dir():
        raise FormatError("neither a file nor a folder", path=path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)) and not _inside(p, out))
    if not files:
        raise FormatError("no files in this folder", path=path)
    yield from files


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _inside(path: Path, folder: str | None) -> bool:
    return folder is not None and os.path.realpath(path).startswith(os.path.join(folder, ""))
