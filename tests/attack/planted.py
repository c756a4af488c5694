"""Campaigns whose second case falls, each in another way: whether the harness notices."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["PLANTED"]


def _eat() -> None:
    bytearray(2**33)


def _print() -> None:
    os.write(1, b"seen")


PLANTED: dict[str, Callable[[], object]] = {
    "die": os.abort,
    "hang": lambda: time.sleep(600),
    "print": _print,
    "write": lambda: Path("x").write_text("x"),
    "eat": _eat,
    "raise": lambda: 1 // 0,
}


def start(fall: Callable[[], object]) -> Callable[[Path, Path], Callable[[int], str]]:
    """What falls at seed 1."""

    def case(seed: int) -> str:
        if seed == 1:
            fall()
        return "fine"

    return lambda samples, place: case
