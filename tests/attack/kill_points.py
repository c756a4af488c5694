"""Kills a writer at its n-th file operation, for every n, and says what was on disk each time.

    python -m tests.attack.kill_points WRITER FOLDER [EVERY]

A child is forked for each n, so that imports are paid once. An audit hook counts what changes the disk: files opened for writing,
renames, links, folders made and removed, files removed; `os.write` and `os.fsync`, which Python does not audit, are wrapped.
The child gets SIGKILL before the operation. Prints one JSON object per n: {"n", "operation", "faults": [text, …]}.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from graphsplit.formats.switch import LITTER

__all__ = ["Writer", "litter", "main"]

_AUDITED = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.move"}
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Writer:
    """What is killed.

    Attributes:
        before: Prepares an empty folder.
        write: Writes into it; must succeed when repeated after each kill, then leave nothing but its results.
        check: Called after a kill, in another process: text of what is wrong with what is there, one line each.
    """

    before: Callable[[Path], None]
    write: Callable[[Path], None]
    check: Callable[[Path], list[str]]


def litter(folder: Path) -> list[str]:
    """Hidden files and folders below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if LITTER.search(p.name) or p.suffix == ".tmp")


def main() -> None:
    """The command line."""
    from tests.attack.writers import WRITERS

    writer, base, every = WRITERS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    operation: str | None = ""
    n = 0
    while operation is not None:
        n += every
        folder = base / str(n)
        folder.mkdir()
        _in_child(lambda folder=folder: writer.before(folder))
        operation = _killed_at(n, writer, folder)
        faults = _in_child(lambda folder=folder: writer.check(folder)) or []
        if operation is not None:
            again = _in_child(lambda folder=folder: writer.write(folder))
            faults += [
                f"repeated: {line}" for line in (again or []) + (_in_child(lambda folder=folder: writer.check(folder)) or [])
            ]
        faults += [f"litter: {name}" for name in litter(folder)]
        print(json.dumps({"n": n, "operation": operation, "faults": faults}), flush=True)
        shutil.rmtree(folder)


def _in_child(call: Callable[[], list[str] | None]) -> list[str] | None:
    """Run something in a forked process; its answer, or its error as text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            try:
                answer = call()
            except BaseException as error:
                answer = [f"{type(error).__name__}: {error} ({traceback.extract_tb(error.__traceback__)[-1]})"]
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(data) if data else ["it died"]


def _killed_at(n: int, writer: Writer, folder: Path) -> str | None:
    """Run the writer and kill it before operation n; the operation, or None when there are fewer."""
    log = folder.with_name(f"{folder.name}.log")
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _count(n, str(folder), descriptor)
            writer.write(folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(descriptor)
    operation = log.read_text()
    log.unlink()
    if status == -signal.SIGKILL:
        return operation
    if status:
        raise SystemExit(f"the writer failed with status {status}")
    return None


def _count(n: int, folder: str, descriptor: int) -> None:
    count = 0
    plain_write, plain_fsync = os.write, os.fsync

    def step(what: str) -> None:
        nonlocal count
        count += 1
        if count == n:
            plain_write(descriptor, what.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, (str, bytes)) and isinstance(flags, int) and flags & _CHANGES and folder in os.fsdecode(path):
                step(f"open {os.path.basename(os.fsdecode(path))}")
        elif event in _AUDITED:
            step(f"{event} {os.path.basename(os.fsdecode(args[0]))}" if isinstance(args[0], (str, bytes)) else event)

    def write(handle: int, data: bytes) -> int:
        step(f"write {data[:40]!r}")
        half = plain_write(handle, data[: len(data) // 2])
        step(f"rest of {data[:40]!r}")
        return half + plain_write(handle, data[len(data) // 2 :])

    def fsync(handle: int) -> None:
        step("fsync")
        plain_fsync(handle)

    os.write, os.fsync = write, fsync  # type: ignore[assignment]
    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
