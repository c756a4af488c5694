"""Files and folders that are written aside and take their places together; what killed runs left is undone and removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graphsplit.errors import OverwriteError
from graphsplit.formats.locks import locked
from graphsplit.formats.switch import Switch, absolute, killed, missing, reported, start

__all__ = ["Staging", "check_absent", "is_leftover", "reading", "recover"]

_SHOWN = 3  # paths in a message


def check_absent(paths: Iterable[Path], *, then: str | None = None) -> None:
    """Refuse paths that exist.

    Args:
        paths: The paths.
        then: What to do about them, for the message; by default, to set `overwrite`.

    Raises:
        OverwriteError: Names them.
    """
    there = [p for p in paths if os.path.lexists(p)]
    if there:
        replaces = f"overwrite=True replaces {'them' if len(there) > 1 else 'it'}"
        names = ", ".join(map(str, there[:_SHOWN])) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
        raise OverwriteError(f"{names} {'exist' if len(there) > 1 else 'exists'} already; {then or replaces}", paths=there)


def is_leftover(path: Path) -> bool:
    """Whether a file or folder was written by a run that was killed before it could report success, and replaced nothing."""
    where = absolute(path)
    for folder in where.parents:
        with killed(folder, shared=True) as switches:
            if any(where in switch.leftovers for switch in switches):
                return True
    return False


def recover(folder: Path) -> None:
    """Put back what killed runs of this user moved aside in a folder, and remove what they left; finished files remain.

    Nothing happens where this process may not write.
    """
    with killed(folder, shared=True) as switches:
        if not switches:
            return
    with suppress(OSError), locked(folder), killed(folder) as switches:
        for switch in switches:
            with suppress(OSError):
                switch.undo()
            if switch.leftovers:  # only who writes them again removes the journal
                switch.remove_work()
            else:
                switch.remove()


@contextmanager
def reading(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Read files of a folder that belong together, while no other run replaces them.

    Yields:
        Name → path of the file. It differs from that in the folder only after a killed run that this process cannot undo.

    Raises:
        OverwriteError: Another process has been writing there for a minute.
    """
    recover(folder)
    with locked(folder, shared=True):
        with killed(folder, shared=True, foreign=True) as switches:
            old = dict(pair for switch in switches for pair in switch.old())
        yield lambda name: old.get(name, folder / name)


class Staging:
    """Files and folders that are written aside and take their places together, or not at all.

        staging = Staging(folder)
        write(staging.place(folder / "a.json"))
        staging.keep()                          # or staging.drop()

    Args:
        folder: The folder of the targets, or one above it. They are written in a hidden folder in it.
        overwrite: Whether targets that exist by the time of `keep` are replaced.
    """

    def __init__(self, folder: Path, *, overwrite: bool = True) -> None:
        self._folder, self._overwrite = folder, overwrite
        self._targets: list[Path] = []
        self._created = missing(folder)
        self._switch: Switch | None = None

    def place(self, target: Path) -> Path:
        """Where to write what goes to `target`; of the same name, since encoders go by it. Raises FormatError."""
        with reported(target):
            if self._switch is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                recover(self._folder)
                self._switch = start(self._folder)
            place = self._switch.new(len(self._targets), target.name)
            place.parent.mkdir(parents=True)
        self._targets.append(target)
        return place

    def keep(self) -> None:
        """Move everything into place, or, when anything fails, nothing.

        Raises:
            FormatError: It cannot be written.
            OverwriteError: A target exists, and `overwrite` is not set.
        """
        try:
            if self._switch is not None:
                for number, target in enumerate(self._targets):
                    with reported(target):
                        os.lstat(self._switch.new(number, target.name))  # so that, later, one that is gone has been moved
                with reported(self._targets[0]), locked(self._folder), killed(self._folder) as others:
                    self._perform(self._switch, others)
            self._created = []
        finally:
            self.drop()

    def _perform(self, switch: Switch, others: Iterable[Switch]) -> None:
        again: set[Path] = set()
        for other in others:
            other.undo()
            again |= other.leftovers
        if not self._overwrite:
            check_absent(t for t in self._targets if absolute(t) not in again and not _is_empty_folder(t))
        switch.perform(self._targets, () if self._overwrite else again)
        for other in others:
            other.remove()

    def drop(self) -> None:
        """Remove what was written and has not been kept."""
        if self._switch is not None:
            self._switch.remove()
            self._switch.handle.close()
            self._switch = None
        for folder in self._created:
            with suppress(OSError):  # somebody else may have put something in
                folder.rmdir()


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not os.listdir(path)
