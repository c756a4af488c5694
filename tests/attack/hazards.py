"""A child process that misbehaves where a model asks for it: what a fault in native code does, without relying on one.

A tensor whose name begins with one of `FAULTS` sets it off, when its shape is inferred and when it is run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from graphsplit.inference import tasks
from graphsplit.isolation import child


def _abort() -> None:
    os.write(2, b"F0000 00:00:1795583247.213457 3377 tensor.cc:896] Check failed: rank >= 0 \x1b[31m(-14 vs. 0)\n*** stack ***\n")
    os.abort()


def _segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _spin() -> None:
    while True:
        pass


def _native() -> None:
    """Wait in native code that keeps Python's lock: no thread and no signal handler of the child runs meanwhile."""
    ctypes.PyDLL(None).sleep(3600)


def _family() -> None:
    """Wait, with a process of its own that does not end either; its number is printed."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    os.write(2, f"family {started.pid}\n".encode())
    time.sleep(3600)


def _allocate() -> None:
    kept = []
    while True:
        kept.append(bytearray(2**26))


def _bad_alloc() -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
    os.abort()


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _quit() -> None:
    os._exit(0)


def _babble() -> None:
    """Write to where answers go."""
    for number in range(3, 20):
        try:
            os.write(number, b"\xff" * 64)
        except OSError:
            continue


def _lie() -> None:
    """Announce more than there is memory for."""
    for number in range(3, 20):
        try:
            with os.fdopen(os.dup(number), "wb", buffering=0) as pipe:
                head = b'[{"value": null}, [{"dtype": "|u1", "shape": [1000000000000000], "nbytes": 1000000000000000}]]'
                pipe.write(len(head).to_bytes(8, "big") + head)
        except OSError:
            continue


FAULTS = {
    "abort": _abort,
    "segfault": _segfault,
    "spin": _spin,
    "native": _native,
    "sleep": lambda: time.sleep(3600),
    "family": _family,
    "allocate": _allocate,
    "bad_alloc": _bad_alloc,
    "killed": _killed,
    "quit": _quit,
    "babble": _babble,
    "lie": _lie,
}


def _guarded(handler: Any) -> Any:
    def handle(said: Any, arrays: Sequence[Any]) -> Any:
        names = said.get("fetches", []) if isinstance(said, dict) else said if isinstance(said, list) else []
        for name in names:
            for fault, work in FAULTS.items():
                if str(name).startswith(fault):
                    work()
        return handler(said, arrays)

    return handle


def _fault(said: Any, arrays: Sequence[Any]) -> Any:
    FAULTS[said]()
    return None, ()


def _print(said: Any, arrays: Sequence[Any]) -> Any:
    os.write(1, said.encode())
    os.write(2, said.encode())
    print(said, flush=True)
    return None, ()


def main(parent: int, memory: int, warm: Sequence[str]) -> None:
    """As of `graphsplit.isolation.child`, with faults."""
    tasks.infer = _guarded(tasks.infer)
    tasks.run_session = _guarded(tasks.run_session)
    child.HANDLERS["fault"] = _fault
    child.HANDLERS["print"] = _print
    child.HANDLERS["echo"] = lambda said, arrays: (said, arrays)
    child.main(parent, memory, warm)


__all__ = ["FAULTS", "main"]
