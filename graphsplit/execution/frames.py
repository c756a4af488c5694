"""Frames on their way through a pipeline, and the thread that brings them in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from time import perf_counter

from graphsplit.execution.metrics import FrameTimes
from graphsplit.execution.stages import Stage
from graphsplit.execution.threads import started
from graphsplit.inference.feeds import Feeds

__all__ = ["Feeder", "Frame"]


@dataclass
class Frame:
    """A frame on its way.

    Attributes:
        number: Counted from 0 in each stream.
        values: The tensors that exist so far.
        times: When it entered and left each stage.
        error: What went wrong with it; of a sentinel, with the stream.
        stage: The stage that failed.
        ends: It is a sentinel, which passes all stages after the last frame.
        alone: It is for one stage, and does not go on to the next.
    """

    number: int
    values: Feeds
    times: FrameTimes
    error: BaseException | None = None
    stage: Stage | None = None
    ends: bool = False
    alone: bool = False

    @classmethod
    def sentinel(cls, error: BaseException | None = None) -> Frame:
        """The end of a stream."""
        return cls(-1, {}, FrameTimes(0.0, 0.0), error, ends=True)


class Feeder:
    """Reads the source of a stream in its own thread, so that a slow source delays no result.

    Args:
        feeds: The source.
        put: Takes each frame, and a sentinel at the end.
        depth: How many frames may be in flight: the source is asked only while there are fewer.
        stopped: Called when nothing enters the pipeline any more.
    """

    def __init__(
        self, feeds: Iterable[Feeds], put: Callable[[Frame], object], depth: int, stopped: Callable[[], object] = lambda: None
    ) -> None:
        self._feeds, self._put, self._when_stopped = feeds, put, stopped
        self._slots = threading.Semaphore(depth)
        self._stopped = False
        self._lock = threading.RLock()  # a signal handler may end what its thread is just ending

    def start(self) -> None:
        """Begin to read. Apart from construction, so that the source may already call for the end of the stream."""
        started(self._read, "graphsplit-source")

    def release(self) -> None:
        """A frame has left the pipeline."""
        self._slots.release()

    def finish(self) -> None:
        """End the stream after the frames that are in flight, without waiting for the source."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._put(Frame.sentinel())
        self._slots.release()

    def stop(self) -> None:
        """Let nothing enter the pipeline any more. A source that blocks forever keeps only its own daemon thread."""
        with self._lock:
            self._stopped = True
        self._slots.release()
        self._when_stopped()

    def _read(self) -> None:
        end = Frame.sentinel()
        try:
            source = iter(self._feeds)
            for number in count():
                self._slots.acquire()
                if self._stopped:
                    return
                asked = perf_counter()
                try:
                    values = next(source)
                except StopIteration:
                    break
                self._enter(Frame(number, values, FrameTimes(asked, perf_counter())))
        except BaseException as error:
            end.error = error
        finally:
            self._enter(end)

    def _enter(self, frame: Frame) -> None:
        with self._lock:
            if not self._stopped:
                self._put(frame)
