"""What runs the stages of a pipeline: their threads and the queues between them.

Pipeline ──▶ Engine ◀── threads          no thread refers to the pipeline, so one that is dropped is collected, and that
                                         ends its engine
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from time import perf_counter

from graphsplit.errors import GraphSplitError
from graphsplit.execution.frames import Feeder, Frame
from graphsplit.execution.stages import Stage
from graphsplit.execution.threads import join_all, started

__all__ = ["PATIENCE", "Engine"]

#: Seconds that an end waits for the calls that are running; then they are cancelled, and it waits as long again.
PATIENCE = 4.0

_SOURCES = 2.0  # seconds that the exit of the interpreter waits for sources

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """The threads of a pipeline, one a stage.

    Args:
        stages: The stages; each is closed in its own thread, when that ends.
        drop: For each stage the tensors that nothing needs after it.

    Attributes:
        doors: What waits for each stage.
        done: What has passed all of them.
        pid: The process that the threads are in.
        closed: No more frames are run.
        failure: Why, if an error ended it.
        discarding: Frames are passed on without being run.
        feeder: Reads the source of the current stream.
    """

    def __init__(self, stages: Sequence[Stage], drop: Sequence[Sequence[str]]) -> None:
        self.doors: list[SimpleQueue[Frame | None]] = [SimpleQueue() for _ in stages]
        self.done: SimpleQueue[Frame] = SimpleQueue()
        self.pid = os.getpid()
        self.closed = self.discarding = False
        self.failure = ""
        self.feeder: Feeder | None = None
        self._stages, self._drop = tuple(stages), drop
        self._unreleased: dict[int, Callable[[], None]] = {i: stage.close for i, stage in enumerate(stages)}
        self._errors: list[Exception] = []
        self._threads: list[threading.Thread] = []
        if not _engines:  # again and again, so that it is called before what the runtimes have registered meanwhile
            atexit.unregister(_end_all)
            atexit.register(_end_all)
        _engines.add(self)
        try:
            for i, stage in enumerate(stages):
                self._threads.append(started(partial(self._work, i), f"graphsplit-{stage.name}"))
        except BaseException:
            self.close()
            raise

    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads of the stages."""
        return tuple(self._threads)

    def let_go(self, error: BaseException | None = None) -> None:
        """Have the threads end, and each release its stage, without waiting for them. May be called again, and anywhere.

        Args:
            error: Raised to those who wait for frames.
        """
        self.closed = True
        if self.pid != os.getpid():
            return
        if self.feeder is not None:
            self.feeder.stop()
        self.done.put(Frame.sentinel(error or GraphSplitError("the pipeline was closed while frames were in flight")))
        for door in self.doors:
            door.put(None)

    def close(self) -> None:
        """End the threads and release the stages; calls that take longer than `PATIENCE` are cancelled where that is possible.

        Raises whatever a stage raised when it was closed.
        """
        self.let_go()
        if self.pid != os.getpid():
            return
        if not join_all(PATIENCE, self._threads):
            self._release_all()
            if not join_all(PATIENCE, self._threads):
                names = ", ".join(s.name for s, t in zip(self._stages, self._threads, strict=False) if t.is_alive())
                warnings.warn(f"closed; a call that does not return keeps its thread: {names}", ResourceWarning, stacklevel=3)
        if threading.current_thread() not in self._threads:
            self._release_all()
        if self._errors:
            raise self._errors.pop(0)

    def _release_all(self) -> None:
        for i in range(len(self._stages)):
            self._release(i)

    def _release(self, number: int) -> None:
        close = self._unreleased.pop(number, None)  # whoever gets it closes the stage
        if close is not None:
            try:
                close()
            except Exception as error:
                self._errors.append(error)

    def _work(self, number: int) -> None:
        """The life of a stage: take a frame, run it, hand it on. An error travels with its frame."""
        stage = self._stages[number]
        door = self.doors[number]
        following = self.doors[number + 1] if number + 1 < len(self.doors) else self.done
        while (frame := door.get()) is not None:
            if not frame.ends and frame.error is None and not self.closed and not self.discarding:
                start = perf_counter()
                try:
                    values = frame.values
                    outputs = stage.call(stage.values(values))
                    values.update(zip(stage.outputs, outputs, strict=True))
                    for tensor in self._drop[number]:
                        values.pop(tensor, None)
                except BaseException as error:
                    frame.error, frame.stage = error, stage
                frame.times.stages.append((start, perf_counter()))
            (self.done if frame.alone else following).put(frame)
            del frame
        self._release(number)


def _end_all() -> None:
    """End what is still running when the interpreter exits."""
    engines = [engine for engine in list(_engines) if engine.pid == os.getpid()]
    for engine in engines:
        engine.let_go(SystemExit())  # ends the threads of others without a word
    threads = [thread for engine in engines for thread in engine.threads()]
    if not join_all(PATIENCE, threads):
        for engine in engines:
            engine._release_all()
        join_all(PATIENCE, threads)
    join_all(_SOURCES)
