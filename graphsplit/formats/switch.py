"""Several names of a folder, changed together or not at all, also when the process is killed.

    FOLDER/.graphsplit.1a2b3c4d.tmp               the journal: locked while its process lives, created first, removed last
           .graphsplit.1a2b3c4d.new.tmp/0.new/a   the new content of a
                                        0.before  the old one

    line 1 of the journal, before the first rename: {"targets": [[path, inode, whether it existed], …], "folders": [path, …]}
    line 2, after the last one:                     {"done": true}

The journal of a killed run is not locked. Without line 2 the old files are put back. With it the new ones remain; those that
did not exist before are leftovers: their run never reported success, so that they may be written again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats.locks import Handle

__all__ = ["LITTER", "Switch", "absolute", "killed", "missing", "reported", "start"]

#: Names of what a run keeps in a folder while it writes there.
LITTER = re.compile(r"\.graphsplit\.([0-9a-f]{8})(\.new)?\.tmp")

_LONGEST = 2**26  # bytes of a journal
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux
_CURRENT = -100  # AT_FDCWD


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an OSError into a FormatError that names the path, and so a path that no system takes (a NUL, a lone surrogate)."""
    try:
        yield
    except OSError as error:
        if isinstance(error, GraphSplitError):  # an OverwriteError is a FileExistsError
            raise
        raise FormatError(f"cannot be written: {error.strerror or error}", path=path) from error
    except ValueError as error:
        if isinstance(error, GraphSplitError) or not _is_impossible(path):
            raise
        raise FormatError(f"cannot be written: {error}", path=repr(str(path))) from error


def _is_impossible(path: Path) -> bool:
    """Whether no file can have this path."""
    try:
        return b"\0" in os.fsencode(path)
    except UnicodeEncodeError:
        return True


def absolute(path: Path) -> Path:
    """The path from the root, without ``..``; links are not followed."""
    return Path(os.path.abspath(path))


def missing(folder: Path) -> list[Path]:
    """The folders that would have to be created for `folder` to exist, the innermost first."""
    return [p for p in (folder, *folder.parents) if not p.exists()]


@dataclass(frozen=True, slots=True)
class _Line:
    """Line 1 of a journal; paths are relative to the folder."""

    targets: list[tuple[str, int, bool]]
    folders: list[str]


