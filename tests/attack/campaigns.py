"""What is attacked, and with how many cases: one line a campaign."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.attack import documents, downloads, files, odd_models, random_graphs, workbench
from tests.attack.harness import NATIVE, SECONDS

__all__ = ["CAMPAIGNS", "Campaign", "Case", "scaled"]

Case = Callable[[int], str]  # a seed → how it ended; what it raises besides the library's errors is a fall


@dataclass(frozen=True)
class Campaign:
    """A campaign.

    Attributes:
        start: From the folder of samples and a place (see `tests.attack.worker`), once for each worker: what tries a seed.
        short: Number of cases in the default run.
        long: Number of cases marked slow, times GRAPHSPLIT_ATTACK.
        every: Each so many cases native code gets the model as well, in the child process; 1: always.
        fine: Least share of cases that must end well, or the campaign says nothing.
    """

    start: Callable[[Path, Path], Case]
    short: int
    long: int
    every: int | None = None
    fine: float = 0.0

    def seconds(self, seed: int) -> float:
        """The deadline of a case."""
        return NATIVE if self.every is not None and seed % self.every == 0 else SECONDS


def scaled(count: int) -> int:
    """How many cases a long run tries: GRAPHSPLIT_ATTACK=50 makes it fifty times as long."""
    return max(1, round(count * float(os.environ.get("GRAPHSPLIT_ATTACK", "1"))))


CAMPAIGNS = {
    "graphdef": Campaign(files.start("graphdef"), 119, 2000, files.EVERY, 0.1),
    "pbtxt": Campaign(files.start("pbtxt"), 60, 500, files.EVERY, 0.1),
    "tflite": Campaign(files.start("tflite"), 79, 2000, files.EVERY, 0.1),
    "split": Campaign(files.start("split"), 60, 500, files.EVERY, 0.02),
    "saved_model": Campaign(files.start("saved_model"), 0, 150, 1, 0.02),
    "keras": Campaign(files.start("keras"), 0, 150, 1, 0.02),
    "json": Campaign(documents.start, 150, 2000, None, 0.05),
    "archive": Campaign(downloads.start_archives, 100, 1000, None, 0.05),
    "fetch": Campaign(downloads.start_fetching, 80, 500, None, 0.05),
    "workbench": Campaign(workbench.start, 60, 500, 1, 0.05),
    "random graphs": Campaign(random_graphs.start, 4, 300, 1, 0.8),
    "odd models": Campaign(odd_models.start, 4, 200, 1, 0.2),
}
