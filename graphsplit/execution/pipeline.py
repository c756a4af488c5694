"""Sections as stages: every device has work while the others are busy with other frames.

    frame    0      1      2      3
    main   ──█──  ──█──  ──█──  ──█──            one thread a stage, each with its own session
    post          ──▒──  ──▒──  ──▒──  ──▒──     frame t is in main while frame t−1 is in post

The caller's thread hands frames in and takes results out; at most `depth` frames are in flight, so nothing grows. The
outputs of a stage are passed on by reference.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from graphsplit.errors import FeedError, GraphSplitError
from graphsplit.execution.flow import examples, fed_specs, last_uses
from graphsplit.execution.frames import Feeder, Frame
from graphsplit.execution.latest import Newest
from graphsplit.execution.metrics import FrameTimes, Statistics
from graphsplit.execution.options import RunOptions
from graphsplit.execution.stages import Stage, open_sections
from graphsplit.formats import ModelLike
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
        self._doors: list[SimpleQueue[Frame | None]] = [SimpleQueue() for _ in self.stages]
        self._done: SimpleQueue[Frame] = SimpleQueue()
        self._drop = last_uses(self.stages, self.outputs)
        self._busy, self._closing = threading.Lock(), threading.Lock()
        self._feeder: Feeder | None = None
        self._draining: threading.Thread | None = None
        self._closed = self._discarding = False
        self._failure = ""
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"graphsplit-{s.name}", daemon=True)
            for i, s in enumerate(self.stages)
        ]
        for thread in self._threads:
            thread.start()

    def __repr__(self) -> str:
        sections = shortened(" → ".join(f"{s.name} {s.device}" for s in getattr(self, "stages", ())), 200)
        return f"{type(self).__name__}({sections}{', closed' if getattr(self, '_closed', True) else ''})"

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
                self._doors[0].put(Frame(0, values, FrameTimes(asked, perf_counter())))
                frame = self._done.get()
            except BaseException:
                self._drain()
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
            fed = check_feeds(self._specs, feeds)
            threads = [
                threading.Thread(target=_try, args=(stage, values), daemon=True)
                for stage in self.stages
                if (values := examples(stage, fed)) is not None
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.run(feeds)
        self.statistics.clear()

    def finish(self) -> None:
        """End the current stream early, from any thread: no more feeds are taken from its source, frames in flight still come."""
        feeder = self._feeder
        if feeder is not None:
            feeder.finish()

    def close(self) -> None:
        """End all threads and release all sessions. A call that waits for a frame in another thread ends with an error.

        May be called twice.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._done.put(Frame.sentinel(GraphSplitError("the pipeline was closed while frames were in flight")))
        for door in self._doors:
            door.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        for stage in self.stages:
            stage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # inside

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise GraphSplitError("the pipeline is in use by another stream; one at a time, or open another pipeline")
        try:
            draining, self._draining = self._draining, None
            if draining is not None:
                draining.join()
            self._check_open()
            yield
        finally:
            self._busy.release()

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> GraphSplitError:
        why = f" because {shortened(self._failure, _LONGEST)}" if self._failure else ""
        return GraphSplitError(f"the pipeline is closed{why}; open another one")

    def _stream(self, feeds: Iterable[Mapping[str, object]], policy: Policy, depth: int) -> Iterator[dict[str, Array]]:
        with self._exclusive():
            newest = Newest(self._copies(feeds)) if policy == "latest" else None
            if newest is not None:
                depth = min(depth, len(self.stages))
            feeder = self._feeder = Feeder(self._copies(feeds) if newest is None else newest, self._doors[0].put, depth)
            ended = False
            try:
                feeder.start()
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
                    feeder.release()
            finally:
                self._feeder = None
                feeder.stop()
                if newest is not None:
                    newest.close()
                    self.statistics.dropped = newest.dropped
                # A consumer that stops early leaves frames in flight; without them the next stream starts clean.
                if not ended and threading.current_thread() in self._threads:
                    # A generator that was let go may be collected in the thread of a stage, which must not wait for itself.
                    self._draining = threading.Thread(target=self._drain, name="graphsplit-drain", daemon=True)
                    self._draining.start()
                elif not ended:
                    self._drain()

    def _copies(self, feeds: Iterable[Mapping[str, object]]) -> Iterator[Feeds]:
        """Checked copies of feeds, so that the source may reuse its buffers for the next ones."""
        for feed in feeds:
            yield check_feeds(self._specs, feed, copy=True)

    def _drain(self) -> None:
        """Discard queued frames. A sentinel ends it, because an interrupt may have made the frame count wrong."""
        sentinel = Frame.sentinel()
        self._discarding = True
        self._doors[0].put(sentinel)
        while not self._closed and self._done.get() is not sentinel:
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
                    outputs = stage.call(stage.values(values))
                    values.update(zip(stage.outputs, outputs, strict=True))
                    for tensor in self._drop[number]:
                        values.pop(tensor, None)
                except BaseException as error:
                    frame.error, frame.stage = error, stage
                frame.times.stages.append((started, perf_counter()))
            following.put(frame)

    def _result(self, frame: Frame) -> dict[str, Array]:
        if frame.ends:  # the pipeline was closed by another thread
            raise frame.error or self._closed_error()
        if frame.error is not None:
            stage = frame.stage
            if stage is None or not isinstance(frame.error, Exception):
                self._failure = f"of {type(frame.error).__name__}: {frame.error}"
                self.close()
                raise frame.error
            what, did = f"section {stage.name!r} on {stage.device}", f"failed at frame {frame.number}"
            failed = run_error(frame.error, what, stage.name, did=did)
            self._failure = str(failed)
            self.close()
            raise failed from frame.error
        frame.times.left = perf_counter()
        self.statistics.add(frame.times)
        return {t: frame.values[t] for t in self.outputs}


def _try(stage: Stage, values: list[Array | None]) -> None:
    with suppress(Exception):  # zeros may be invalid input; the real run that follows reports what is wrong
        stage.call(values)
