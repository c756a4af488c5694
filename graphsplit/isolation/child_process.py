"""One child process: started, asked, watched and ended. See `graphsplit.isolation.shared`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import IO, TypedDict

from graphsplit.isolation.failures import (
    ChildError,
    OutOfMemoryError,
    OutOfTimeError,
    fatal_line,
    plain_text,
    reported_error,
    tells_of_memory,
)
from graphsplit.isolation.messages import Array, Message, MessageError, Pieces, receive, send

__all__ = ["Child", "memory_limit", "processor_time"]

_START = 600.0  # seconds the child may take to import a runtime; on a machine that is busy with other things it takes many
_SHARE = 0.75  # of the memory of the machine
_STALLED = 60.0  # seconds without progress after which a request is given up
_IDLE = 0.002  # of a processor, which a process that waits may use all the same
_KEPT = 2**16  # bytes kept of what a model prints


class _NotSent(Exception):
    """Wraps an error that was raised before anything was written."""


class _NewGroup(TypedDict, total=False):
    creationflags: int
    start_new_session: bool


def memory_limit() -> int:
    """Bytes of memory that a child may have: three quarters of what the machine, or the container, has."""
    total = 2**34
    with suppress(AttributeError, ValueError, OSError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
        total = min(total, int(file.read()))
    return int(total * _SHARE)


class Child:
    """A process that runs models.

    Args:
        warm: Modules to import before the first request, such as "tensorflow".
        module: Has a function ``main(parent, memory, warm)`` that answers requests.
        memory: Bytes of memory it may have; None: `memory_limit`.
        echo: Show on stderr what it prints, with control characters replaced.
    """

    def __init__(
        self,
        warm: Sequence[str] = (),
        *,
        module: str = "graphsplit.isolation.child",
        memory: int | None = None,
        echo: bool = False,
    ) -> None:
        self.memory = memory_limit() if memory is None else memory
        self._warm, self._module, self._echo = tuple(warm), module, echo
        self._lock = Lock()
        self._started: Future[subprocess.Popen[bytes]] = Future()
        self._printed: deque[bytes] = deque()
        self._silent = Event()
        self._ready = self._closed = False
        self._expired = ""  # why it was killed
        # Linux ends the child with the thread that started it, so this thread lives as long as the child.
        Thread(target=self._attend, name="graphsplit-child", daemon=True).start()

    def _attend(self) -> None:
        """Start the process, then keep the end of what it prints until it has ended."""
        call_main = f"main({os.getpid()}, {self.memory}, {self._warm!r})"
        # Not `-m`, which would let files of the current folder shadow modules: the child finds them where this process does.
        code = f"import sys; sys.path[:] = {[str(p) for p in sys.path]!r}; from {self._module} import main; {call_main}"
        group = _NewGroup(start_new_session=True)
        if os.name == "nt":
            group = _NewGroup(creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, **group)
        except (OSError, ValueError) as error:
            self._started.set_exception(ChildError(f"needs a process of its own, which could not be started ({error})"))
            return
        self._started.set_result(process)
        with suppress(OSError, ValueError):
            while chunk := _opened(process.stderr).read(2**16):
                self._printed.append(chunk)
                while sum(map(len, self._printed)) > _KEPT and len(self._printed) > 1:
                    self._printed.popleft()
                if self._echo:
                    print(plain_text(chunk, keep="\n"), end="", file=sys.stderr, flush=True)
        self._silent.set()

    @property
    def dead(self) -> bool:
        """Whether it has ended, so that another one has to be started."""
        if self._closed:
            return True
        if not self._started.done():
            return False
        return self._started.exception() is not None or self._started.result().poll() is not None

    def call(
        self,
        request: str,
        said: object,
        arrays: Iterable[Array | Pieces] = (),
        *,
        deadline: float | None = None,
        patient: bool = False,
    ) -> Message:
        """Have the child answer a request, after those that other threads wait for.

        Args:
            request: A handler of the child, or "module:function".
            said: What JSON holds.
            arrays: Arrays, or bytes in pieces.
            deadline: Seconds it may take; None: unlimited.
            patient: Let it wait for files or the network; else a request that computes nothing for a minute is given up.

        Returns:
            Its answer.

        Raises:
            ChildError: It crashed, needed too much memory or time, or had ended before.
            GraphSplitError: What the handler raised.
            RuntimeFailure: Any other error of the runtime.
            ValueError: An array of a dtype that cannot be passed to another process.
        """
        with self._lock:
            if self._closed:
                raise ChildError("was lost with its process, which an earlier request ended")
            process = self._started.result()
            try:
                if not self._ready:
                    self._within(_START, True, lambda: receive(_opened(process.stdout), 0))
                    self._ready = True
                answer = self._within(deadline, patient, lambda: self._exchange(process, [request, said], arrays))
            except _NotSent as error:
                raise ValueError(str(error)) from error.__cause__
            except BaseException:
                self.close()  # an answer that comes later would be taken for that of another request
                raise
        value = answer.value
        if isinstance(value, dict) and "error" in value:
            raise reported_error(value["error"])
        if not isinstance(value, dict) or "value" not in value:
            raise ChildError("sent what is not an answer")
        return Message(value["value"], answer.arrays)

    def _exchange(self, process: subprocess.Popen[bytes], value: object, arrays: Iterable[Array | Pieces]) -> Message | None:
        try:
            send(_opened(process.stdin), value, arrays)
        except ValueError as error:
            raise _NotSent(str(error)) from error
        return receive(_opened(process.stdout), self.memory)

    def _within(self, deadline: float | None, patient: bool, work: Callable[[], Message | None]) -> Message:
        """What the child sends. Raises ChildError if it dies, and kills it when its time is up."""
        answered = Event()
        if deadline is not None:
            Thread(target=self._guard, args=(deadline, patient, answered), name="graphsplit-deadline", daemon=True).start()
        problem = ""
        answer: Message | None = None
        try:
            answer = work()
        except MessageError as error:
            problem = str(error)
        except OSError:  # a pipe without a reader
            pass
        finally:
            answered.set()
        if answer is None:
            raise self._obituary(problem)
        return answer

    def _guard(self, deadline: float, patient: bool, answered: Event) -> None:
        """Kill the process if it does not answer in time, or waits for what never happens."""
        pid = self._started.result().pid
        end = moved = time.monotonic()
        end, used = end + deadline, 0.0
        while not answered.wait(max(0.0, min(1.0, end - time.monotonic()))):
            now, spent = time.monotonic(), processor_time(pid)
            if patient or spent is None or spent - used > _IDLE * _STALLED:
                moved, used = now, spent or 0.0
            if now >= end:
                self._expired = f"did not end within {deadline:g} seconds"
            elif now - moved >= _STALLED:
                self._expired = f"did not end: it waits for something, and computed nothing for {_STALLED:g} seconds"
            if self._expired:
                self._kill()
                return

    def _obituary(self, problem: str) -> ChildError:
        """Why there is no answer, once the process has ended."""
        process = self._started.result()
        if not problem:  # its end of the pipe is closed, so it is about to end
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
        status = process.poll()
        self.close()
        printed = b"".join(self._printed)
        if self._expired:
            return OutOfTimeError(self._expired)
        if tells_of_memory(printed):
            return OutOfMemoryError(f"needed more than {self.memory / 2**30:.3g} GiB of memory")
        if status == -getattr(signal, "SIGKILL", 9):
            return OutOfMemoryError("was killed by the system, most likely because memory ran out")
        if problem or status is None:
            return ChildError(f"sent what is not an answer ({problem or 'the pipe was closed'})")
        how = f"signal {-status}" if status < 0 else f"status {status}"
        reason = fatal_line(printed)
        return ChildError(f"crashed ({how}{': ' + reason if reason else ''})")

    def _kill(self) -> None:
        """End the process and what it started."""
        process = self._started.result()
        if process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                if os.name == "nt":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it. May be called twice, and from any thread."""
        self._closed = True
        with suppress(ChildError):
            process = self._started.result()
            self._kill()
            process.wait()
            self._silent.wait(2)
            _shut(process)

    def forget(self) -> None:
        """Let go of it in a process that was forked, without touching the process that the parent uses."""
        self._closed = True
        if self._started.done() and self._started.exception() is None:
            process = self._started.result()
            process.returncode = 0  # not a child of this process, so nothing waits for it
            _shut(process)


def processor_time(pid: int) -> float | None:
    """Seconds of processor time that a process has used; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # all three are
    return pipe


def _shut(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            _opened(pipe).close()
