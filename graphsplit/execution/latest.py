"""The newest item wins: an iterator over a source that does not wait, such as a camera."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from graphsplit.execution.threads import started

__all__ = ["Newest"]

_T = TypeVar("_T")


class Newest(Iterator[_T], Generic[_T]):
    """Reads a source in a thread as fast as it delivers, and hands out only its newest item.

        source   0   1   2   3   4   5
        taken    0           3       5         dropped: 1, 2, 4

    An error of the source is raised to the reader after the last good item.

    Attributes:
        dropped: Number of items that were replaced before they were taken.
    """

    def __init__(self, source: Iterable[_T]) -> None:
        self.dropped = 0
        self._source = source
        self._item: list[_T] = []
        self._ended = False
        self._error: BaseException | None = None
        self._change = threading.Condition()
        started(self._read, "graphsplit-capture")

    def _read(self) -> None:
        try:
            for item in self._source:
                with self._change:
                    if self._ended:
                        return
                    if self._item:
                        self.dropped += 1
                    self._item = [item]
                    self._change.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify()

    def __next__(self) -> _T:
        with self._change:
            while not self._item and not self._ended:
                self._change.wait()
            if self._item:
                return self._item.pop()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def close(self) -> None:
        """Stop reading. The source ends at its next item; one that blocks forever keeps only its own daemon thread."""
        with self._change:
            self._ended = True
            self._item = []
            self._change.notify()
