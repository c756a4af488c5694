"""One side of a measurement, in a process of its own: the whole model, or its sections.

TensorFlow makes its thread pool for the inside of ops once in a process. The whole is to have all cores and each section
its share, so each side gets a process. They take turns: this one works only between a line on stdin and its answer.

    {"load": FOLDER, "side": "whole" | "sections", "threads": N, "trust": …, "delegates": …}  →  {"devices": {…}}
    {"run": "whole" | "sequential" | "pipelined" | SECTION, "frames": N}        →  {"seconds": …, "latencies": […], …}

FOLDER holds whole (the model), a split, and feeds.npz (`graphsplit.benchmark.measure` writes it).
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from graphsplit.errors import GraphSplitError
from graphsplit.execution.pipeline import Pipeline
from graphsplit.formats import load
from graphsplit.inference.sessions import open_session
from graphsplit.parts.manifest import load_parts
from graphsplit.runtimes.tensorflow import transfer_times

__all__ = ["main"]

Answer = dict[str, Any]


def main() -> int:
    """Read requests from stdin and answer them until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print must not get between the answers
    side: _Whole | _Sections | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                folder = Path(request["load"])
                feeds = dict(np.load(folder / "feeds.npz"))
                if request["side"] == "whole":
                    side = _Whole(folder, feeds, request["trust"])
                else:
                    side = _Sections(folder, feeds, {key: request[key] for key in ("threads", "trust", "delegates")})
                answer: Answer = {"devices": side.devices, "transfer": side.transfer}
            else:
                answer = side.run(request["run"], request["frames"]) if side is not None else {"error": "nothing is loaded"}
        except GraphSplitError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
    if isinstance(side, _Sections):
        side.pipeline.close()
    return 0


class _Whole:
    """The whole model, in a session with all cores."""

    def __init__(self, folder: Path, feeds: Mapping[str, Any], trust: bool) -> None:
        parts = load_parts(folder)
        session = open_session(load(folder / "whole"), trust=trust, threads=os.cpu_count())
        call = session.prepare(list(feeds), list(parts.outputs))
        values = list(feeds.values())
        self.call: Callable[[], object] = lambda: call(values)
        self.call()
        self.devices: dict[str, str] = {}
        self.transfer: dict[str, Any] = {}

    def run(self, mode: str, frames: int) -> Answer:
        return _timed(self.call, frames)


class _Sections:
    """The sections, as stages of a pipeline and one at a time."""

    def __init__(self, folder: Path, feeds: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        parts = load_parts(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where sections really run is part of the answer
            self.pipeline = Pipeline(parts, **options)
        self.feeds = dict(feeds)
        self.devices = {s.name: s.device for s in self.pipeline.stages}
        self.pipeline.warm_up(self.feeds)
        self.values: dict[str, list[Any]] = {}
        self.transfer: dict[str, Any] = {}
        known = dict(self.feeds)
        for stage, part in zip(self.pipeline.stages, parts, strict=True):
            self.values[stage.name] = [known[t] for t in stage.inputs]
            known.update(zip(stage.outputs, stage.call(self.values[stage.name]), strict=True))
            if "gpu" in stage.device.lower():
                fed = {p.name: known[p.tensor] for p in part.inputs}
                self.transfer[stage.name] = transfer_times(part.graph_def, stage.device, fed, [p.name for p in part.outputs])

    def run(self, mode: str, frames: int) -> Answer:
        if mode in self.values:
            stage = next(s for s in self.pipeline.stages if s.name == mode)
            return _timed(lambda: stage.call(self.values[mode]), frames)
        statistics = self.pipeline.statistics
        statistics.clear()
        depth = 1 if mode == "sequential" else None
        for _ in self.pipeline.stream((self.feeds for _ in range(frames)), depth=depth):
            pass
        start = statistics.recent[0].asked
        timeline = [[(a - start, b - start) for a, b in t.stages] for t in statistics.recent][-24:]
        latencies = [t.latency for t in statistics.recent]
        return {"seconds": statistics.elapsed, "latencies": latencies, "timeline": timeline}


def _timed(call: Callable[[], object], frames: int) -> Answer:
    times = []
    started = perf_counter()
    for _ in range(frames):
        before = perf_counter()
        call()
        times.append(perf_counter() - before)
    return {"seconds": perf_counter() - started, "latencies": times}


if __name__ == "__main__":
    sys.exit(main())
