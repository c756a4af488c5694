"""Files and folders that are written whole or not at all, and only where nothing is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from graphsplit.errors import FormatError, OverwriteError
from graphsplit.formats.staging import Staging, check_absent, is_leftover
from graphsplit.formats.switch import LITTER, reported

__all__ = ["Staging", "check_folder", "check_free", "check_not_source", "check_parent", "landing", "whole_file"]

AnyPath = str | PathLike[str]


# whether something may be written


def check_free(
    paths: Iterable[AnyPath], *, sources: Iterable[AnyPath] = (), overwrite: bool = False, then: str | None = None
) -> None:
    """Refuse to replace files that nobody asked to replace.

    Args:
        paths: The files to write.
        sources: What is read to write them.
        overwrite: Whether existing files may be replaced.
        then: What to do about a file that exists, for the message; by default, to set `overwrite`.

    Raises:
        OverwriteError: A path is one of the sources, is a folder, or exists although `overwrite` is not set.
    """
    files = [Path(p) for p in paths]
    check_not_source(files, sources)
    there = [p for p in files if os.path.lexists(p)]
    for path in there:
        if path.is_dir():
            raise OverwriteError(f"{path} is a folder; name a file, or move it away", paths=[path])
    if not overwrite:
        check_absent((p for p in there if not is_leftover(p)), then=then)


def check_folder(path: AnyPath, *, overwrite: bool = True, then: str = "name another folder") -> None:
    """Refuse to write a folder where there cannot be one.

    Args:
        path: The folder to write into.
        overwrite: Whether it may hold something already.
        then: What to do about one that holds something, for the message.

    Raises:
        OverwriteError: A file or a dangling link is there, or the folder is not empty although `overwrite` is not set.
    """
    folder = Path(path)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        what = "a link to nothing" if folder.is_symlink() and not folder.exists() else "a file"
        raise OverwriteError(f"{folder} is {what}; name a folder", paths=[folder])
    held = [] if overwrite else sorted(p.name for p in folder.iterdir() if not LITTER.fullmatch(p.name))
    if held and not is_leftover(folder):
        raise OverwriteError(f"{folder} is not empty ({held[0]}); {then}", paths=[folder])


def check_parent(path: AnyPath) -> None:
    """Refuse a file in a folder that does not exist. Raises FormatError."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FormatError(f"there is no folder {folder}; create it first", path=path)


def check_not_source(paths: Iterable[AnyPath], sources: Iterable[AnyPath]) -> None:
    """Refuse to write over what is read, also where links lead there. Raises OverwriteError."""
    read = {identity for source in sources if (identity := _identity(source)) is not None}
    for path in paths if read else ():
        if _identity(path) in read:
            raise OverwriteError(f"{path} is the source itself; name another place", paths=[path])


def _identity(path: AnyPath) -> tuple[int, int] | None:
    """What a path leads to; None where nothing is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


# writing


@contextmanager
def whole_file(path: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name only when all went well.

        with whole_file(path) as file:
            file.write(data)

    Args:
        path: Of the file, in an existing folder.
        overwrite: Whether a file that exists by then is replaced.

    Raises:
        FormatError: The file cannot be written.
        OverwriteError: It exists, and `overwrite` is not set.
    """
    with reported(path):
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    # open(…, "xb") applies the user's umask; tempfile would set 0600.
    with landing(path, overwrite=overwrite) as place, open(place, "xb") as file:
        yield file


@contextmanager
def landing(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A place to write a file or folder to, which takes the place of `target` when all went well.

        with landing(target) as place:
            write_saved_model(model, place)

    Folders above the target are created. When anything fails, what was there before is there again.

    Args:
        target: The file or folder.
        overwrite: Whether what exists by then is replaced.

    Raises:
        FormatError: It cannot be written.
        OverwriteError: It exists, and `overwrite` is not set.
    """
    staging = Staging(target.parent, overwrite=overwrite)
    with reported(target):
        try:
            yield staging.place(target)
            staging.keep()
        finally:
            staging.drop()
