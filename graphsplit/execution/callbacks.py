"""Callbacks around a section: where frames come from and where results go, as in the runtimes of accelerators.

    in callback ─▶ [pre] ─▶ main ─▶ [post] ─▶ out callback          each section in its own thread

    runner = AsyncRunner("out/x_main.pb")
    runner.set_postprocessing_model("out/x_post.pb")
    runner.connect_input(next_image)               # an array, several, an iterator of these; None ends the stream
    runner.connect_output(show)                    # one array for each output
    runner.wait()

Sections are joined by the names of their tensors in the whole. The caller feeds what no section computes: the inputs of
pre, then those inputs of main that pre does not compute, then what only post reads. The out callback gets the outputs of
post, then those of main and of pre that no later section reads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from graphsplit.errors import GraphSplitError
from graphsplit.execution.chain import Chain, Role, SectionLike
from graphsplit.execution.options import RunOptions
from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import open_sections
from graphsplit.execution.streams import Stop, Turns, frames_of
from graphsplit.execution.threads import background, check_process
from graphsplit.graph.options import check_count, check_options
from graphsplit.parts.parts import Port
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["AsyncRunner", "MultiStreamRunner"]

# Ctrl-C interrupts a wait without a timeout on POSIX; on Windows it is heard between two timeouts.
_PATIENCE = None if os.name == "posix" else 0.2  # seconds

_Deliver = Callable[[Sequence[Array]], object]


class AsyncRunner:
    """One stream of frames through main, with pre and post if they are set.

    Args:
        main: A part, the path of a section file (the split.json beside it states order and names of its tensors), or a model.
        depth: How many frames may be in flight (default: two for each section).
        **options: devices, cluster, target, threads, strict, trust, config and delegates; see
            `graphsplit.execution.options.RunOptions`. Sections go by their roles: "pre", "main", "post".

    Raises:
        FormatError: A file cannot be read.
        OptionError: An unknown option.
    """

    def __init__(self, main: SectionLike, *, depth: int | None = None, **options: Unpack[RunOptions]) -> None:
        check_options(AsyncRunner, options, RunOptions)
        check_count("depth", depth)
        self._chain = Chain(main, trust=options.get("trust", False))
        self._depth, self._options, self._pid = depth, options, os.getpid()
        self._in: Callable[[], object] | None = None
        self._out: Callable[..., object] | None = None
        self._thread: threading.Thread | None = None
        self._pipeline: Pipeline | None = None
        self._stop = Stop()
        self._finished = threading.Event()
        self._shut = False
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        state = "not connected" if self._thread is None else "ended" if self._finished.is_set() else "running"
        return f"{type(self).__name__}({' → '.join(p.name for p in self._chain.sections)}, {state})"

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the input callback returns, in order."""
        return self._chain.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the output callback gets, in order."""
        return self._chain.outputs

    def set_preprocessing_model(self, model: SectionLike) -> None:
        """Set the section that runs before main.

        Args:
            model: A part, the path of its file, or a model.

        Raises:
            CutError: It computes nothing that main reads.
            GraphSplitError: The stream is already running.
        """
        self._set("pre", model)

    def set_postprocessing_model(self, model: SectionLike) -> None:
        """Set the section that runs after main.

        Args:
            model: A part, the path of its file, or a model.

        Raises:
            CutError: It reads nothing that main computes.
            GraphSplitError: The stream is already running.
        """
        self._set("post", model)

    def connect_input(self, callback: Callable[[], object]) -> None:
        """Set where frames come from. The stream starts when both callbacks are connected.

        Args:
            callback: A function without arguments that returns an array, a list or tuple of arrays (one for each of `inputs`),
                or an iterator of these; a leading batch of 1 may be omitted, and buffers may be reused. In a list, None leaves an
                input at its default, if it has one. None or StopIteration ends the stream.

        Raises:
            GraphSplitError: The stream is already running, or the runner is shut down.
            PlacementError, TrustError, FormatError: The sections cannot be opened; see `graphsplit.Pipeline`.
        """
        self._check_idle()
        self._in = callback
        self._start_if_connected()

    def connect_output(self, callback: Callable[..., object]) -> None:
        """Set where results go. The stream starts when both callbacks are connected.

        Args:
            callback: Called with one array for each of `outputs`, in order, for every frame.

        Raises:
            GraphSplitError: The stream is already running, or the runner is shut down.
            PlacementError, TrustError, FormatError: The sections cannot be opened; see `graphsplit.Pipeline`.
        """
        self._check_idle()
        self._out = callback
        self._start_if_connected()

    def wait(self) -> None:
        """Wait until the stream has ended and every result was delivered.

        Raises:
            GraphSplitError: A callback is missing.
            FeedError: The input callback returned arrays that do not fit.
            SectionRunError: A section failed.
            Exception: Whatever a callback raises.
        """
        check_process(self._pid, "runner")
        if self._thread is None:
            missing = [f"connect_{name}()" for name, set_ in (("input", self._in), ("output", self._out)) if set_ is None]
            raise GraphSplitError(f"call {' and '.join(missing)} before wait()")
        self._wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def stop(self) -> None:
        """End the stream early: no more input is asked for, and frames in flight are delivered. May be called twice."""
        check_process(self._pid, "runner")
        self._stop.set()
        if self._pipeline is not None:
            self._pipeline.finish()
        self._wait()

    def shutdown(self) -> None:
        """Stop, and release sessions and threads. May be called twice; in a process that was forked it does nothing."""
        if self._pid != os.getpid():
            return
        self._shut = True
        self.stop()
        if self._pipeline is not None and self._thread is not threading.current_thread():
            self._pipeline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def _set(self, role: Role, model: SectionLike) -> None:
        self._check_idle()
        self._chain.set(role, model)

    def _check_idle(self) -> None:
        check_process(self._pid, "runner")
        if self._shut:
            raise GraphSplitError("the runner is shut down; create another one")
        if self._thread is not None:
            raise GraphSplitError("the stream is already running; set models before connecting callbacks, or create another runner")

    def _start_if_connected(self) -> None:
        source, receiver = self._in, self._out
        if source is not None and receiver is not None:
            frames = (self._chain.feeds(value) for value in frames_of(source, self._stop))
            self._start(frames, lambda arrays: receiver(*arrays))

    def _start(self, frames: Iterator[Mapping[str, Array]], deliver: _Deliver) -> None:
        self._check_idle()
        outputs = [p.tensor for p in self.outputs]
        stages = open_sections(self._chain.sections, **self._options)
        inputs = [p.tensor for p in self.inputs]
        self._pipeline = Pipeline.from_stages(stages, inputs=inputs, outputs=outputs, depth=self._depth)
        # Known before it runs, because the first callback may end the runner.
        self._thread = background(partial(self._move, self._pipeline, frames, deliver, outputs), "graphsplit-runner")
        self._thread.start()

    def _move(self, pipeline: Pipeline, frames: Iterator[Mapping[str, Array]], deliver: _Deliver, outputs: Sequence[str]) -> None:
        """Move frames from callback to callback."""
        try:
            for result in pipeline.stream(frames):
                deliver([result[name] for name in outputs])
        except BaseException as error:
            self._error = error
        finally:
            self._stop.set()
            self._finished.set()

    def _wait(self) -> None:
        """Wait for the end of the stream, unless this is its own thread."""
        if self._thread is None or self._thread is threading.current_thread():
            return
        while not self._finished.wait(_PATIENCE):
            pass
        self._thread.join()


class MultiStreamRunner:
    """Several streams through the same sections, each in its own order, none ahead of its turn.

    Every stream is read in its own thread, one frame ahead, so that a slow one does not delay the others.

    Args:
        main: A part, the path of a section file (the split.json beside it states order and names of its tensors), or a model.
        depth: How many frames may be in flight (default: two for each section).
        **options: As of `AsyncRunner`.

    Raises:
        FormatError: A file cannot be read.
        OptionError: An unknown option.
    """

    def __init__(self, main: SectionLike, *, depth: int | None = None, **options: Unpack[RunOptions]) -> None:
        check_options(MultiStreamRunner, options, RunOptions)
        self._runner = AsyncRunner(main, depth=depth, **options)

    def __repr__(self) -> str:
        return repr(self._runner).replace("AsyncRunner", type(self).__name__, 1)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the input callback returns, in order."""
        return self._runner.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the output callback gets, in order, after the number of the stream."""
        return self._runner.outputs

    def set_preprocessing_model(self, model: SectionLike) -> None:
        """Set the section that runs before main; see `AsyncRunner.set_preprocessing_model`."""
        self._runner.set_preprocessing_model(model)

    def set_postprocessing_model(self, model: SectionLike) -> None:
        """Set the section that runs after main; see `AsyncRunner.set_postprocessing_model`."""
        self._runner.set_postprocessing_model(model)

    def connect_streams(self, in_callback: Callable[[int], object], out_callback: Callable[..., object], stream_count: int) -> None:
        """Start streams 0 … `stream_count` − 1.

        Args:
            in_callback: Takes the number of a stream and returns what the callback of `AsyncRunner.connect_input` returns; called
                in a thread of each stream.
            out_callback: Called with the number of the stream and one array for each of `outputs`, for every frame.
            stream_count: Number of streams.

        Raises:
            OptionError: `stream_count` is below 1.
            GraphSplitError: The streams are already running, or the runner is shut down.
            PlacementError, TrustError, FormatError: The sections cannot be opened; see `graphsplit.Pipeline`.
        """
        check_count("stream_count", stream_count)
        runner = self._runner
        runner._check_idle()
        order: deque[int] = deque()

        def frames() -> Iterator[Mapping[str, Array]]:
            for stream, feeds in Turns(in_callback, partial(runner._chain.feeds, copy=True), stream_count, runner._stop):
                order.append(stream)
                yield feeds

        runner._start(frames(), lambda arrays: out_callback(order.popleft(), *arrays))

    def wait(self) -> None:
        """Wait until all streams have ended; see `AsyncRunner.wait`."""
        if self._runner._thread is None:
            raise GraphSplitError("call connect_streams() before wait()")
        self._runner.wait()

    def stop(self) -> None:
        """End all streams early; see `AsyncRunner.stop`."""
        self._runner.stop()

    def shutdown(self) -> None:
        """Stop, and release sessions and threads. May be called twice."""
        self._runner.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
