"""The process that runs models that nobody trusts; see `graphsplit.isolation.shared`, which starts it.

It reads requests from stdin and answers on stdout, one at a time, until there are no more. A request names the task, a
function of a module that is imported when it is first asked for: this folder knows none of those above it.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from graphsplit.errors import GraphSplitError
from graphsplit.isolation.messages import Answer, Array, Message, Task, receive, send

__all__ = ["HANDLERS", "main"]

_CAUSES = 3  # errors that are reported as the cause of another


def _process(value: Any, arrays: Sequence[Array]) -> Answer:
    """Number of this process."""
    return os.getpid(), ()


#: Tasks that have a name of their own.
HANDLERS: dict[str, Task] = {"process": _process}


def main(parent: int, memory: int, warm: Sequence[str]) -> None:
    """Answer requests until there are no more, and end the process.

    Args:
        parent: The process that sends them; this one ends with it.
        memory: Bytes that this process may have.
        warm: Modules to import before the first request.
    """
    _end_with(parent)
    _limit(memory)
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a model prints must not get between the answers
    for module in warm:
        with suppress(ImportError):  # reported when it is needed
            importlib.import_module(module)
    send(answers, os.getpid())
    while (message := receive(requests)) is not None:
        value, arrays = _answered(message)
        del message
        try:
            send(answers, value, arrays)
        except ValueError as error:  # an array of a dtype that cannot be sent
            send(answers, {"error": _described(error)})
    os._exit(0)  # without the teardown of runtimes


def _answered(message: Message) -> Answer:
    assert isinstance(message.value, list)
    request, said = message.value
    try:
        answer, arrays = _task(request)(said, message.arrays)
    except Exception as error:  # every runtime has its own kinds
        return {"error": _described(error)}, ()
    return {"value": answer}, arrays


def _task(name: str) -> Task:
    """The task of that name: of `HANDLERS`, else "module:function"."""
    module, colon, function = name.partition(":")
    task: Task = getattr(importlib.import_module(module), function) if colon else HANDLERS[name]
    return task


def _described(error: Exception, depth: int = 0) -> dict[str, object]:
    """An error as JSON, with its cause."""
    node = getattr(getattr(error, "node_def", None), "name", "")
    attributes = vars(error) if isinstance(error, GraphSplitError) else {}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in attributes.items() if isinstance(v, (str, tuple, type(None)))}
    cause = _described(error.__cause__, depth + 1) if isinstance(error.__cause__, Exception) and depth < _CAUSES else None
    return {"kind": type(error).__name__, "text": str(error), "node": str(node), "attributes": plain, "cause": cause}


def _limit(memory: int) -> None:
    """Bound the memory of this process, where the system can, and leave no core dumps."""
    try:
        import resource
    except ImportError:  # Windows
        return
    # RLIMIT_AS would also count the addresses that CUDA reserves and never uses.
    which = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    for kind, value in ((which, memory), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _end_with(parent: int) -> None:
    """See that this process ends when its parent does, even if it is in native code then, where the system can."""
    if os.name == "nt":
        return  # stdin ends
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)
