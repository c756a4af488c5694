"""A compiler may crash, hang, or write and print without end: it is stopped with all that it started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from graphsplit.compilers import process
from graphsplit.compilers.process import run_command

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of processes are POSIX's")


def run(folder: Path, code: str, *, seconds: float = 20.0) -> process.Ran:
    return run_command([sys.executable, "-c", code], folder, seconds=seconds)


def alive(pid: int) -> bool:
    """Whether a process is still there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_both_outputs_are_read_and_the_status(tmp_path):
    ran = run(tmp_path, "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr); sys.exit(7)")
    assert (ran.status, ran.output.split(), ran.problem) == (7, ["out", "err"], "")


def test_a_signal_is_a_negative_status(tmp_path):
    assert run(tmp_path, "import os; os.kill(os.getpid(), 11)").status == -11


def test_stdin_is_closed(tmp_path):
    assert run(tmp_path, "import sys; print(repr(sys.stdin.read()))").output.strip() == "''"


def test_it_runs_in_its_folder_and_without_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("QNN_SDK_ROOT", "/opt/qnn")
    ran = run(tmp_path, "import os, tempfile; print(os.getcwd(), tempfile.gettempdir(), dict(os.environ))")
    assert ran.output.split()[:2] == [str(tmp_path), str(tmp_path)]
    assert "s3cret" not in ran.output
    assert "/opt/qnn" in ran.output


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found through /proc")
@pytest.mark.parametrize(
    "start",
    [
        "subprocess.Popen(sleep)",
        "subprocess.Popen(sleep, start_new_session=True)",
        "os.fork() or (os.setsid(), os.execvp('sleep', sleep))",
    ],
)
def test_one_that_hangs_is_stopped_with_all_it_started(start, tmp_path):
    code = f"import os, subprocess, time\nsleep = ['sleep', '300']\np = {start}\n"
    code += "open('pid', 'w').write(str(getattr(p, 'pid', p)))\ntime.sleep(300)"
    began = time.monotonic()
    ran = run(tmp_path, code, seconds=1)
    assert (ran.status, ran.problem) == (None, "did not end within 1 seconds")
    assert time.monotonic() - began < 10
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found through /proc")
def test_what_it_leaves_behind_is_stopped_too(tmp_path):
    code = "import subprocess; open('pid', 'w').write(str(subprocess.Popen(['sleep', '300'], start_new_session=True).pid))"
    began = time.monotonic()
    assert run(tmp_path, code).status == 0
    assert time.monotonic() - began < 10  # the pipe that the other one holds open is not waited for
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    "write",
    [
        "open('big', 'wb').write(bytes(2**26))",  # one file
        "[open(str(i), 'wb').write(bytes(2**20)) for i in range(64)]; import time; time.sleep(60)",  # many
        "import os; os.mkdir('a'); [open(f'a/{i}', 'wb').write(bytes(2**20)) for i in range(64)]",  # below, and it ends
    ],
)
def test_one_that_writes_too_much_is_stopped(write, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_DISK", 2**23)
    ran = run(tmp_path, write)
    assert (ran.status, ran.problem) == (None, "wrote more than 8.4 MB")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) <= 2**26


def test_one_that_prints_too_much_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_OUTPUT", 2**20)
    ran = run(tmp_path, "while True: print('x' * 1000)")
    assert (ran.status, ran.problem) == (None, "printed more than 1.0 MB")
    assert len(ran.output) <= 2**20


def test_one_that_needs_too_much_memory_is_stopped_by_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "memory_limit", lambda: 2**29)
    ran = run(tmp_path, "x = bytearray(2**31)")
    assert ran.status == 1
    assert "MemoryError" in ran.output


def test_a_file_that_is_no_program_is_a_status(tmp_path):
    (tmp_path / "tool").write_text("not a program")
    (tmp_path / "tool").chmod(0o755)
    ran = run_command([str(tmp_path / "tool")], tmp_path, seconds=5)
    assert ran.status == 1
    assert "cannot be started" in ran.output
