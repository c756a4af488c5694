"""An archive as a folder: plain files and folders only, nothing outside of it, not more than fits.

Archives come from the network. Links, devices, absolute paths and ``..`` are refused, not repaired.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from graphsplit.errors import FormatError
from graphsplit.formats.atomic import check_folder

__all__ = ["unpack"]

_MOST_FILES = 20_000
_MOST_BYTES = 16 * 2**30
_BLOCK = 1 << 20


def unpack(archive: Path, folder: Path, *, name: str) -> Path:
    """Unpack a tar or zip archive into a folder that is not there yet; written whole or not at all.

    name  a top-level folder that all members lie in is left out if it is called so

    Raises FormatError for what is no archive, is damaged, or wants to write elsewhere; OverwriteError.
    """
    check_folder(folder, overwrite=False)
    work = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    work.mkdir(parents=True)
    try:
        with _members(archive) as members:
            _write(members, work, archive)
        inner = work / name
        os.replace(inner if inner.is_dir() and len(list(work.iterdir())) == 1 else work, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise FormatError(f"a damaged archive: {' '.join(str(error).split()) or type(error).__name__}", path=archive) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


Member = tuple[str, bool, int, "IO[bytes] | None"]  # name, whether a folder, bytes, content


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield _of_zip(opened, archive)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield _of_tar(tar, archive)
    else:
        raise FormatError("neither a tar nor a zip archive", path=archive)


def _of_zip(opened: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in opened.infolist():
        kind = (info.external_attr >> 16) & 0o170000
        if kind not in (0, 0o100000, 0o040000):
            raise FormatError(f"{info.filename[:200]!r} in it is a link or a device", path=archive)
        if info.is_dir():
            yield info.filename, True, 0, None
        else:
            with opened.open(info) as content:
                yield info.filename, False, info.file_size, content


def _of_tar(opened: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    for info in opened:
        if info.isdir():
            yield info.name, True, 0, None
        elif info.isfile():
            yield info.name, False, info.size, opened.extractfile(info)
        else:
            raise FormatError(f"{info.name[:200]!r} in it is a link or a device", path=archive)


def _write(members: Iterator[Member], work: Path, archive: Path) -> None:
    total = 0
    for number, (name, is_folder, size, content) in enumerate(members):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or (path.parts and ":" in path.parts[0]):
            raise FormatError(f"{name[:200]!r} in it lies outside of the folder", path=archive)
        total += size
        if number >= _MOST_FILES or total > _MOST_BYTES:
            raise FormatError(f"too much in it (more than {_MOST_FILES:,} files or {_MOST_BYTES:,} bytes)", path=archive)
        target = work.joinpath(*path.parts)
        try:
            if is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                _copy(content, out, size, name, archive)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise FormatError(f"{name[:200]!r} is in it twice", path=archive) from error


def _copy(content: IO[bytes] | None, out: IO[bytes], size: int, name: str, archive: Path) -> None:
    """No more than was told: a small archive may hold endless zeros."""
    left = size
    while content is not None and left > 0 and (block := content.read(min(_BLOCK, left))):
        left -= len(block)
        out.write(block)
    if left or (content is not None and content.read(1)):
        raise FormatError(f"{name[:200]!r} in it has not the {size:,} bytes it is said to have", path=archive)
