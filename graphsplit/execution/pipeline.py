"""Sections as stages: every device has work while the others are busy with other frames.

    frame    0      1      2      3
    main   ──█──  ──█──  ──█──  ──█──            one thread a stage, each with its own session
    post          ──▒──  ──▒──  ──▒──  ──▒──     frame t is in main while frame t−1 is in post

The caller's thread hands frames in and takes results out; at most `depth` frames are in flight, so nothing grows. The
outputs of a stage are passed on by reference.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from graphsplit.errors import FeedError, GraphSplitError
from graphsplit.execution.engine import Engine
from graphsplit.execution.flow import examples, fed_specs, last_uses
from graphsplit.execution.frames import Feeder, Frame
from graphsplit.execution.latest import Newest
from graphsplit.execution.metrics import FrameTimes, Statistics
from graphsplit.execution.options import RunOptions
from graphsplit.execution.stages import Stage, open_sections
from graphsplit.execution.threads import check_process
from graphsplit.formats import ModelLike
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.options import check_choice, check_count, check_options
from graphsplit.graph.text import shortened
from graphsplit.inference.feeds import Feeds, check_feeds
from graphsplit.inference.sessions import run_error
from graphsplit.parts.parts import Parts
from graphsplit.rewrites.opening import open_parts
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Pipeline", "Policy"]

#: What to do if the source of a stream is faster than the pipeline: let it wait, or drop all frames but the newest.
Policy = Literal["block", "latest"]

_LONGEST = 300  # characters of the error that closed a pipeline, in later ones


class Pipeline:
    """Sections at work, each in its own thread.

        with Pipeline(parts) as pipe:
            out = pipe.run({"image_tensor:0": image})            # one request: {tensor: array}
            for out in pipe.stream({"image_tensor:0": i} for i in images):
                …                                                # in order, none lost

    It ends with `close`, with its block, when it is garbage-collected (with a ResourceWarning), and when the interpreter exits:
    calls that are running are waited for 4 seconds, then cancelled where the runtime can (TensorFlow), and waited for as long
    again. A source that blocks forever keeps only its own thread. A process that was forked cannot use it.

    Args:
        parts: From `graphsplit.split`, the folder of a split, or anything that `graphsplit.load` takes, which is split first.
        depth: How many frames may be in flight (default: two for each stage).
        **options: devices, cluster, target, threads, strict, trust, config and delegates; see
            `graphsplit.execution.options.RunOptions`. A worker that ends is noticed within seconds.

    Attributes:
        stages: The sections; `device` of each is where it really runs.
        inputs: Tensors to feed; those that have a default may be left out.
        outputs: Tensors that are returned.
        statistics: Times of the frames.

    Raises:
        SectionNotFoundError: `devices` or `delegates` names a section that does not exist.
        PlacementError: A device is invalid or does not exist (strict), or a worker does not answer.
        TrustError: A section reaches files, the network or Python, and `trust` is not set.
        FormatError: A section is not frozen, or its runtime refuses it.
        OptionError: An unknown option, or a depth below 1.
    """

    def __init__(self, parts: Parts | ModelLike, *, depth: int | None = None, **options: Unpack[RunOptions]) -> None:
        check_options(Pipeline, options, RunOptions)
        check_count("depth", depth)
        parts = open_parts(parts, trust=options.get("trust", False))
        self._start(open_sections(parts.sections, **options), parts.inputs, parts.outputs, depth)

    @classmethod
    def from_stages(
        cls,
        stages: Sequence[Stage],
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        depth: int | None = None,
    ) -> Self:
        """A pipeline of stages that are open already: of other runtimes, of tests, or of `open_sections`.

        Args:
            stages: The stages, in order; the pipeline closes them.
            inputs: Tensors to feed (default: the inputs of the first stage).
            outputs: Tensors to return (default: the outputs of the last stage). One that is neither an input nor computed by a
                stage must be fed, too: it travels with its frame, by reference.
            depth: How many frames may be in flight (default: two for each stage).

        Raises:
            OptionError: A depth below 1.
        """
        check_count("depth", depth)
        pipeline = cls.__new__(cls)
        pipeline._start(stages, stages[0].inputs if inputs is None else inputs, outputs, depth)
        return pipeline

    def _start(self, stages: Sequence[Stage], inputs: Sequence[str], outputs: Sequence[str] | None, depth: int | None) -> None:
        self.stages = tuple(stages)
        self.inputs = tuple(inputs)
        self.outputs = tuple(self.stages[-1].outputs if outputs is None else outputs)
        self.statistics = Statistics(tuple(s.name for s in self.stages))
        self._depth = 2 * len(self.stages) if depth is None else depth
        self._specs = fed_specs(self.stages, self.inputs, self.outputs)
        self._busy = threading.Lock()
        self._leftover: Frame | None = None  # the sentinel after frames that nobody waits for any more
        self._engine = Engine(self.stages, last_uses(self.stages, self.outputs))
        self._finalizer = weakref.finalize(self, _dropped, self._engine, repr(self))
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        sections = shortened(" → ".join(f"{s.name} {s.device}" for s in getattr(self, "stages", ())), 200)
        engine = getattr(self, "_engine", None)
        return f"{type(self).__name__}({sections}{', closed' if engine is None or engine.closed else ''})"

    @property
    def depth(self) -> int:
        """How many frames may be in flight."""
        return self._depth

    # what callers do

    def run(self, feeds: Mapping[str, object]) -> dict[str, Array]:
        """One request through all sections.

        Args:
            feeds: Tensor → array; ``name`` means ``name:0``. Arrays are copied.

        Returns:
            Tensor → array, of the outputs of the whole.

        Raises:
            FeedError: Feeds that do not fit; the pipeline remains usable.
            SectionRunError: A section failed; the pipeline is closed.
            GraphSplitError: The pipeline is closed, or is in use by a stream.
        """
        with self._exclusive():
            asked = perf_counter()
            values = check_feeds(self._specs, feeds, copy=True)
            try:
                self._engine.doors[0].put(Frame(0, values, FrameTimes(asked, perf_counter())))
                frame = self._engine.done.get()
            except BaseException:
                self._discard()
                raise
            return self._result(frame)

    def stream(
        self, feeds: Iterable[Mapping[str, object]], *, policy: Policy = "block", depth: int | None = None
    ) -> Iterator[dict[str, Array]]:
        """Many requests: their outputs in the same order, each as soon as it is available.

        Args:
            feeds: Feeds of each frame, as in `run`. Iterated over in its own thread, never more than `depth` frames ahead of
                what has been taken; arrays are copied before the next ones are asked for, so that a buffer may be reused.
            policy: "block": the source waits and no frame is lost (files). "latest": the source is read as fast as it delivers
                and the newest frame wins (cameras); one frame for each stage is in flight, and `statistics.dropped` counts
                the others.
            depth: How many frames may be in flight (default: the pipeline's depth).

        Yields:
            Tensor → array, of the outputs of the whole.

        Raises:
            OptionError: An unknown policy, or a depth below 1; at the call.
            FeedError: Feeds that do not fit.
            SectionRunError: A section failed (with section, device and frame); the pipeline is closed.
            GraphSplitError: The pipeline is closed, or is in use by another stream.
        """
        check_choice("policy", policy, get_args(Policy))
        check_count("depth", depth)
        if isinstance(feeds, Mapping) or not (hasattr(feeds, "__iter__") or hasattr(feeds, "__getitem__")):
            kind = "one mapping, which run() takes" if isinstance(feeds, Mapping) else type(feeds).__name__
            raise FeedError([f"stream() takes an iterable of feeds, one {{tensor: array}} for each frame, not {kind}"])
        self._check_open()
        return self._stream(feeds, policy, self._depth if depth is None else depth)

    def warm_up(self, feeds: Mapping[str, object]) -> None:
        """Run once and discard the result: the first run of a session is slow, and should not count.

        Stages whose inputs are fed, or have a known shape, make their first run at the same time.

        Args:
            feeds: As in `run`.

        Raises:
            FeedError: Feeds that do not fit.
            SectionRunError: A section failed; the pipeline is closed.
        """
        with self._exclusive():
            engine, fed = self._engine, check_feeds(self._specs, feeds)
            trials = [examples(stage, fed) for stage in self.stages]
            try:
                for stage, door, values in zip(self.stages, engine.doors, trials, strict=True):
                    if values is not None:
                        there = {t: v for t, v in zip(stage.inputs, values, strict=True) if v is not None}
                        door.put(Frame(0, there, FrameTimes(0.0, 0.0), alone=True))
                for values in trials:  # zeros may be invalid input; the real run that follows reports what is wrong
                    if values is not None and (frame := engine.done.get()).ends:
                        raise frame.error or self._closed_error()
            except BaseException:
                self._discard()
                raise
        self.run(feeds)
        self.statistics.clear()

    def finish(self) -> None:
        """End the current stream early, from any thread: no more feeds are taken from its source, frames in flight still come."""
        self._check_process()
        feeder = self._engine.feeder
        if feeder is not None:
            feeder.finish()

    def close(self) -> None:
        """End all threads and release all sessions, within 8 seconds. What waits for a frame in another thread ends with an error.

        May be called again, from any thread and from a signal handler; in a process that was forked it does nothing.
        """
        self._finalizer.detach()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # inside

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._check_process()
        if not self._busy.acquire(blocking=False):
            raise GraphSplitError("the pipeline is in use by another stream; one at a time, or open another pipeline")
        try:
            while self._leftover is not None and not self._engine.closed:
                if self._engine.done.get() is self._leftover:
                    self._leftover, self._engine.discarding = None, False
            self._check_open()
            yield
        finally:
            self._busy.release()

    def _check_process(self) -> None:
        check_process(self._engine.pid, "pipeline")

    def _check_open(self) -> None:
        self._check_process()
        if self._engine.closed:
            raise self._closed_error()

    def _closed_error(self) -> GraphSplitError:
        failure = self._engine.failure
        why = f" because {shortened(failure, _LONGEST)}" if failure else ""
        return GraphSplitError(f"the pipeline is closed{why}; open another one")

    def _stream(self, feeds: Iterable[Mapping[str, object]], policy: Policy, depth: int) -> Iterator[dict[str, Array]]:
        with self._exclusive():
            engine, copies = self._engine, _copies(self._specs, feeds)
            newest = Newest(copies) if policy == "latest" else None
            if newest is not None:
                depth = min(depth, len(self.stages))
            enter = engine.doors[0].put
            feeder = Feeder(copies, enter, depth) if newest is None else Feeder(newest, enter, depth, newest.close)
            ended = False
            try:
                engine.feeder = feeder
                feeder.start()
                while True:
                    self._check_process()
                    frame = engine.done.get()
                    if newest is not None:
                        self.statistics.dropped = newest.dropped
                    if frame.ends:
                        ended = True
                        if frame.error is not None:
                            raise frame.error
                        return
                    yield self._result(frame)
                    feeder.release()
            finally:
                if engine.pid == os.getpid():  # a generator that was forked with its pipeline has nothing to end
                    engine.feeder = None
                    feeder.stop()
                    if newest is not None:
                        self.statistics.dropped = newest.dropped
                    if not ended:
                        self._discard()

    def _discard(self) -> None:
        """Let frames in flight pass without being run. A sentinel ends them, because an interrupt may have made their count wrong.

        The next use waits for it, and not this: a generator that was let go may be collected in the thread of a stage.
        """
        self._engine.discarding = True
        self._leftover = Frame.sentinel()
        self._engine.doors[0].put(self._leftover)

    def _result(self, frame: Frame) -> dict[str, Array]:
        if frame.ends:  # the pipeline was closed by another thread
            raise frame.error or self._closed_error()
        if frame.error is not None:
            stage = frame.stage
            if stage is None or not isinstance(frame.error, Exception):
                self._engine.failure = f"of {type(frame.error).__name__}: {frame.error}"
                self.close()
                raise frame.error
            what, did = f"section {stage.name!r} on {stage.device}", f"failed at frame {frame.number}"
            failed = run_error(frame.error, what, stage.name, did=did)
            self._engine.failure = str(failed)
            self.close()
            raise failed from frame.error
        frame.times.left = perf_counter()
        self.statistics.add(frame.times)
        return {t: frame.values[t] for t in self.outputs}


def _copies(specs: Sequence[TensorSpec], feeds: Iterable[Mapping[str, object]]) -> Iterator[Feeds]:
    """Checked copies of feeds, so that the source may reuse its buffers for the next ones."""
    for feed in feeds:
        yield check_feeds(specs, feed, copy=True)


def _dropped(engine: Engine, what: str) -> None:
    """End the threads of a pipeline that has been garbage-collected, without waiting for them: this may be one of them."""
    if engine.pid == os.getpid() and not engine.closed:
        engine.let_go()
        warnings.warn(f"{what} was never closed; use it in a `with` block, or call close()", ResourceWarning, stacklevel=2)
