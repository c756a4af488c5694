"""Runs the cases of a campaign in a worker process that may die, hang, print or eat memory: each of these is a fall.

supervisor ── seed ──▶ worker    python -m tests.attack.worker CAMPAIGN SAMPLES PLACE
           ◀── JSON ──           a case a line: what came of it, or how it fell
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BUILDING", "NATIVE", "SECONDS", "Fall", "Outcome", "build_samples", "run"]

ROOT = Path(__file__).parents[2]
SECONDS = 20.0  # that a case may take
NATIVE = 240.0  # that a case may take whose shapes are inferred and whose proof runs: both have deadlines of their own
BUILDING = "building"  # a file in a worker's place while TensorFlow builds a case: if it dies then, nothing of ours has fallen
_START = 240.0
_MOST = 3000  # cases of one worker


@dataclass(frozen=True)
class Fall:
    """A case that fell: `python -m tests.attack CAMPAIGN --count 1 --first SEED` repeats it."""

    campaign: str
    seed: int
    fault: str


@dataclass
class Outcome:
    """What came of a campaign.

    Attributes:
        campaign: Its name.
        tried: Number of cases.
        ends: How often each end was seen: "fine", or the class of an error of the library.
        falls: The cases that fell.
    """

    campaign: str
    tried: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    falls: list[Fall] = field(default_factory=list)

    def __str__(self) -> str:
        ends = ", ".join(f"{end} {count:,}" for end, count in self.ends.most_common())
        return f"{self.campaign}: tried {self.tried:,}, fallen {len(self.falls):,} ({ends})"


def build_samples(folder: Path) -> Path:
    """Write the legal files that are changed, in a process of its own; the folder."""
    command = [sys.executable, "-m", "tests.attack.samples", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=_environment(folder), capture_output=True, text=True, timeout=_START, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return folder


def run(
    campaign: str,
    count: int,
    *,
    first: int = 0,
    samples: Path,
    place: Path,
    seconds: Callable[[int], float] = lambda seed: SECONDS,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Try so many cases.

    Args:
        campaign: Name in `tests.attack.campaigns`.
        count: Number of cases.
        first: Seed of the first one.
        samples: As of `build_samples`.
        place: An empty folder to work in.
        seconds: Deadline of a case, by its seed.
        progress: Called after each case.
    """
    outcome = Outcome(campaign)
    seeds = iter(range(first, first + count))
    seed = next(seeds, None)
    number = 0
    while seed is not None:
        number += 1
        worker = _Worker(campaign, samples, place / f"{campaign}{number}")
        try:
            for _ in range(_MOST):
                if seed is None:
                    break
                answer = worker.ask(seed, seconds(seed))
                outcome.tried += 1
                if answer["fault"] is None:
                    outcome.ends[answer["end"]] += 1
                else:
                    outcome.falls.append(Fall(campaign, seed, answer["fault"]))
                progress(outcome)
                seed = next(seeds, None)
                if worker.dead:
                    break
        finally:
            worker.close()
    return outcome


def _environment(folder: Path) -> dict[str, str]:
    home, temporary = folder / "home", folder / "tmp"
    for made in (home, temporary):
        made.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONWARNINGS": "ignore",
        "PYTHONHASHSEED": "0",
    }


class _Worker:
    """A worker process and what it started."""

    def __init__(self, campaign: str, samples: Path, place: Path) -> None:
        place.mkdir(parents=True)
        self.dead = False
        self._place = place
        self._errors = (place / "stderr").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.worker", campaign, str(samples), str(place)],
            cwd=ROOT,
            env=_environment(place),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._lines = self._read()
        if (answer := self._answer(_START))["fault"] is not None:
            self.close()
            raise RuntimeError(f"the worker of {campaign} did not start: {answer['fault']}")

    def ask(self, seed: int, seconds: float) -> dict[str, str | None]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{seed}\n".encode())
            self._process.stdin.flush()
        return self._answer(seconds)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _answer(self, seconds: float) -> dict[str, str | None]:
        end = time.monotonic() + seconds
        for line in self._lines:
            if line:
                return json.loads(line)
            if time.monotonic() > end:
                self.dead = True
                return {"fault": f"no end after {seconds:.0f} seconds"}
        self.dead = True
        status = self._process.wait()
        if (self._place / BUILDING).exists():
            return {"end": "not built", "fault": None}
        self._errors.seek(0)
        return {"fault": f"died with status {status}: {self._errors.read()[-1500:].decode(errors='replace')}"}

    def _read(self) -> Iterator[bytes]:
        """The lines that the worker writes; an empty one for each second without."""
        assert self._process.stdout is not None
        rest = b""
        while True:
            if not select.select([self._process.stdout], [], [], 1.0)[0]:
                yield b""
                continue
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from (line for line in lines if line)
