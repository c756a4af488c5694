"""The finished parts of a batch, one per line.

A line is appended after its part took its name, and an incomplete last line is dropped: what the journal lists exists, what it
does not list is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from graphsplit.batching.events import Reject
from graphsplit.errors import FormatError, OverwriteError
from graphsplit.version import VERSION

__all__ = ["JOURNAL", "Done", "Journal"]

JOURNAL = "batch.journal"
_SCHEMA = 1
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Done:
    """A finished part.

    Attributes:
        part: Its number.
        file: The name of its file; None if no frame of its sources could be answered.
        frames: The number of rows in it.
        sources: Names of its sources, including rejected ones.
        rejects: What was rejected.
    """

    part: int
    file: str | None
    frames: int
    sources: list[str]
    rejects: list[Reject]


@dataclass(frozen=True, slots=True)
class _Head:
    """The first line."""

    graphsplit: str
    schema: int
    settings: dict[str, object]


def _problem(done: Done) -> str:
    """What no run has written."""
    if done.part < 0 or done.frames < 0:
        return f"part {done.part} of {done.frames} frames"
    if done.file is not None and (not done.file or Path(done.file).name != done.file):
        return f"the file {done.file!r}, which is not in the folder"
    return ""


class Journal:
    """The journal of a folder, open and locked.

    Args:
        folder: The folder of the batch.
        settings: What rows depend on, as JSON.
        resume: Whether there may be finished parts.

    Attributes:
        path: Of the file.
        done: The finished parts, in the order in which they were finished.

    Raises:
        OverwriteError: while another run writes into the folder, and for finished parts if `resume` is not set.
        FormatError: for a journal with other settings (which are named) or of a later version, and for another or a damaged file
            (with the line and what is wrong in it).
    """

    def __init__(self, folder: Path, settings: Mapping[str, object], *, resume: bool = False) -> None:
        self.path = folder / JOURNAL
        self._file = open(self.path, "a+b")  # noqa: SIM115
        try:
            _lock(self._file, folder)
            self.done = self._read(dict(settings))
            if self.done and not resume:
                raise OverwriteError(f"{folder} holds the results of a batch; resume=True continues it", paths=[folder])
        except BaseException as error:
            with suppress(OSError):  # it may hold what a full disk did not take
                self._file.close()
            if isinstance(error, OSError) and error.errno is not None:  # not one of this package
                with suppress(OSError):
                    self._remove_empty()
            raise

    def _remove_empty(self) -> None:
        """Remove a journal of which not even the first line could be written."""
        if b"\n" not in self.path.read_bytes():
            self.path.unlink()

    def _read(self, settings: dict[str, object]) -> list[Done]:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]  # without a line that a killed run left incomplete
        lines = whole.splitlines()
        if not lines:
            if content and not content.startswith(b'{"graphsplit"'[: len(content)]):
                raise FormatError("not the journal of a batch", path=self.path)
            return self._begin(settings)
        head = self._decoded(1, lines[0], _Head)
        if head.schema != _SCHEMA:
            raise FormatError(f"schema {head.schema} of a later version; this version reads schema {_SCHEMA}", path=self.path)
        done = [self._decoded(number, line, Done) for number, line in enumerate(lines[1:], 2)]
        seen: set[int] = set()
        for number, part in enumerate(done, 2):
            problem = _problem(part) or (f"part {part.part} a second time" if part.part in seen else "")
            if problem:
                raise FormatError(f"line {number}: not the journal of a batch, or a damaged one: {problem}", path=self.path)
            seen.add(part.part)
        if not done:  # killed before there was anything to continue
            return self._begin(settings)
        before = head.settings
        differing = [
            f"{key}: {before.get(key)} then, {settings.get(key)} now"
            for key in dict.fromkeys((*before, *settings))
            if before.get(key) != settings.get(key)
        ]
        if differing:
            listed = "; ".join(differing)
            raise FormatError(f"begun with other settings ({listed}): use those, or another folder", path=self.path)
        self._file.truncate(len(whole))
        return done

    def _begin(self, settings: dict[str, object]) -> list[Done]:
        self._file.truncate(0)
        self._append({"graphsplit": VERSION, "schema": _SCHEMA, "settings": settings})
        return []

    def _decoded(self, number: int, line: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"line {number}: not the journal of a batch, or a damaged one: {error}", path=self.path) from error

    def add(self, done: Done) -> None:
        """Record a finished part."""
        self._append(asdict(done))
        self.done.append(done)

    def _append(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and release the lock. May be called twice."""
        self._file.close()


def _lock(file: BinaryIO, folder: Path) -> None:
    """Lock the journal until it is closed; the system releases the lock of a killed process."""
    try:
        import fcntl
    except ImportError:  # Windows: a second run is not kept out
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OverwriteError(f"{folder}: another run is writing there", paths=[folder]) from error
