"""Locks of files and folders, which the system releases when their process ends. Where a system has none, nothing is locked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphsplit.errors import OverwriteError

__all__ = ["Handle", "locked"]

_PATIENCE = 60.0  # seconds to wait for the lock of a folder


class Handle:
    """An open file or folder. It is closed when it is no longer referenced: an interrupt leaves no lock behind.

    Args:
        path: Of the file or folder.
        flags: As of `os.open`.

    Attributes:
        number: The file descriptor.

    Raises:
        OSError: It cannot be opened.
    """

    number = -1

    def __init__(self, path: Path, flags: int) -> None:
        self.number = os.open(path, flags, 0o666)

    def lock(self, *, shared: bool = False, otherwise: bool = True) -> bool:
        """Try to lock it.

        Args:
            shared: With others that share it.
            otherwise: The answer where there are no locks.

        Returns:
            Whether it is locked; False while another process has it.
        """
        try:
            import fcntl
        except ImportError:
            return otherwise
        try:
            fcntl.flock(self.number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # some network file systems
            return otherwise
        return True

    def close(self) -> None:
        """Close it and release the lock. May be called twice."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    __del__ = close


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep other runs from replacing files of a folder.

    Args:
        folder: The folder. One that cannot be listed is not locked.
        shared: With others that share it.

    Raises:
        OverwriteError: Another process has had the lock for a minute.
    """
    try:
        handle = Handle(folder, os.O_RDONLY)
    except (OSError, ValueError):
        yield
        return
    try:
        until = time.monotonic() + _PATIENCE
        while not handle.lock(shared=shared):
            if time.monotonic() > until:
                raise OverwriteError(f"{folder}: another process is writing there; try again later", paths=[folder])
            time.sleep(0.01)
        yield
    finally:
        handle.close()
