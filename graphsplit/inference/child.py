"""The process that runs models that nobody trusts; see `graphsplit.inference.isolation`, which starts it.

It reads requests from stdin and answers on stdout, one at a time, until there are no more. A handler takes what a request
says and its arrays, and returns what JSON holds, and arrays.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np

from graphsplit.errors import GraphSplitError
from graphsplit.inference.adapters import RUNTIMES
from graphsplit.inference.messages import Message, receive, send
from graphsplit.inference.pictures import decode_here, encode_here
from graphsplit.inference.runtime import Session, SessionSettings
from graphsplit.runtimes.arrays import Array

__all__ = ["HANDLERS", "main"]

_Answer = tuple[object, Sequence[Array]]

_sessions: dict[int, Session] = {}
_numbers = count(1)


def _infer(value: Any, arrays: Sequence[Array]) -> _Answer:
    """Dtypes and shapes of the tensors of a graph."""
    from graphsplit.runtimes.tensorflow import infer_shapes

    return infer_shapes(arrays[0].tobytes(), value), ()


def _open(value: Any, arrays: Sequence[Array]) -> _Answer:
    """A session of a model; its number."""
    runtime = RUNTIMES[value["format"]]
    settings = SessionSettings(optimize=value["optimize"], threads=value["threads"])
    number = next(_numbers)
    _sessions[number] = runtime.open(runtime.read(arrays[0].data), settings)
    return number, ()


def _run(value: Any, arrays: Sequence[Array]) -> _Answer:
    """The values of some tensors in a session."""
    results = _sessions[value["session"]].run(dict(zip(value["feeds"], arrays, strict=True)), value["fetches"])
    return None, [np.asarray(result) for result in results]


def _close(value: Any, arrays: Sequence[Array]) -> _Answer:
    """Release a session."""
    session = _sessions.pop(value, None)
    if session is not None:
        session.close()
    return None, ()


def _encode(value: Any, arrays: Sequence[Array]) -> _Answer:
    """A picture as the content of a JPEG file."""
    return None, [np.frombuffer(encode_here(arrays[0]), dtype=np.uint8)]


def _decode(value: Any, arrays: Sequence[Array]) -> _Answer:
    """The content of a picture file, scaled."""
    return None, [decode_here(arrays[0].tobytes(), value)]


def _process(value: Any, arrays: Sequence[Array]) -> _Answer:
    """Number of this process."""
    return os.getpid(), ()


#: Name of a request → what answers it.
HANDLERS: dict[str, Callable[[Any, Sequence[Array]], _Answer]] = {
    "infer": _infer,
    "open": _open,
    "run": _run,
    "close": _close,
    "encode": _encode,
    "decode": _decode,
    "process": _process,
}


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


def _answered(message: Message) -> _Answer:
    assert isinstance(message.value, list)
    request, said = message.value
    try:
        answer, arrays = HANDLERS[request](said, message.arrays)
    except Exception as error:  # every runtime has its own kinds
        return {"error": _described(error)}, ()
    return {"value": answer}, arrays


def _described(error: Exception) -> dict[str, object]:
    """An error as JSON."""
    node = getattr(getattr(error, "node_def", None), "name", "")
    attributes = vars(error) if isinstance(error, GraphSplitError) else {}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in attributes.items() if isinstance(v, (str, tuple, type(None)))}
    return {"kind": type(error).__name__, "text": str(error), "node": str(node), "attributes": plain}


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
