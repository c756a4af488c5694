"""Archives as folders: plain files and folders only, none outside of the folder, bounded in number and size.

Archives come from the network. Links, devices, sparse and encrypted members, absolute paths and ``..`` are refused, not repaired;
what a header states is checked before it is read.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import secrets
import shutil
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from graphsplit.errors import FormatError
from graphsplit.formats.atomic import check_folder

__all__ = ["unpack"]

_MOST_FILES = 20_000
_MOST_BYTES = 16 * 2**30
_BLOCK = 1 << 20
_MOST_RATIO = 200  # bytes unpacked for each of the archive; weights hardly shrink
_FEW = 64 * 2**20  # bytes for which no ratio is asked
_MOST_HEADER = 1 << 20  # bytes that describe a member of a tar archive
_MOST_DIRECTORY = 16 * 2**20  # bytes of the list at the end of a zip archive
_DEEPEST = 64  # folders inside one another


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
    except FormatError:  # a ValueError, too
        raise
    except _DAMAGED as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(f"a damaged archive: {what}", path=archive) from error
    except OSError as error:
        raise FormatError(f"cannot be unpacked: {error.strerror or error}", path=archive) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


Member = tuple[str, bool, int, "IO[bytes] | None"]  # name, whether a folder, bytes, content


# RecursionError is a RuntimeError: tarfile follows headers of headers.
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, struct.error, EOFError, ValueError,
    NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip


class _Stream:
    """An unpacked tar archive, of which only so much may be read at once.

    Attributes:
        left: Bytes that may be read before it is set again; what tarfile reads of a header it keeps in memory.
    """

    def __init__(self, opened: IO[bytes], archive: Path) -> None:
        self._opened, self._archive = opened, archive
        self._most = _most_bytes(archive) + _MOST_FILES * _MOST_HEADER
        self.left = _MOST_HEADER

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.left:
            raise FormatError(f"a header in the archive is too large (more than {_MOST_HEADER:,} bytes)", path=self._archive)
        self.left -= size
        return self._opened.read(size)

    def seek(self, place: int) -> int:
        if place > self._most:
            raise _too_large(self._archive)
        return self._opened.seek(place)

    def tell(self) -> int:
        return self._opened.tell()


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    with archive.open("rb") as raw:
        begin = raw.read(6)
        raw.seek(0)
        if begin.startswith(b"PK"):
            _check_directory(raw, archive)
            with zipfile.ZipFile(raw) as opened:
                yield _of_zip(opened, archive)
            return
        with _unpacked(raw, begin) as unpacked:
            try:
                first = unpacked.read(512)
                unpacked.seek(0)
            except OSError as error:
                raise FormatError(f"a damaged archive: {error}", path=archive) from error
            if len(first) < 512 or (first[257:262] != b"ustar" and not _is_old_tar(first)):
                raise FormatError("neither a tar nor a zip archive", path=archive)
            stream = _Stream(unpacked, archive)
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as tar:
                yield _of_tar(tar, stream, archive)


def _unpacked(raw: IO[bytes], begin: bytes) -> IO[bytes]:
    if begin.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if begin.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(raw))
    if begin.startswith(b"\xfd7zXZ\0"):
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    return raw


def _is_old_tar(block: bytes) -> bool:
    """Whether a block is the header of a tar archive of before 1988, which has nothing but a sum to know it by."""
    try:
        return tarfile.nti(block[148:156]) in tarfile.calc_chksums(block)  # type: ignore[attr-defined]
    except tarfile.TarError:
        return False


def _check_directory(raw: IO[bytes], archive: Path) -> None:
    """Refuse a zip archive whose list of members is too large to be read (PK 5 6: APPNOTE.TXT, 4.3.16)."""
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, size - 65_557))
    tail = raw.read()
    at = tail.rfind(b"PK\5\6")
    raw.seek(0)
    if at < 0 or len(tail) < at + 16:
        raise FormatError("a damaged archive: its list of members is missing", path=archive)
    (length,) = struct.unpack_from("<I", tail, at + 12)
    if length > _MOST_DIRECTORY:
        raise _too_large(archive)


def _most_bytes(archive: Path) -> int:
    """How many bytes may come out of an archive."""
    return min(_MOST_BYTES, max(_FEW, _MOST_RATIO * archive.stat().st_size))


def _too_large(archive: Path) -> FormatError:
    return FormatError(
        f"the archive is too large (more than {_MOST_FILES:,} files, {_MOST_BYTES:,} bytes, or {_MOST_RATIO} times its own size)",
        path=archive,
    )


def _of_zip(opened: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in opened.infolist():
        kind = (info.external_attr >> 16) & 0o170000
        if kind not in (0, 0o100000, 0o040000):
            raise FormatError(f"{info.filename[:200]!r} in the archive is a link or a device", path=archive)
        if not info.filename:
            raise FormatError("a member of the archive has no name", path=archive)
        if info.flag_bits & 1:
            raise FormatError(f"{info.filename[:200]!r} in the archive is encrypted", path=archive)
        if info.is_dir():
            yield info.filename, True, 0, None
        else:
            with opened.open(info) as content:
                yield info.filename, False, info.file_size, content


def _of_tar(opened: tarfile.TarFile, stream: _Stream, archive: Path) -> Iterator[Member]:
    stream.left = _MOST_HEADER
    while (info := opened.next()) is not None:
        stream.left = info.size + _MOST_HEADER
        if info.isdir():
            yield info.name, True, 0, None
        elif info.issparse():
            raise FormatError(f"{info.name[:200]!r} in the archive is a sparse file", path=archive)
        elif info.isfile():
            yield info.name, False, info.size, opened.extractfile(info)
        else:
            raise FormatError(f"{info.name[:200]!r} in the archive is a link or a device", path=archive)
        stream.left = _MOST_HEADER


def _write(members: Iterator[Member], work: Path, archive: Path) -> None:
    total = 0
    most = _most_bytes(archive)
    plain: dict[str, PurePosixPath] = {}  # names as a file system that ignores case compares them
    for number, (name, is_folder, size, content) in enumerate(members):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or (path.parts and ":" in path.parts[0]):
            raise FormatError(f"{name[:200]!r} in the archive is outside of the folder", path=archive)
        if len(path.parts) > _DEEPEST or any(len(part.encode(errors="replace")) > 255 for part in path.parts):
            raise FormatError(f"{name[:200]!r} in the archive has too long a name or too many folders", path=archive)
        for ancestor in (path, *path.parents):
            other = plain.setdefault(unicodedata.normalize("NFC", str(ancestor)).casefold(), ancestor)
            if other != ancestor:
                raise FormatError(
                    f"{str(other)[:200]!r} and {str(ancestor)[:200]!r} in the archive differ in case only", path=archive
                )
        total += size
        if number >= _MOST_FILES or total > most:
            raise _too_large(archive)
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
