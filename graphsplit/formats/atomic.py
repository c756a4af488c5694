"""Files and folders that are written whole or not at all, and only where nothing is lost."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from graphsplit.errors import FormatError, GraphSplitError, OverwriteError

__all__ = ["Staging", "check_folder", "check_free", "check_not_source", "check_parent", "landing", "whole_file"]

AnyPath = str | PathLike[str]

_SHOWN = 3  # paths in a message


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
    if there and not overwrite:
        replaces = f"overwrite=True replaces {'them' if len(there) > 1 else 'it'}"
        names = ", ".join(map(str, there[:_SHOWN])) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
        raise OverwriteError(f"{names} {'exist' if len(there) > 1 else 'exists'} already; {then or replaces}", paths=there)


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
    if not overwrite and (held := sorted(p.name for p in folder.iterdir())):
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
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name only when all went well; an existing file is replaced then.

        with whole_file(path) as file:
            file.write(data)

    Raises:
        FormatError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _reported(path):
        try:
            # open(…, "xb") applies the user's umask; tempfile would set 0600.
            with open(temporary, "xb") as file:
                yield file
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()


@contextmanager
def landing(target: Path) -> Iterator[Path]:
    """A place to write a file or folder to, which takes the place of `target` when all went well.

        with landing(target) as place:
            write_saved_model(model, place)

    Folders above the target are created. When anything fails, what was there before is there again.

    Raises:
        FormatError: It cannot be written.
    """
    staging = Staging(target.parent)
    with _reported(target):
        try:
            yield staging.place(target)
            staging.keep()
        finally:
            staging.drop()


class Staging:
    """Files and folders that are written aside and take their places together, or not at all.

        staging = Staging(folder)
        write(staging.place(folder / "a.json"))
        staging.keep()                          # or staging.drop()

    Args:
        folder: Where they are written meanwhile, in a hidden folder; on the file system of the targets.
    """

    def __init__(self, folder: Path) -> None:
        self._work = folder / f".graphsplit.{secrets.token_hex(4)}.tmp"
        self._targets: list[Path] = []
        self._created = _missing(folder)

    def place(self, target: Path) -> Path:
        """Where to write what goes to `target`; of the same name, since encoders go by it. Raises FormatError."""
        place = self._new(len(self._targets), target)
        with _reported(target):
            place.parent.mkdir(parents=True)
        self._targets.append(target)
        return place

    def keep(self) -> None:
        """Move everything into place, or, when anything fails, nothing. Raises FormatError."""
        for number, target in enumerate(self._targets):
            with _reported(target):
                os.lstat(self._new(number, target))  # so that, below, one that is gone has been moved
        for number, target in enumerate(self._targets):
            with _reported(target):
                try:
                    self._move(number, target)
                except BaseException:
                    self._put_back()
                    self.drop()
                    raise
        self._created = []
        self.drop()

    def drop(self) -> None:
        """Remove what was written and has not been kept."""
        shutil.rmtree(self._work, ignore_errors=True)
        for folder in self._created:
            with suppress(OSError):  # somebody else may have put something in
                folder.rmdir()

    def _new(self, number: int, target: Path) -> Path:
        return self._work / f"{number}.new" / target.name

    def _before(self, number: int) -> Path:
        return self._work / f"{number}.before"

    def _move(self, number: int, target: Path) -> None:
        place = self._new(number, target)
        self._created = [*_missing(target.parent), *self._created]
        target.parent.mkdir(parents=True, exist_ok=True)
        # A single file replaces a file in one step; everything else is moved aside first, to be put back.
        if os.path.lexists(target) and (len(self._targets) > 1 or place.is_dir()):
            os.replace(target, self._before(number))
        os.replace(place, target)

    def _put_back(self) -> None:
        # What has been done is read off the folders, so that it does not matter between which two steps the failure came.
        for number, target in enumerate(self._targets):
            place, before = self._new(number, target), self._before(number)
            with suppress(OSError):
                if not os.path.lexists(place) and (len(self._targets) > 1 or target.is_dir()):
                    os.replace(target, place)
                if os.path.lexists(before):
                    os.replace(before, target)


def _missing(folder: Path) -> list[Path]:
    """The folders that would have to be created for `folder` to be there, the innermost first."""
    return [p for p in (folder, *folder.parents) if not p.exists()]


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, GraphSplitError):  # an OverwriteError is a FileExistsError
            raise
        raise FormatError(f"cannot be written: {error.strerror or error}", path=path) from error
