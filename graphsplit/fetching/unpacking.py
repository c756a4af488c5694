"""Archives as folders: plain files and folders only, none outside of the folder, bounded in number and size.

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
    """Unpack a tar or zip archive, whole or not at all.

    Args:
        archive: The archive.
        folder: A folder that does not exist yet, or is empty.
        name: Name of a top-level folder that is left out if all members are in it.

    Returns:
        `folder`.

    Raises:
        FormatError: The file is not an archive, is damaged, or has members outside of the folder.
        OverwriteError: The folder holds something.
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
            raise FormatError(f"{info.filename[:200]!r} in the archive is a link or a device", path=archive)
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
            raise FormatError(f"{info.name[:200]!r} in the archive is a link or a device", path=archive)


def _write(members: Iterator[Member], work: Path, archive: Path) -> None:
    total = 0
    for number, (name, is_folder, size, content) in enumerate(members):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or (path.parts and ":" in path.parts[0]):
            raise FormatError(f"{name[:200]!r} in the archive is outside of the folder", path=archive)
        total += size
        if number >= _MOST_FILES or total > _MOST_BYTES:
            raise FormatError(f"the archive is too large (more than {_MOST_FILES:,} files or {_MOST_BYTES:,} bytes)", path=archive)
        target = work.joinpath(*path.parts)
        try:
            if is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                _copy(content, out, size, name, archive)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise FormatError(f"{name[:200]!r} is in the archive twice", path=archive) from error


def _copy(content: IO[bytes] | None, out: IO[bytes], size: int, name: str, archive: Path) -> None:
    """Copy no more than the archive states: a small one may expand without end."""
    left = size
    while content is not None and left > 0 and (block := content.read(min(_BLOCK, left))):
        left -= len(block)
        out.write(block)
    if left or (content is not None and content.read(1)):
        raise FormatError(f"{name[:200]!r} in the archive does not have the stated {size:,} bytes", path=archive)
