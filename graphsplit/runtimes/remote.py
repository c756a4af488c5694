"""Graphs on workers: sessions of this process whose nodes run in other processes, over TensorFlow's own protocol.

A worker that ends sends nothing: a call to it waits until its deadline. So each call runs in its own thread, and while it
takes its time, a connection to each worker is tried every second: a machine whose worker has ended refuses it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from graphsplit.runtimes.arrays import Array, error_text
from graphsplit.runtimes.tensorflow import TensorFlowSession

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["RemoteSession", "abandon", "remote_config", "unreachable", "watched"]

T = TypeVar("T")

_DEADLINE = 60_000  # milliseconds one run on a worker may take by default
_EVERY = 1.0  # seconds between two checks of the workers


def remote_config(config: Any, tasks: Sequence[str]) -> tf.compat.v1.ConfigProto:
    """A copy of a ``ConfigProto`` for a session on workers.

    Args:
        config: The configuration. No call takes longer than its ``operation_timeout_in_ms`` (default: a minute).
        tasks: Those that take part (``/job:gpu/task:0``); the session neither sees the others nor waits for them.
    """
    copy = type(config)()
    copy.CopyFrom(config)
    copy.operation_timeout_in_ms = copy.operation_timeout_in_ms or _DEADLINE
    del copy.device_filters[:]
    copy.device_filters.extend(tasks)
    return copy


def unreachable(address: str, timeout: float = 5.0) -> OSError | None:
    """Why no connection to ``host:port`` can be opened within `timeout` seconds; None if one can."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except OSError as error:
        return error
    return None


def watched(call: Callable[[], T], addresses: Sequence[str]) -> T:
    """The result of a call that waits for workers.

    Args:
        call: The call. One that is abandoned ends in its own thread at its deadline.
        addresses: ``host:port`` of the workers it may wait for.

    Raises:
        ConnectionError: One of the workers has ended.
        TimeoutError: The deadline of the session has passed.
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
            raise TimeoutError(f"the workers at {', '.join(addresses)} did not answer in time") from error
        if isinstance(error, errors.UnavailableError):
            gone = [a for a in addresses if unreachable(a, _EVERY) is not None]
            what = f"the worker at {gone[0]} has ended" if gone else f"a worker was lost: {error_text(error)}"
            raise ConnectionError(what) from error
        if error is not None:
            raise error
        return value  # type: ignore[return-value]


def abandon(close: Callable[[], object]) -> None:
    """Close a session that has lost a worker, in a thread: TensorFlow asks the worker until the deadline."""
    from tensorflow import errors

    def work() -> None:
        with suppress(errors.OpError):
            close()

    threading.Thread(target=work, name="graphsplit-remote", daemon=True).start()


class RemoteSession:
    """A GraphDef that is ready to run on workers.

    Args:
        graph_def: Serialised GraphDef whose nodes name devices of the workers.
        target: ``grpc://host:port`` of the worker that is asked.
        addresses: ``host:port`` of every worker that takes part.
        config: From `remote_config`.

    Raises:
        FormatError: TensorFlow refuses the graph.
    """

    def __init__(self, graph_def: bytes, *, target: str, addresses: Sequence[str], config: Any) -> None:
        self._session = TensorFlowSession(graph_def, config=config, target=target)
        self._addresses = tuple(addresses)
        self._lost: ConnectionError | None = None

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors.

        Raises:
            ConnectionError: A worker has ended.
            TimeoutError: The deadline has passed.
            tf.errors.OpError: Whatever TensorFlow raises.
        """
        return self._watched(lambda: self._session.run(feeds, fetches))

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Array]], list[Array]]:
        """A call that takes the values of `feeds` in order and returns those of `fetches`; raises what `run` raises."""
        call = self._session.prepare(feeds, fetches)
        return lambda values: self._watched(lambda: call(values))

    def close(self) -> None:
        """Release what the session holds, here and on the workers; one that has ended holds nothing."""
        from tensorflow import errors

        if self._lost is not None:
            abandon(self._session.close)
            return
        with suppress(errors.OpError, ConnectionError, TimeoutError):
            watched(self._session.close, self._addresses)

    def _watched(self, call: Callable[[], T]) -> T:
        """Like `watched`; a session that has lost a worker raises that at once from then on."""
        if self._lost is not None:
            raise self._lost
        try:
            return watched(call, self._addresses)
        except ConnectionError as error:
            self._lost = error
            raise
