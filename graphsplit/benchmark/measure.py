"""Does splitting pay? Whole, sections one after the other, sections as a pipeline, in interleaved rounds of one run.

    round 1: whole │ main │ post │ sequential │ pipelined      round 2: whole │ main │ …

The machine's speed drifts; rounds let every mode see the same drift. The whole gets all cores, each section its share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Literal

import numpy as np

from graphsplit.errors import GraphSplitError
from graphsplit.execution.metrics import percentile
from graphsplit.formats import Model
from graphsplit.inference.sessions import check_runnable
from graphsplit.parts.folder import save
from graphsplit.parts.parts import Parts

__all__ = ["BenchReport", "Mode", "bench"]

_ROUNDS = 5
_WORTH_IT = 1.05  # pipelined against whole, from which on splitting is advised; below, noise could as well decide


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the model: frames per second (median of the rounds), latency of a frame in milliseconds."""

    fps: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured.

    sections    section → median milliseconds alone
    devices     section → where it really ran
    efficiency  pipelined fps × seconds of the slowest section: 1 is what no pipeline can beat
    ratio       pipelined against whole, median of the rounds
    transfer    section → {"device_ms", "copy_ms"} where TensorFlow can tell them apart (GPUs)
    timeline    frame → (start, end) in each section, seconds, of the last pipelined round
    """

    whole: Mode
    sequential: Mode
    pipelined: Mode
    sections: Mapping[str, float]
    devices: Mapping[str, str]
    efficiency: float
    ratio: float
    verdict: Literal["split", "do not split"]
    reason: str
    frames: int
    threads: int | None
    transfer: Mapping[str, Any] = field(default_factory=dict)
    timeline: tuple[tuple[tuple[float, float], ...], ...] = field(default=(), repr=False)


def bench(
    model: Model,
    parts: Parts,
    feeds: Mapping[str, Any],
    *,
    frames: int = 100,
    threads: int | None = None,
    trust: bool = False,
    delegates: Mapping[str, str] | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> BenchReport:
    """Measure a split.

    feeds      {tensor: array}, one frame; the same one is run again and again
    frames     for each mode, over all rounds
    threads    threads of each section's own pool (default: the cores shared between sections on the CPU)
    delegates  section → TFLite delegate
    progress   called with the number of measurements done and to do

    Raises TrustError, and GraphSplitError when a side fails to run.
    """
    for runnable in (model, *(p.model for p in parts)):
        check_runnable(runnable, trust)
    names = [p.name for p in parts]
    each = max(2, frames // _ROUNDS)
    modes = ["whole", *names, "sequential", "pipelined"]
    found: dict[str, list[dict[str, Any]]] = {m: [] for m in modes}
    with tempfile.TemporaryDirectory(prefix="graphsplit-bench-") as temporary:
        folder = Path(temporary)
        save(parts, folder)
        model.save(folder / "whole")
        arrays: dict[str, Any] = {k: np.asarray(v) for k, v in feeds.items()}
        np.savez(folder / "feeds.npz", **arrays)
        load = {"load": str(folder), "threads": threads, "trust": trust, "delegates": dict(delegates or {})}
        with _Side("whole", load) as whole, _Side("sections", load) as sections:
            for number in range(_ROUNDS):
                for place, mode in enumerate(modes):
                    found[mode].append((whole if mode == "whole" else sections).ask({"run": mode, "frames": each}))
                    progress(number * len(modes) + place + 1, _ROUNDS * len(modes))
            devices, transfer = sections.loaded["devices"], sections.loaded["transfer"]
    return _report(found, names, each, devices, transfer, threads)


def _report(
    found: Mapping[str, list[dict[str, Any]]],
    names: list[str],
    each: int,
    devices: Mapping[str, str],
    transfer: Mapping[str, Any],
    threads: int | None,
) -> BenchReport:
    def mode(name: str) -> Mode:
        latencies = [1000 * t for r in found[name] for t in r["latencies"]]
        return Mode(median(each / r["seconds"] for r in found[name]), percentile(latencies, 0.5), percentile(latencies, 0.95))

    sections = {n: 1000 * percentile([t for r in found[n] for t in r["latencies"]], 0.5) for n in names}
    whole, pipelined = mode("whole"), mode("pipelined")
    slowest = max(sections, key=lambda n: sections[n])
    ratio = median(w["seconds"] / p["seconds"] for w, p in zip(found["whole"], found["pipelined"], strict=True))
    efficiency = median(
        each / p["seconds"] * percentile(s["latencies"], 0.5) for p, s in zip(found["pipelined"], found[slowest], strict=True)
    )
    verdict: Literal["split", "do not split"] = "split" if ratio >= _WORTH_IT and len(names) > 1 else "do not split"
    return BenchReport(
        whole=whole,
        sequential=mode("sequential"),
        pipelined=pipelined,
        sections=sections,
        devices=devices,
        efficiency=efficiency,
        ratio=ratio,
        verdict=verdict,
        reason=_reason(verdict, ratio, sections, slowest, devices),
        frames=each * _ROUNDS,
        threads=threads,
        transfer=transfer,
        timeline=tuple(tuple((a, b) for a, b in frame) for frame in found["pipelined"][-1]["timeline"]),
    )


def _reason(verdict: str, ratio: float, sections: Mapping[str, float], slowest: str, devices: Mapping[str, str]) -> str:
    pace = f"the pipeline gives {ratio:.2f} times the frames of the whole"
    share = sections[slowest] / sum(sections.values())
    if len(sections) == 1:
        return "there is only one section, so there is nothing to overlap"
    if verdict == "split":
        return f"{pace}; its pace is that of {slowest} ({sections[slowest]:.1f} ms a frame)"
    if all("cpu" in d.lower() for d in devices.values()):
        cores = os.cpu_count() or 1
        used = "both cores" if cores == 2 else f"all {cores} cores" if cores > 1 else "the one core"
        return f"{pace}: all sections share one processor here, and the whole uses {used} already"
    if share > 0.9:
        return f"{pace}: {slowest} takes {share:.0%} of the time, so there is little to overlap"
    return f"{pace}: what crosses the border costs as much as the overlap gains"


class _Side:
    """A worker process. See `graphsplit.benchmark.process` for what is said to it."""

    def __init__(self, side: str, load: Mapping[str, Any]) -> None:
        self.name = side
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__, with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "graphsplit.benchmark.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        try:
            self.loaded = self.ask({**load, "side": side})
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request and its answer. Raises GraphSplitError when the worker fails."""
        given, taken = self._process.stdin, self._process.stdout
        line = ""
        if given is not None and taken is not None:
            try:
                given.write(json.dumps(request) + "\n")
                given.flush()
                line = taken.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise GraphSplitError(f"measuring {self.name} failed: {last[0] if last else 'its process ended'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise GraphSplitError(f"measuring {self.name} failed: {answer['error']}")
        return answer

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10 if kind is None else 1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
