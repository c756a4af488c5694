"""Random graphs of TensorFlow's ops, cut at random places, written, read back and compared with TensorFlow bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["start"]

_FIRST = 100_000  # the test suite has the seeds below


def start(samples: Path, place: Path) -> Callable[[int], str]:
    """What tries a seed."""
    from graphsplit.isolation.shared import prestart
    from tests.test_surgery_tensorflow import check, example

    prestart("tensorflow")

    def case(seed: int) -> str:
        found = example.__wrapped__(_FIRST + seed)
        if found.plan is None:
            return "no legal cut"
        check(found, place / "out")
        return "fine"

    return case
