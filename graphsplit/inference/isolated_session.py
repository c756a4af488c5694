"""A session in the child process, with the interface of any other session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from graphsplit.errors import GraphSplitError
from graphsplit.formats import Model
from graphsplit.inference import tasks
from graphsplit.isolation.failures import ChildError
from graphsplit.isolation.shared import call
from graphsplit.runtimes.arrays import Array, as_array

__all__ = ["IsolatedSession"]

_OPEN = 300.0  # seconds a runtime may take to load a model
_CLOSE = 60.0


class IsolatedSession:
    """A model that is ready to run in the child process, see `graphsplit.isolation.shared`.

    Args:
        model: The model, which has been checked.
        optimize: As of `graphsplit.inference.sessions.open_session`.
        timeout: Seconds one run may take; the child is ended when it takes longer. None: unlimited.
        threads: As of `graphsplit.inference.sessions.open_session`.

    Raises:
        FormatError: The runtime refuses the model.
        MissingExtraError: The runtime is not installed.
        ChildError: The runtime did not survive the model.
    """

    def __init__(self, model: Model, *, optimize: bool, timeout: float | None, threads: int | None) -> None:
        self._timeout, self._patient = timeout, bool(model.reaches_outside)
        value = {"format": model.section_format, "optimize": optimize, "threads": threads}
        answer, self._child = call(tasks.open_session, value, [list(model.chunks)], deadline=_OPEN)
        self._number = answer.value

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors.

        Raises:
            ChildError: The child ended: the runtime crashed, or took too much time or memory.
            Exception: Whatever the runtime raises.
        """
        value = {"session": self._number, "feeds": list(feeds), "fetches": list(fetches)}
        arrays = [as_array(feed) for feed in feeds.values()]
        answer, _ = call(tasks.run_session, value, arrays, deadline=self._timeout, patient=self._patient, child=self._child)
        if len(answer.arrays) != len(fetches):
            raise ChildError(f"sent {len(answer.arrays)} arrays instead of {len(fetches)}")
        return list(answer.arrays)

    def prepare(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[[Sequence[Array]], list[Array]]:
        """A call that takes the values of `feeds` in order and returns those of `fetches`; raises what `run` raises."""
        inputs, outputs = tuple(feeds), tuple(fetches)
        return lambda values: self.run(dict(zip(inputs, values, strict=True)), outputs)

    def close(self) -> None:
        """Release what the child holds; one that has ended holds nothing."""
        with suppress(ChildError, GraphSplitError):
            call(tasks.close_session, self._number, deadline=_CLOSE, child=self._child)
