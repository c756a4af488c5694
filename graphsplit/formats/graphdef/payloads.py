"""A GraphDef file in memory, except for the payloads of large constants: those are read when they are copied.

node = 1 ─▶ attr = 5 ─▶ value = 2 ─▶ tensor = 8 ─▶ tensor_content = 4, float_val = 5, …   stays in the file where it is large
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef.wire import BYTES, WireError, fields
from graphsplit.formats.source import FileBytes

__all__ = ["check_size", "open_payloads"]

_LIMIT = 2**31  # protobuf: no message of 2 GiB or more
_SMALL = 2**24  # bytes of a file that is read whole
_LARGE = 2**16  # bytes of a payload that is left out
_AHEAD = 2**14  # bytes read at once
_TAG = 20  # bytes of a tag and a length, at most
_WAY = (1, 5, 2, 8)
_TENSOR_SHAPE = 2


def check_size(size: int, path: Path | None) -> None:
    """Refuse a GraphDef of more bytes than protobuf allows. Raises FormatError."""
    if size >= _LIMIT:
        raise FormatError(f"{size:,} bytes: a GraphDef of 2 GiB or more cannot be one protobuf message", path=path)


def open_payloads(path: Path) -> FileBytes:
    """Read a file; from a large one, all but the payloads of large constants.

    Raises:
        FormatError: It has 2 GiB or more, or changed while it was read.
        OSError: It cannot be read.
    """
    file = FileBytes(path, lambda size: check_size(size, path))
    size = len(file.data)
    if size <= _SMALL:
        file.load(0, size)
        file.leave(())
        return file
    outline = _Outline(file)
    with suppress(WireError):  # the walk over the nodes comes to the same bytes, and says what is wrong with them
        outline.read(0, size, 0)
    file.leave(outline.gaps)
    return file


class _Outline:
    """Reads a file from its beginning to its end, except for gaps."""

    def __init__(self, file: FileBytes) -> None:
        self.gaps: list[tuple[int, int]] = []
        self._file, self._size, self._end = file, len(file.data), 0

    def read(self, start: int, stop: int, depth: int) -> None:
        """Read a message; `depth` says how far along the way from a GraphDef to a tensor it is."""
        self._reach(start + _TAG)
        for number, wire, _, low, high in fields(self._file.data, start, stop):
            if high - low <= _LARGE or wire != BYTES:
                self._reach(high + _TAG)
            elif depth < len(_WAY) and number == _WAY[depth]:
                self.read(low, high, depth + 1)
            elif depth < len(_WAY) or number == _TENSOR_SHAPE:
                self._reach(high + _TAG)
            else:
                if self._end < high:
                    self.gaps.append((max(low, self._end), high))
                    self._end = high
                self._reach(high + _TAG)

    def _reach(self, end: int) -> None:
        if end > self._end:
            stop = min(max(end, self._end + _AHEAD), self._size)
            self._file.load(self._end, stop)
            self._end = stop
