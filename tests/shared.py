"""Models and media that lie beside the repository, not in it: real graphs to test with, where they are there."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_model(name: str) -> Path:
    """The path of a shared model, unpacked; skips the test where there is none."""
    if not (SHARED / "models" / f"{name}.gz").exists():
        pytest.skip(f"no model {name} in a folder `shared` beside the repository")
    return _unpacked(name)


def shared_media(name: str) -> Path:
    """The path of a shared image or video; skips the test where there is none."""
    if not (path := SHARED / "media" / name).exists():
        pytest.skip(f"no media {name} in a folder `shared` beside the repository")
    return path


def shared_case(name: str) -> Path:
    """The path of a shared case, such as ``tflite/two_heads.tflite``; skips the test where there is none."""
    if not (path := SHARED / "cases" / name).exists():
        pytest.skip(f"no case {name} in a folder `shared` beside the repository")
    return path


@cache
def _unpacked(name: str) -> Path:
    command = [sys.executable, str(SHARED / "models" / "unpack.py"), name]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
