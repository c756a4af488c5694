"""Sections as stages: every device has something to do while the others work on other frames.

    frame    0      1      2      3
    main   ──█──  ──█──  ──█──  ──█──            one thread a stage, each with a session of its own
    post          ──▒──  ──▒──  ──▒──  ──▒──     frame t is in main while frame t−1 is in post

The caller's thread hands frames in and takes results out; at most `depth` frames are in flight, so nothing grows. What
a stage makes is passed on by reference.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from os import PathLike
from queue import SimpleQueue
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, get_args

from graphsplit.errors import FeedError, GraphSplitError, SectionRunError
from graphsplit.execution.latest import Newest
from graphsplit.execution.metrics import FrameTimes, Statistics
from graphsplit.execution.stages import Stage, open_sections
from graphsplit.inference.endpoints import GivenCluster
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.arrays import error_text

__all__ = ["Pipeline"]

Values = dict[str, Any]
Policy = Literal["block", "latest"]


@dataclass
class _Frame:
    """A frame on its way: the tensors that exist so far, when it entered and left each stage."""

    number: int
    values: Values
    times: FrameTimes
    error: BaseException | None = None
    stage: Stage | None = None
    ends: bool = False  # no frame, but a mark that goes through all stages behind the last one


class _Feeder:
    """Reads the source of a stream in a thread of its own, so that a slow source holds up no result.

    slots  one for each frame that may be in flight; taken before the source is asked, given back by the consumer
    """

    def __init__(self, pipeline: Pipeline, feeds: Iterable[Mapping[str, Any]], depth: int) -> None:
        self.slots = threading.Semaphore(depth)
        self._pipeline, self._feeds = pipeline, feeds
        self._stopped = False
        self._lock = threading.Lock()
        threading.Thread(target=self._read, name="graphsplit-source", daemon=True).start()

    def _read(self) -> None:
        end = _Frame(-1, {}, FrameTimes(0.0, 0.0), ends=True)
        try:
            source = iter(self._feeds)
            for number in count():
                self.slots.acquire()
                if self._stopped:
                    return
                asked = perf_counter()
                try:
                    feed = next(source)
                except StopIteration:
                    break
                self._put(self._pipeline._frame(number, feed, asked))
        except BaseException as error:
            end.error = error
        finally:
            self._put(end)

    def _put(self, frame: _Frame) -> None:
        with self._lock:
            if not self._stopped:
                self._pipeline._doors[0].put(frame)

    def stop(self) -> None:
        """Nothing enters the pipeline any more. A source that blocks for ever keeps only its own daemon thread."""
        with self._lock:
            self._stopped = True
        self.slots.release()


class Pipeline:
    """Sections at work, each in a thread of its own.

    with Pipeline(parts) as pipe:
        out = pipe.run({"image_tensor:0": image})            # one request: {tensor: array}
        for out in pipe.stream({"image_tensor:0": i} for i in images):
            …                                                # in order, none lost

    parts      from `graphsplit.split` or `graphsplit.load_parts`
    devices    section → device, over what the parts say; ``/job:NAME/task:N/gpu:0`` is a device of a worker
    cluster    where the workers are: {"job": ["host:port", …]}, or the path of such a JSON file. `graphsplit worker` starts one
    target     ``grpc://host:port`` of the worker that is asked for all of them (default: each is asked itself)
    depth      how many frames may be in flight (default: two for each stage)
    threads    threads of each section's own pool (default: the processor's cores shared between the sections that run on
               the CPU)
    strict     PlacementError for a device that is not there; else it runs on the CPU and one warning says so
    trust      run parts that reach files, the network or Python
    config     a ``tf.compat.v1.ConfigProto`` to start from (logical devices …); its ``operation_timeout_in_ms`` is how long a
               run on a worker may take (default: a minute). A worker that ends is noticed within seconds
    delegates  section → path of a TFLite delegate, a library that takes it to an accelerator
    stages     stages to run instead of those made from `parts`; for tests and other runtimes

    Raises PlacementError (also for a worker that does not answer), TrustError, FormatError.
    """

    def __init__(
        self,
        parts: Parts | None = None,
        *,
        devices: Mapping[str, str] | None = None,
        cluster: GivenCluster | None = None,
        target: str | None = None,
        depth: int | None = None,
        threads: int | None = None,
        strict: bool = False,
        trust: bool = False,
        config: Any = None,
        delegates: Mapping[str, str | PathLike[str]] | None = None,
        stages: Sequence[Stage] | None = None,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> None:
        if stages is None:
            if parts is None:
                raise TypeError("parts or stages are needed")
            stages = open_sections(
                parts.sections,
                devices=devices,
                cluster=cluster,
                target=target,
                threads=threads,
                strict=strict,
                trust=trust,
                config=config,
                delegates=delegates,
            )
        self.stages = tuple(stages)
        self.inputs = tuple(inputs if inputs is not None else parts.inputs if parts is not None else self.stages[0].inputs)
        self.outputs = tuple(outputs if outputs is not None else parts.outputs if parts is not None else self.stages[-1].outputs)
        self.depth = 2 * len(self.stages) if depth is None else depth
        if self.depth < 1:
            raise ValueError(f"depth is how many frames may be in flight, at least 1, not {depth}")
        self.statistics = Statistics(tuple(s.name for s in self.stages))
        self._doors: list[SimpleQueue[_Frame | None]] = [SimpleQueue() for _ in self.stages]
        self._done: SimpleQueue[_Frame] = SimpleQueue()
        self._drop = _last_uses(self.stages, self.outputs)
        self._busy = threading.Lock()
        self._closed = self._discarding = False
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"graphsplit-{s.name}", daemon=True)
            for i, s in enumerate(self.stages)
        ]
        for thread in self._threads:
            thread.start()

    # what callers do

    def run(self, feeds: Mapping[str, Any]) -> Values:
        """One request through all sections: {tensor: array} of the whole's outputs. Raises FeedError, SectionRunError."""
        with self._exclusive():
            frame = self._frame(0, feeds, perf_counter())
            try:
                self._doors[0].put(frame)
                frame = self._done.get()
            except BaseException:
                self._let_out()
                raise
            return self._result(frame)

    def stream(self, feeds: Iterable[Mapping[str, Any]], *, policy: Policy = "block") -> Iterator[Values]:
        """Many requests: their outputs in the same order, each as soon as it is there.

        feeds   is iterated over in a thread of its own, never more than `depth` ahead of what has been taken
        policy  "block": the source waits, no frame is lost (files);
                "latest": the source is read as fast as it gives and the newest frame wins (cameras); one frame for each
                stage is in flight, and `statistics.dropped` counts the others

        Raises FeedError for feeds that lack an input, SectionRunError (with section, device and frame) when a section
        fails, and whatever iterating over `feeds` raises. After an error of a section the pipeline is closed.
        """
        with self._exclusive():
            yield from self._stream(feeds, policy)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise GraphSplitError("the pipeline is in use by another stream; one at a time, or open another pipeline")
        try:
            self._check_open()
            yield
        finally:
            self._busy.release()

    def _stream(self, feeds: Iterable[Mapping[str, Any]], policy: Policy) -> Iterator[Values]:
        if policy not in get_args(Policy):
            raise ValueError(f"policy is one of {', '.join(get_args(Policy))}, not {policy!r}")
        newest = Newest(feeds) if policy == "latest" else None
        depth = self.depth if newest is None else min(self.depth, len(self.stages))
        ended = False
        feeder = _Feeder(self, feeds if newest is None else newest, depth)
        try:
            while True:
                frame = self._done.get()
                if newest is not None:
                    self.statistics.dropped = newest.dropped
                if frame.ends:
                    ended = True
                    if frame.error is not None:
                        raise frame.error
                    return
                yield self._result(frame)
                feeder.slots.release()
        finally:
            feeder.stop()
            if newest is not None:
                newest.close()
                self.statistics.dropped = newest.dropped
            # A consumer that stops early leaves frames in flight; they are let out, so that the next stream starts clean.
            if not ended and not self._closed:
                self._let_out()

    def warm_up(self, feeds: Mapping[str, Any]) -> None:
        """Run once and forget: the first run of a session is slow, and should not count.

        Stages whose inputs are fed, or have a known shape, make their first run at the same time.
        """
        with self._exclusive():
            made = [[_example(s, t, feeds) for t in s.inputs] for s in self.stages]
            ready = [(s, values) for s, values in zip(self.stages, made, strict=True) if all(v is not None for v in values)]
            threads = [threading.Thread(target=_try, args=(s, values), daemon=True) for s, values in ready]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.run(feeds)
        self.statistics.clear()

    def close(self) -> None:
        """End all threads and release all sessions. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for door in self._doors:
            door.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        for stage in self.stages:
            stage.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # inside

    def _check_open(self) -> None:
        if self._closed:
            raise GraphSplitError("the pipeline is closed; open another one")

    def _frame(self, number: int, feed: Mapping[str, Any], asked: float) -> _Frame:
        missing = [f"{t!r} is not fed" for t in self.inputs if t not in feed]
        if missing:
            raise FeedError(missing)
        return _Frame(number, dict(feed), FrameTimes(asked, perf_counter()))

    def _let_out(self) -> None:
        """Empty the stages without running what still waits. Ended by a mark, not by a count: ^C may have spoilt that one."""
        mark = _Frame(-1, {}, FrameTimes(0.0, 0.0), ends=True)
        self._discarding = True
        self._doors[0].put(mark)
        while self._done.get() is not mark:
            pass
        self._discarding = False

    def _work(self, number: int) -> None:
        """The life of a stage: take a frame, run it, hand it on. An error travels with its frame."""
        stage = self.stages[number]
        door = self._doors[number]
        following = self._doors[number + 1] if number + 1 < len(self._doors) else self._done
        while (frame := door.get()) is not None:
            if not frame.ends and frame.error is None and not self._closed and not self._discarding:
                started = perf_counter()
                try:
                    values = frame.values
                    made = stage.call([values[t] for t in stage.inputs])
                    values.update(zip(stage.outputs, made, strict=True))
                    for tensor in self._drop[number]:
                        values.pop(tensor, None)
                except BaseException as error:
                    frame.error, frame.stage = error, stage
                frame.times.stages.append((started, perf_counter()))
            following.put(frame)

    def _result(self, frame: _Frame) -> Values:
        if frame.error is not None:
            self.close()
            stage = frame.stage
            if stage is None or not isinstance(frame.error, Exception):
                raise frame.error
            what = f"section {stage.name!r} on {stage.device} failed at frame {frame.number}: {error_text(frame.error)}"
            raise SectionRunError(what, section=stage.name) from frame.error
        frame.times.left = perf_counter()
        self.statistics.add(frame.times)
        return {t: frame.values[t] for t in self.outputs}


def _example(stage: Stage, tensor: str, feeds: Mapping[str, Any]) -> Any:
    """A value for an input of a stage: what is fed, or zeros; None where the shape is not known."""
    if tensor in feeds:
        return feeds[tensor]
    if tensor not in stage.shapes:
        return None
    import numpy as np

    dtype, shape = stage.shapes[tensor]
    return np.zeros(shape, dtype)


def _try(stage: Stage, values: list[Any]) -> None:
    with suppress(Exception):  # zeros may be no legal input; the real run that follows tells what is wrong
        stage.call(values)


def _last_uses(stages: Sequence[Stage], outputs: Sequence[str]) -> list[tuple[str, ...]]:
    """For each stage the tensors that nobody needs after it, so that a frame does not carry them further."""
    kept = set(outputs)
    drop: list[tuple[str, ...]] = []
    for stage in reversed(stages):
        gone = tuple(t for t in dict.fromkeys((*stage.inputs, *stage.outputs)) if t not in kept)
        kept.update(stage.inputs)
        drop.append(gone)
    return drop[::-1]
