"""Images on their way in: a source that yields them, and what it reports about files that it cannot read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from graphsplit.errors import FormatError
from graphsplit.runtimes.arrays import Array

__all__ = ["Notice", "Picture", "Report", "Source", "reason_of", "source_name"]


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
        id: Its `Picture.source`; of a folder, the part that its files share.
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
    id: str = ""
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


def source_name(path: str | PathLike[str]) -> str:
    """A path as rows name it: normalised, with / as separator, bytes that are not UTF-8 escaped."""
    return os.fsencode(Path(os.path.normpath(path)).as_posix()).decode("utf-8", "backslashreplace")


def reason_of(error: Exception) -> str:
    """The message of an error on one line, without the path that it is about."""
    message = str(error)
    if isinstance(error, FormatError) and error.path:
        message = message.removeprefix(f"{error.path}: ")
    return " ".join(message.split()) or type(error).__name__
