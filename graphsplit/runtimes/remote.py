"""Graphs on workers: sessions of this process whose nodes run in others, over TensorFlow's own protocol.

A worker that ends says nothing: a call to it waits until its deadline. So calls are made in a thread of their own, and
while one takes its time, a connection to each worker is tried every second: a machine whose worker is gone refuses it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np

from graphsplit.runtimes.arrays import error_text
from graphsplit.runtimes.tensorflow import TensorFlowSession

__all__ = ["RemoteSession", "let_go", "remote_config", "unreachable", "watched"]

Array = np.ndarray[Any, Any]
T = TypeVar("T")

_DEADLINE = 60_000  # milliseconds one run on a worker may take, where nothing else is said
_EVERY = 1.0  # seconds between two looks at the workers


def remote_config(config: Any, tasks: Sequence[str]) -> Any:
    """A copy of a ``ConfigProto`` for a session on workers.

    tasks  those that take part (``/job:gpu/task:0``); the session neither sees the others nor waits for them

    No call takes longer than its ``operation_timeout_in_ms``; where it states none, a minute.
    """
    own = type(config)()
    own.CopyFrom(config)
    own.operation_timeout_in_ms = own.operation_timeout_in_ms or _DEADLINE
    del own.device_filters[:]
    own.device_filters.extend(tasks)
    return own


def unreachable(address: str, timeout: float = 5.0) -> OSError | None:
    """Why nobody takes a connection at ``host:port``; None: somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except OSError as error:
        return error
    return None


def watched(call: Callable[[], T], addresses: Sequence[str]) -> T:
    """The answer of a call that waits for workers.

    addresses  ``host:port`` of the workers it may wait for

    Raises ConnectionError when one of them has ended, TimeoutError when the deadline of the session is over, and whatever
    the call raises. A call that was given up ends in its own thread when its deadline is over.
    """
    from tensorflow import errors

    answer: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            answer.put((call(), None))
        except BaseException as error:
            answer.put((None, error))

    threading.Thread(target=work, name="graphsplit-remote", daemon=True).start()
    while True:
        try:
            value, error = answer.get(timeout=_EVERY)
        except Empty:
            gone = [a for a in addresses if isinstance(unreachable(a, _EVERY), ConnectionRefusedError)]
            if gone and answer.empty():
                raise ConnectionError(f"the worker at {gone[0]} has ended") from None
            continue
        if isinstance(error, errors.DeadlineExceededError):
            raise TimeoutError(f"no answer in time from the workers at {', '.join(addresses)}") from error
        if isinstance(error, errors.UnavailableError):
            gone = [a for a in addresses if unreachable(a, _EVERY) is not None]
            what = f"the worker at {gone[0]} has ended" if gone else f"a worker was lost: {error_text(error)}"
            raise ConnectionError(what) from error
        if error is not None:
            raise error
        return value  # type: ignore[return-value]


def let_go(session: Any) -> None:
    """Close a ``tf.compat.v1.Session`` that has lost a worker, in a thread: TensorFlow asks the worker until the deadline."""
    from tensorflow import errors

    def close() -> None:
        with suppress(errors.OpError):
            session.close()

    threading.Thread(target=close, name="graphsplit-remote", daemon=True).start()


class RemoteSession(TensorFlowSession):
    """A GraphDef, ready to run on workers.

    graph_def  serialised GraphDef whose nodes name devices of the workers
    target     ``grpc://host:port`` of the worker that is asked
    addresses  ``host:port`` of every worker that takes part
    config     from `remote_config`

    Raises FormatError for a graph that TensorFlow refuses.
    """

    def __init__(self, graph_def: bytes, *, target: str, addresses: Sequence[str], config: Any) -> None:
        super().__init__(graph_def, config=config, target=target)
        self._addresses = tuple(addresses)
        self._lost: ConnectionError | None = None

    def run(self, feeds: Any, fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors. Raises ConnectionError, TimeoutError, TensorFlow's own errors."""
        return self._watched(lambda: super(RemoteSession, self).run(feeds, fetches))

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Any]], list[Array]]:
        """A call that takes the values of `feeds` in order and gives those of `fetches`; raises as `run` does."""
        call = super().prepare(feeds, fetches)
        return lambda values: self._watched(lambda: call(values))

    def close(self) -> None:
        """Release what the session holds, here and on the workers; one that is gone holds nothing."""
        from tensorflow import errors

        if self._lost is not None:
            let_go(self._session)
            return
        with suppress(errors.OpError, ConnectionError, TimeoutError):
            watched(super().close, self._addresses)

    def _watched(self, call: Callable[[], T]) -> T:
        """As `watched`; a session that has lost a worker is lost, and says so at once."""
        if self._lost is not None:
            raise self._lost
        try:
            return watched(call, self._addresses)
        except ConnectionError as error:
            self._lost = error
            raise
