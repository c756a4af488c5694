"""The threads of pipelines and runners, which have ended before the interpreter exits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from time import monotonic

from graphsplit.errors import GraphSplitError

__all__ = ["background", "check_process", "join_all", "started"]


class _Background(threading.Thread):
    """A thread that was created here."""


def background(work: Callable[[], object], name: str) -> threading.Thread:
    """A thread that is not running yet.

    It is a daemon, since nobody can interrupt a camera that blocks; `graphsplit.execution.engine` waits for it when the
    interpreter exits, because a daemon thread that returns from native code during the exit aborts the process.
    """
    return _Background(target=work, name=name, daemon=True)


def started(work: Callable[[], object], name: str) -> threading.Thread:
    """A thread that is running; see `background`."""
    thread = background(work, name)
    thread.start()
    return thread


def join_all(patience: float, threads: Iterable[threading.Thread] | None = None) -> bool:
    """Wait for threads, except for the one that is waiting.

    Args:
        patience: Seconds for all of them together.
        threads: The threads; None: all that were created here.

    Returns:
        Whether they have ended.
    """
    end = monotonic() + patience
    this = threading.current_thread()
    if threads is None:
        threads = [t for t in threading.enumerate() if isinstance(t, _Background)]
    waited = [t for t in threads if t is not this]
    for thread in waited:
        thread.join(max(0.0, end - monotonic()))
    return not any(thread.is_alive() for thread in waited)


def check_process(pid: int, what: str) -> None:
    """Refuse to use in a forked process what has its threads in another one. Raises GraphSplitError."""
    if pid != os.getpid():
        raise GraphSplitError(
            f"the {what} belongs to process {pid}, and its threads do not exist in process {os.getpid()}, a fork of it; open a "
            f"{what} of its own there"
        )
