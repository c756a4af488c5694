"""The file of a model at one moment: its bytes in memory, and what tells whether it has changed since.

A mapping would cost no copy, but the process dies by SIGBUS when the file is truncated, and a file that is overwritten changes the
model after its checksum was computed.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from io import FileIO
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import overload

from graphsplit.errors import FormatError
from graphsplit.formats.locks import Handle

__all__ = ["FileBytes", "FileRange", "FileView", "SourceFile", "read_source", "sum_source"]

_BLOCK = 2**20  # bytes read at once
_PAGE = 2**12  # bytes read to look at one
_TICK = 50_000_000  # nanoseconds within which two changes of a file may get the same time
_CHANGED = "changed while it was read; try again when nothing writes to it"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """The file that a model was read from.

    Attributes:
        path: Of the file.
        state: Size, identity and times of the last changes, in nanoseconds, when it was opened.
        opened: When that was, in nanoseconds.
        sha256: Of its bytes, for a model that has other bytes; None: the bytes of the model are those of the file.
    """

    path: Path
    state: tuple[int, ...]
    opened: int
    sha256: str | None = None

    @property
    def is_recent(self) -> bool:
        """Whether a change right after it was opened might not show in the times."""
        return self.opened - self.state[-1] < _TICK

    def summed(self, data: bytes | mmap.mmap) -> SourceFile:
        """The same, with the checksum of what was read."""
        return replace(self, sha256=hashlib.sha256(data).hexdigest())

    def check(self, sha256: str) -> None:
        """Refuse a file whose content is no longer what was read. One that was removed or moved away is accepted.

        Args:
            sha256: The checksum of what was read.

        Raises:
            FormatError: The file has another checksum now.
        """
        try:
            if _state(os.stat(self.path)) == self.state and not self.is_recent:
                return
            now = sum_source(self.path).sha256
        except OSError:
            return
        if now != sha256:
            what = f"checksum {sha256[:16]}…, now {str(now)[:16]}…"
            raise FormatError(f"changed after it was read ({what}); try again when nothing writes to it", path=self.path)


class FileBytes:
    """The bytes of a file, of which some stretches stay in the file and are read again each time.

    Args:
        path: Of the file.
        check: Called with the size, before memory is allocated.

    Attributes:
        data: As long as the file; zeros where it was not loaded.
        source: The file, as it was when it was opened.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, check: Callable[[int], None]) -> None:
        self._handle = Handle(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.source = _opened(path, self._handle.number)
        size = self.source.state[0]
        check(size)
        self.data: bytes | mmap.mmap = mmap.mmap(-1, size) if size else b""
        self._gaps: list[tuple[int, int]] = []
        self._seeking = Lock()

    def load(self, start: int, stop: int) -> None:
        """Load a stretch into memory. Raises FormatError if the file has changed since it was opened."""
        for at in range(start, stop, _BLOCK):
            end = min(stop, at + _BLOCK)
            self.data[at:end] = self._read(at, end)  # type: ignore[index]  # bytes only where there is nothing to load

    def leave(self, gaps: Iterable[tuple[int, int]]) -> None:
        """Note which stretches have not been loaded, in order. Raises FormatError if the file has changed since it was opened."""
        self._gaps += gaps
        if self._gaps and self.source.is_recent:
            time.sleep(_TICK / 1e9)
        self._check()
        if not self._gaps:
            self._handle.close()

    def range(self, start: int = 0, stop: int | None = None) -> FileRange:
        """The bytes between two positions."""
        return FileRange(self, start, len(self.data) if stop is None else stop)

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes between two positions, in blocks. Any thread may ask.

        Raises:
            FormatError: The file has changed since it was opened.
            OSError: It cannot be read.
        """
        view = memoryview(self.data).toreadonly()
        for low, high in self._gaps[bisect_right(self._gaps, start, key=itemgetter(1)) :]:
            if low >= stop:
                break
            if start < low:
                yield view[start:low]
                start = low
            for at in range(start, min(high, stop), _BLOCK):
                yield memoryview(self._read(at, start := min(at + _BLOCK, high, stop)))
        if start < stop:
            yield view[start:stop]

    def _read(self, start: int, stop: int) -> bytes:
        if hasattr(os, "pread"):
            data = os.pread(self._handle.number, stop - start, start)
        else:  # Windows
            with self._seeking:
                os.lseek(self._handle.number, start, os.SEEK_SET)
                data = os.read(self._handle.number, stop - start)
        self._check()
        if len(data) < stop - start:
            raise FormatError(_CHANGED, path=self.source.path)
        return data

    def _check(self) -> None:
        # Renaming or removing a file changes its ctime, the last of these, and leaves the content alone.
        if _state(os.fstat(self._handle.number))[:-1] != self.source.state[:-1]:
            raise FormatError(_CHANGED, path=self.source.path)


@dataclass(frozen=True, slots=True)
class FileRange:
    """The bytes of a file between two positions."""

    file: FileBytes
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def blocks(self) -> Iterator[memoryview]:
        """The bytes, see `FileBytes.blocks`."""
        return self.file.blocks(self.start, self.stop)

    def __bytes__(self) -> bytes:
        return b"".join(self.blocks())


class FileView:
    """A file by position, of which only what is looked at is read.

    Args:
        file: The file, open without a buffer.
        path: Of the file, for errors.
    """

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file, self._path, self._size = file, path, os.fstat(file.fileno()).st_size
        self._page, self._at = b"", 0

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int, /) -> int: ...
    @overload
    def __getitem__(self, at: slice, /) -> bytes: ...

    def __getitem__(self, at: int | slice, /) -> int | bytes:
        if isinstance(at, slice):
            start, stop, _ = at.indices(self._size)
            return self._read(start, max(0, stop - start))
        place = at - self._at
        if not 0 <= place < len(self._page):
            if not 0 <= at < self._size:
                raise IndexError(at)
            self._at, place = at, 0
            self._page = self._read(at, min(_PAGE, self._size - at))
        return self._page[place]

    def _read(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(count)
        if len(data) < count:
            raise FormatError(_CHANGED, path=self._path)
        return data


def read_source(path: Path) -> tuple[bytes | mmap.mmap, SourceFile]:
    """Read a whole file.

    Raises:
        FormatError: It changed meanwhile, or is larger than the memory of this machine.
        OSError: It cannot be read.
    """

    def check(size: int) -> None:
        if size > _memory():
            raise FormatError(f"{size:,} bytes do not fit into the memory of this machine", path=path)

    file = FileBytes(path, check)
    file.load(0, len(file.data))
    file.leave(())
    return file.data, file.source


def sum_source(path: Path) -> SourceFile:
    """Compute the checksum of a file. Raises FormatError if it changed meanwhile, OSError if it cannot be read."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        source = _opened(path, file.fileno())
        while block := file.read(_BLOCK):
            total.update(block)
        if _state(os.fstat(file.fileno()))[:-1] != source.state[:-1]:
            raise FormatError(_CHANGED, path=path)
    return replace(source, sha256=total.hexdigest())


def _opened(path: Path, number: int) -> SourceFile:
    return SourceFile(path, _state(os.fstat(number)), time.time_ns())


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_ino, status.st_dev, status.st_mtime_ns, status.st_ctime_ns


def _memory() -> int:
    """Bytes of memory of this machine; where the system does not say, no bound."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**63
