"""Frames that callbacks deliver: of one stream, or of several in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, TypeVar

from graphsplit.execution.threads import started

__all__ = ["Stop", "Turns", "frames_of"]

_T = TypeVar("_T")


class Stop:
    """A flag that is set once, and wakes all who wait on `change`."""

    def __init__(self) -> None:
        self.change = threading.Condition()
        self._set = False

    def __bool__(self) -> bool:
        return self._set

    def set(self) -> None:
        """Set it."""
        with self.change:
            self._set = True
            self.change.notify_all()


def frames_of(callback: Callable[[], object], stop: Stop) -> Iterator[object]:
    """What a callback returns, one frame after the other, until it returns None, raises StopIteration, or `stop` is set.

    Yields:
        An array, or a list or tuple of arrays. Of an iterator that the callback returns, its items.
    """
    while not stop:
        try:
            value = callback()
        except StopIteration:
            return
        if value is None:
            return
        if isinstance(value, Iterator):
            for item in value:
                if item is None or stop:
                    return
                yield item
            return
        yield value


class Turns(Generic[_T]):
    """Frames of several streams: of those that have one ready, the stream whose turn it is goes first.

    Each stream is read in its own thread, one frame ahead.

    Args:
        callback: Takes the number of a stream; see `frames_of`.
        take: Makes a frame of what the callback returned. It copies, since a callback may reuse its buffers.
        count: Number of streams.
        stop: Ends all of them.
    """

    def __init__(self, callback: Callable[[int], object], take: Callable[[object], _T], count: int, stop: Stop) -> None:
        self._stop, self._change, self._take = stop, stop.change, take
        self._slots: list[list[_T]] = [[] for _ in range(count)]
        self._live = count
        self._error: BaseException | None = None
        for stream in range(count):
            started(partial(self._read, callback, stream), f"graphsplit-stream-{stream}")

    def __iter__(self) -> Iterator[tuple[int, _T]]:
        turn, count = 0, len(self._slots)
        while True:
            with self._change:
                self._change.wait_for(lambda: any(self._slots) or not self._live or self._error or self._stop)
                if self._error is not None:
                    raise self._error
                if self._stop or not any(self._slots):
                    return
                stream = next(s for s in ((turn + i) % count for i in range(count)) if self._slots[s])
                value = self._slots[stream].pop()
                self._change.notify_all()
            turn = (stream + 1) % count
            yield stream, value

    def _read(self, callback: Callable[[int], object], stream: int) -> None:
        slot = self._slots[stream]
        try:
            for value in frames_of(lambda: callback(stream), self._stop):
                frame = self._take(value)
                with self._change:
                    slot.append(frame)
                    self._change.notify_all()
                    self._change.wait_for(lambda: not slot or self._stop)
        except BaseException as error:
            with self._change:
                self._error = self._error or error
        finally:
            with self._change:
                self._live -= 1
                self._change.notify_all()
