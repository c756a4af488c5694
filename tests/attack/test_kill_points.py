"""kill -9 at every file operation: the old or the new is whole, a repeat works, and it leaves nothing but its results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.writers import WRITERS

pytest.importorskip("fcntl")  # where there are no locks, nobody knows which runs were killed


@pytest.mark.parametrize("writer", WRITERS)
def test_a_run_killed_at_any_file_operation(writer: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.attack.kill_points", writer, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr[-2000:]
    assert not [p for p in points if p["faults"]]
    assert points[-1]["operation"] is None
    assert len(points) > 5
