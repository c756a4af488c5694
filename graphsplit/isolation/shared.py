"""Models that nobody trusts run in a child process: whatever their native code does, this process gets an answer or an error.

    this process                                  graphsplit.isolation.child
    call(task, …)  ── JSON, arrays ──▶ stdin ──▶  tasks: freeze · infer · open, run, close a session
                   ◀─ JSON, arrays ── stdout ◀──  TensorFlow, LiteRT
    attendant thread ◀── what it prints ────────  stdout and stderr of the model
    deadline passed: killed                       memory bounded; ends with this process

- There is one child, shared by all that this process asks for, to freeze, infer and prove, so TensorFlow is imported once. It
  begins with the first request or with `prestart`, answers one request at a time, and is replaced when it has died.
- Each request has a deadline; when that has passed, the child and all that it started are killed. Where the system limits
  memory (Linux: RLIMIT_DATA), the child has three quarters of the machine's.
- Nothing that the child sends is unpickled: answers are JSON and arrays whose sizes are checked. What a model prints is
  kept for the error, without control characters, and never reaches stdout.
- It ends with this process, after kill -9 too (Linux: prctl(PR_SET_PDEATHSIG); elsewhere within a second, unless it is in
  native code that does not return). A forked process forgets the child of its parent and starts its own.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from graphsplit.isolation.child_process import Child
from graphsplit.isolation.messages import Array, Message, Pieces, Task

__all__ = ["call", "prestart", "stop"]


@dataclass
class _Shared:
    """The child that all share, if one is running."""

    child: Child | None = None
    lock: Lock = field(default_factory=Lock)


_shared = _Shared()


def _current(warm: Sequence[str] = (), *, echo: bool = False) -> Child:
    with _shared.lock:
        if _shared.child is not None and _shared.child.dead:
            _shared.child.close()
            _shared.child = None
        if _shared.child is None:
            _shared.child = Child(warm, echo=echo)
        return _shared.child


def prestart(*warm: str, echo: bool = False) -> None:
    """Start the shared child, if it is not running, without waiting for it.

    Args:
        *warm: Modules it is to import meanwhile, such as "tensorflow".
        echo: Show on stderr what it prints.
    """
    _current(warm, echo=echo)


def call(
    task: Task | str,
    said: object,
    arrays: Iterable[Array | Pieces] = (),
    *,
    deadline: float | None = None,
    patient: bool = False,
    child: Child | None = None,
) -> tuple[Message, Child]:
    """Have a child answer a request; raises what `graphsplit.isolation.child_process.Child.call` raises.

    Args:
        task: A function of a module, which the child imports; or the name of one of its handlers.
        said: What JSON holds.
        arrays: Arrays, or bytes in pieces.
        deadline: Seconds it may take; None: unlimited.
        patient: Let it wait for files or the network.
        child: Which one; None: the shared one, started if it is not running.

    Returns:
        The answer, and the child that gave it.
    """
    asked = _current() if child is None else child
    name = task if isinstance(task, str) else f"{task.__module__}:{task.__name__}"
    return asked.call(name, said, arrays, deadline=deadline, patient=patient), asked


def stop() -> None:
    """End the shared child. The next request starts another one."""
    with _shared.lock:
        child, _shared.child = _shared.child, None
    if child is not None:
        child.close()


def _forked() -> None:
    """A forked process has no child yet; the one it inherited answers its parent."""
    child, _shared.child, _shared.lock = _shared.child, None, Lock()
    if child is not None:
        child.forget()


atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
