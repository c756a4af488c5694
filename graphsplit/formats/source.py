"""The file of a model at one moment: its bytes in memory, and what tells whether it has changed since.

A mapping would cost no copy, but the process dies by SIGBUS when the file is truncated, and a file that is overwritten changes the
model after its checksum was computed.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from graphsplit.errors import FormatError
from graphsplit.formats.locks import Handle

__all__ = ["FileBytes", "SourceFile", "read_source", "sum_source"]

_BLOCK = 2**24  # bytes read at once
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
    """The bytes of a file in memory, of which stretches may be read later.

    Args:
        path: Of the file.
        check: Called with the size, before memory is allocated.

    Attributes:
        data: As long as the file; zeros where nothing has been read yet.
        source: The file, as it was when it was opened.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, check: Callable[[int], None]) -> None:
        self._handle = Handle(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._file = open(self._handle.number, "rb", buffering=0, closefd=False)  # noqa: SIM115 (the handle closes it)
        self.source = _opened(path, self._handle.number)
        size = self.source.state[0]
        check(size)
        self.data: bytes | mmap.mmap = mmap.mmap(-1, size) if size else b""
        self._gaps: tuple[tuple[int, int], ...] = ()
        self._lock = Lock()

    def read(self, start: int, stop: int) -> None:
        """Read a stretch. Raises FormatError if the file is shorter by now."""
        self._file.seek(start)
        with memoryview(self.data) as view:
            while start < stop:
                count = self._file.readinto(view[start : min(stop, start + _BLOCK)])
                if not count:
                    raise FormatError(_CHANGED, path=self.source.path)
                start += count

    def leave(self, gaps: Sequence[tuple[int, int]]) -> None:
        """Note that all but some stretches has been read. Raises FormatError if the file has changed since it was opened."""
        if gaps and self.source.is_recent:
            time.sleep(_TICK / 1e9)
        self._check()
        self._gaps = tuple(gaps)
        if not gaps:
            self._handle.close()

    def complete(self, start: int = 0, stop: int | None = None) -> None:
        """Read the gaps, if there are any between two positions. Any thread may ask.

        Raises:
            FormatError: The file has changed since it was opened.
            OSError: It cannot be read.
        """
        if any(low < (high if stop is None else stop) and start < high for low, high in self._gaps):
            with self._lock:
                for low, high in self._gaps:
                    self.read(low, high)
                if self._gaps:
                    self._check()
                    self._gaps = ()
                    self._handle.close()

    def _check(self) -> None:
        # Renaming or removing a file changes its ctime, the last of these, and leaves the content alone.
        if _state(os.fstat(self._handle.number))[:-1] != self.source.state[:-1]:
            raise FormatError(_CHANGED, path=self.source.path)


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
    file.read(0, len(file.data))
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
