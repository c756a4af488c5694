"""A compiler as a process: without a shell, in a temporary folder, within limits of time, memory, disk and output.

It is a program of others that reads a file of others, so it may crash, hang, or write without end. None of this is an error
here; it is what the caller is told.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from graphsplit.graph.text import bytes_text
from graphsplit.isolation.child_process import memory_limit

__all__ = ["Ran", "environment", "found_program", "run_command"]

_DISK = 10**9  # bytes that it may write, besides `spare`
_FILES = 20_000  # files that it may write
_OUTPUT = 16 * 10**6  # bytes that it may print
_TICK, _LOOK = 0.02, 0.5  # seconds between looks at the process, and at its folder
_PATIENCE = 100  # ticks for processes that were killed to end
_MARK = "GRAPHSPLIT_COMPILER"  # in the environment of all that it starts
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|COOKIE|AUTH|API_?KEY|ACCESS_?KEY|PRIVATE|SIGNING", re.IGNORECASE)

# Bounds itself, ends with the thread that started it, and becomes the compiler.
_LAUNCHER = """
import os, sys
files, memory, parent = map(int, sys.argv[1:4])
try:
    import resource
    data = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    for kind, value in ((resource.RLIMIT_FSIZE, files), (data, memory), (resource.RLIMIT_CORE, 0)):
        try:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            pass
    if sys.platform == "linux":
        import ctypes
        ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != parent:
        os._exit(1)
except (ImportError, OSError, AttributeError):
    pass
try:
    os.execv(sys.argv[4], sys.argv[4:])
except OSError as error:
    sys.exit(f"{sys.argv[4]} cannot be started: {error.strerror}")
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended.

    Attributes:
        status: Its exit status, negative for a signal; None if it was stopped.
        output: What it printed, stdout and stderr together.
        problem: Why it was stopped, continuing its name: "did not end within 300 seconds"; else empty.
    """

    status: int | None
    output: str
    problem: str = ""


def run_command(
    command: Sequence[str], folder: Path, *, seconds: float, spare: int = 0, env: Mapping[str, str] | None = None
) -> Ran:
    """Run a program to its end.

    Args:
        command: Path of the program, and its arguments.
        folder: Where it runs, and where it may write; removed by the caller.
        seconds: How long it may take.
        spare: Bytes that it may write beyond what every program may.
        env: Its environment; None: `environment`.
    """
    mark = uuid.uuid4().hex
    start = time.monotonic()
    disk, before = _DISK + spare, _written(folder)[0]
    words = list(command)
    if os.name == "posix":
        # -I -S: nothing of the environment or the folder is imported. The limits are those of the compiler alone.
        limits = [str(disk), str(memory_limit()), str(os.getpid())]
        words = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *limits, *words]
    process = subprocess.Popen(
        words,
        cwd=folder,
        env={**(environment(folder) if env is None else env), _MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=os.name == "posix",
    )
    reader = _Reader(process.stdout)
    problem, looked = "", start
    try:
        while process.poll() is None and not problem:
            now = time.monotonic()
            if now - start > seconds:
                problem = f"did not end within {seconds:g} seconds"
            elif reader.full:
                problem = f"printed more than {bytes_text(_OUTPUT)}"
            elif now - looked > _LOOK:
                problem, looked = _too_much(folder, before, disk), now
            with suppress(subprocess.TimeoutExpired):
                process.wait(0 if problem else _TICK)
    finally:
        _end(process, mark)
        reader.join(2)
    status = process.returncode
    problem = problem or _too_much(folder, before, disk) or (f"printed more than {bytes_text(_OUTPUT)}" if reader.full else "")
    if status == -getattr(signal, "SIGXFSZ", 25):
        problem = problem or f"wrote more than {bytes_text(disk)}"
    return Ran(None if problem else status, reader.text, problem)


def environment(folder: Path) -> dict[str, str]:
    """The environment of this process without what looks like a secret; temporary files go to a folder."""
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    return kept | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)) | {"TF_CPP_MIN_LOG_LEVEL": "3", "NO_COLOR": "1"}


class _Reader(Thread):
    """Reads what a process prints, up to a limit; what comes after it is dropped."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(name="graphsplit-compiler", daemon=True)
        self._pipe, self._pieces, self._size, self.full = pipe, list[bytes](), 0, False
        self.start()

    def run(self) -> None:
        assert self._pipe is not None
        with suppress(OSError, ValueError):
            while piece := os.read(self._pipe.fileno(), 2**16):
                if self._size + len(piece) > _OUTPUT:
                    self.full = True
                else:
                    self._size += len(piece)
                    self._pieces.append(piece)

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        if not self.is_alive() and self._pipe is not None:
            self._pipe.close()

    @property
    def text(self) -> str:
        return b"".join(list(self._pieces)).decode(errors="replace").replace("\r\n", "\n")


def _too_much(folder: Path, before: int, disk: int) -> str:
    size, files = _written(folder)
    if size - before >= disk:
        return f"wrote more than {bytes_text(disk)}"
    return f"wrote more than {_FILES:,} files" if files > _FILES else ""


def _written(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files in a folder."""
    size = files = 0
    for root, _, names in os.walk(folder):
        for name in names:
            files += 1
            with suppress(OSError):
                size += os.lstat(os.path.join(root, name)).st_blocks * 512 if os.name == "posix" else os.lstat(root).st_size
        if files > _FILES:
            break
    return size, files


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """End a process and all that it started, also what has left its group."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for _ in range(_PATIENCE):  # what was being forked is found the next time, and what is dying takes its time
            marked = _marked(mark)
            for pid in marked:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not marked:
                break
            time.sleep(_TICK)
    else:
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)


def _marked(mark: str) -> list[int]:
    """The processes whose environment holds a mark, where the system shows it."""
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def found_program(word: str) -> str | None:
    """The absolute path of a program, as a shell would find it, or beside this interpreter."""
    beside = os.path.dirname(sys.executable)
    found = shutil.which(word) or (shutil.which(word, path=beside) if os.path.basename(word) == word else None)
    return None if found is None else os.path.abspath(found)