class Switch:
    """The journal of a run, of this one or of a killed one, and the folder with its files.

    Args:
        folder: Where they are.
        token: The eight digits in their names.
        handle: The journal, open and locked.
    """

    def __init__(self, folder: Path, token: str, handle: Handle) -> None:
        self.folder, self.handle = folder, handle
        self.journal, self.work = folder / f".graphsplit.{token}.tmp", folder / f".graphsplit.{token}.new.tmp"
        self._line: _Line | None = None
        self._done = self._outside = False

    def new(self, number: int, name: str) -> Path:
        """Where the new content of target `number` is written."""
        return self.work / f"{number}.new" / name

    def read(self) -> None:
        """Read the journal of a killed run. A line that was not finished does not count.

        Where a target is behind a link, which may lead out of the folder, everything is left as it is: whoever sent the folder
        may have written the journal.
        """
        import msgspec  # 15 ms, only for what there is to recover

        lines = os.read(self.handle.number, _LONGEST).split(b"\n")[:-1]
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if lines:
                line = msgspec.json.decode(lines[0], type=_Line)
                paths = [PurePosixPath(p) for p in (*(t for t, _, _ in line.targets), *line.folders)]
                if all(p.parts and not p.is_absolute() and ".." not in p.parts and "\0" not in str(p) for p in paths):
                    self._outside = any((self.folder / f).is_symlink() for p in paths for f in p.parents if f.parts)
                    if not self._outside:
                        self._line, self._done = line, len(lines) > 1

    @property
    def leftovers(self) -> frozenset[Path]:
        """Files and folders that a killed run finished and that did not exist before, as absolute paths."""
        if self._line is None or not self._done:
            return frozenset()
        new = ((absolute(self.folder / name), inode) for name, inode, was in self._line.targets if not was)
        return frozenset(path for path, inode in new if _inode(path) == inode)

    def perform(self, targets: Sequence[Path], again: Container[Path]) -> None:
        """Move everything into place; if that fails, nothing.

        Args:
            targets: Files and folders, whose new content is in `new`.
            again: Absolute paths of leftovers, which count as if they did not exist.

        Raises:
            FormatError: A target cannot be written.
        """
        places = [self.new(i, t.name) for i, t in enumerate(targets)]
        was = [os.path.lexists(t) and absolute(t) not in again for t in targets]
        if was == [True]:
            with reported(targets[0]):
                if _replace_at_once(places[0], targets[0]):
                    return
        base = absolute(self.folder)

        def relative(path: Path) -> str:
            return Path(os.path.relpath(path, base)).as_posix()

        entries = [(relative(t), os.lstat(p).st_ino, w) for t, p, w in zip(targets, places, was, strict=True)]
        line = _Line(entries, list(dict.fromkeys(relative(f) for t in targets for f in missing(t.parent))))
        try:
            self._append({"targets": line.targets, "folders": line.folders}, durable=any(was))
            self._line = line
            for number, (target, place) in enumerate(zip(targets, places, strict=True)):
                with reported(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if os.path.lexists(target):
                        os.replace(target, self._before(number))
                    os.replace(place, target)
            self._append({"done": True})
            self._done = True
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Put the old files back, unless all are new. What has been done is read off the folders. Raises OSError."""
        if self._line is None or self._done:
            return
        for number, (name, inode, _) in enumerate(self._line.targets):
            target, place, before = self._paths(number, name)
            if not os.path.lexists(place) and _inode(target) == inode:
                os.replace(target, place)
            if os.path.lexists(before) and not os.path.lexists(target):
                os.replace(before, target)
        for name in self._line.folders:
            with suppress(OSError):  # somebody else may have put something in
                (self.folder / name).rmdir()
        self._line = None

    def old(self) -> Iterator[tuple[str, Path]]:
        """Target → path of its old content, where that is elsewhere; for readers that may not undo. It may not exist."""
        for number, (name, inode, was) in enumerate(self._line.targets if self._line and not self._done else ()):
            target, place, before = self._paths(number, name)
            new = not os.path.lexists(place) and _inode(target) == inode
            if (new or not os.path.lexists(target)) and (os.path.lexists(before) or not was):
                yield name, before

    def remove(self) -> None:
        """Remove the folder and the journal, unless the old files could not be put back."""
        if not self._outside and (self._line is None or self._done):
            self.remove_work()
            with suppress(OSError):
                self.journal.unlink()

    def remove_work(self) -> None:
        """Remove the folder, and keep the journal."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _paths(self, number: int, name: str) -> tuple[Path, Path, Path]:
        target = self.folder / name
        return target, self.new(number, target.name), self._before(number)

    def _before(self, number: int) -> Path:
        return self.work / f"{number}.before"

    def _append(self, line: object, *, durable: bool = False) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(self.handle.number, data) :]
        if durable:
            os.fsync(self.handle.number)


def _inode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None


def _replace_at_once(place: Path, target: Path) -> bool:
    """Replace what exists in one step, if the system can: a file always, a folder on Linux. Raises OSError."""
    if place.is_symlink() or not place.is_dir():
        os.replace(place, target)
        return True
    import ctypes

    try:
        exchange = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = ctypes.c_int(_CURRENT)
    return int(exchange(here, os.fsencode(place), here, os.fsencode(target), ctypes.c_uint(_EXCHANGE))) == 0


def start(folder: Path) -> Switch:
    """Begin a journal in a folder. Raises OSError."""
    while True:
        token = secrets.token_hex(4)
        path = folder / f".graphsplit.{token}.tmp"
        switch = Switch(folder, token, Handle(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        if switch.handle.lock() and os.fstat(switch.handle.number).st_nlink:
            return switch
        # Before it was locked, another run has taken it for the journal of a killed one.
        switch.remove()
        switch.handle.close()


@contextmanager
def killed(folder: Path, *, shared: bool = False, foreign: bool = False) -> Iterator[list[Switch]]:
    """Lock what killed runs left in a folder.

    Args:
        folder: The folder.
        shared: With others that only look.
        foreign: Also what other users left. Their journals must never be obeyed: /tmp belongs to everybody.
    """
    try:
        names = sorted(n for n in os.listdir(folder) if (m := LITTER.fullmatch(n)) and not m[2])
    except (OSError, ValueError):
        names = []
    with ExitStack() as opened:
        switches = []
        for name in names:
            with suppress(OSError):
                handle = Handle(folder / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                opened.callback(handle.close)
                status = os.fstat(handle.number)
                own = foreign or not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
                dead = own and stat.S_ISREG(status.st_mode) and handle.lock(shared=shared, otherwise=False)
                if dead and os.fstat(handle.number).st_nlink:  # else it has just been removed
                    switch = Switch(folder, name.split(".")[2], handle)
                    switch.read()
                    switches.append(switch)
        yield switches
