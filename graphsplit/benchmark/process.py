"""The process of one side of a measurement: the whole model, or its sections. See `graphsplit.benchmark.side`.

TensorFlow creates its thread pool for the inside of ops once in a process. The whole gets all cores and each section its
share, so each side gets a process. They take turns: this one works only between a line on stdin and its answer.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from graphsplit.benchmark.side import FEEDS, WHOLE, Loaded, Run, decoded
from graphsplit.errors import GraphSplitError
from graphsplit.execution.options import RunOptions
from graphsplit.execution.pipeline import Pipeline
from graphsplit.formats import load
from graphsplit.inference.feeds import Feeds
from graphsplit.inference.sessions import open_session
from graphsplit.parts.manifest import load_parts
from graphsplit.runtimes.arrays import Array, error_text
from graphsplit.runtimes.tensorflow import transfer_times

__all__ = ["main"]


def main() -> int:
    """Read requests from stdin and answer them until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    side: _Whole | _Sections | None = None
    answer: object
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                folder = Path(request["load"])
                feeds = pickle.loads((folder / FEEDS).read_bytes())
                side = (_Whole if request["side"] == "whole" else _Sections)(folder, feeds, decoded(request["options"]))
                answer = side.loaded
            else:
                answer = side.run(request["run"], request["frames"]) if side is not None else {"error": "nothing is loaded"}
        except GraphSplitError as error:
            answer = {"error": str(error)}
        except Exception as error:  # every runtime has its own kinds
            answer = {"error": error_text(error)}
        print(json.dumps(answer), file=answers, flush=True)
    if isinstance(side, _Sections):
        side.pipeline.close()
    return 0


class _Whole:
    """The whole model, in a session with all cores."""

    def __init__(self, folder: Path, feeds: Feeds, options: RunOptions) -> None:
        outputs = load_parts(folder).outputs
        session = open_session(load(folder / WHOLE), trust=options.get("trust", False), threads=os.cpu_count(), outputs=outputs)
        call = session.prepare(list(feeds), list(outputs))
        values = list(feeds.values())
        self._call: Callable[[], object] = lambda: call(values)
        self._call()
        self.loaded = Loaded(devices={}, transfer={})

    def run(self, mode: str, frames: int) -> Run:
        return _timed(self._call, frames)


class _Sections:
    """The sections, as stages of a pipeline and one at a time."""

    def __init__(self, folder: Path, feeds: Feeds, options: RunOptions) -> None:
        parts = load_parts(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where sections really run is part of the answer
            self.pipeline = Pipeline(parts, **options)
        self._feeds = {tensor: feeds[tensor] for tensor in parts.inputs if tensor in feeds}
        self._stages = {s.name: s for s in self.pipeline.stages}
        self.loaded = Loaded(devices={name: s.device for name, s in self._stages.items()}, transfer={})
        self.pipeline.warm_up(self._feeds)
        self._values: dict[str, list[Array | None]] = {}
        known = dict(self._feeds)
        for stage, part in zip(self.pipeline.stages, parts, strict=True):
            self._values[stage.name] = stage.values(known)
            known.update(zip(stage.outputs, stage.call(self._values[stage.name]), strict=True))
            if "gpu" in stage.device.lower():
                fed = {p.name: known[p.tensor] for p in part.inputs if p.tensor in known}
                times = transfer_times(part.graph_def, stage.device, fed, [p.name for p in part.outputs])
                self.loaded["transfer"][stage.name] = times

    def run(self, mode: str, frames: int) -> Run:
        if mode in self._values:
            return _timed(lambda: self._stages[mode].call(self._values[mode]), frames)
        statistics = self.pipeline.statistics
        statistics.clear()
        depth = 1 if mode == "sequential" else None
        for _ in self.pipeline.stream((self._feeds for _ in range(frames)), depth=depth):
            pass
        start = statistics.recent[0].asked
        timeline = [[(a - start, b - start) for a, b in t.stages] for t in statistics.recent][-24:]
        return Run(seconds=statistics.elapsed, latencies=[t.latency for t in statistics.recent], timeline=timeline)


def _timed(call: Callable[[], object], frames: int) -> Run:
    latencies = []
    started = perf_counter()
    for _ in range(frames):
        before = perf_counter()
        call()
        latencies.append(perf_counter() - before)
    return Run(seconds=perf_counter() - started, latencies=latencies, timeline=[])


if __name__ == "__main__":
    sys.exit(main())
