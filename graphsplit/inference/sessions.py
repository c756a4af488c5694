"""The one door to running a model: trust is checked here, whichever runtime opens the session."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from graphsplit.errors import GraphSplitError, SectionRunError
from graphsplit.formats import Model
from graphsplit.inference.adapters import runtime_of
from graphsplit.inference.isolated_session import IsolatedSession
from graphsplit.inference.runtime import Location, Runnable, Session, SessionSettings
from graphsplit.isolation.failures import ChildError
from graphsplit.runtimes.arrays import Array, error_text

__all__ = ["NamedSession", "Session", "check_runnable", "open_named", "open_session", "run_error"]


def check_runnable(model: Model, trust: bool, outputs: Sequence[str] | None = None) -> None:
    """Refuse to run a model that is not frozen, that reaches outside itself and is not trusted, or that would never end.

    `open_session` calls it. So must everything that runs a model in another way.

    Args:
        model: The model.
        trust: Whether it may reach outside itself.
        outputs: The tensors to compute (default: all that the model outputs).

    Raises:
        FormatError: The model is not frozen, calls functions that it does not hold, or waits for a value that nothing supplies.
        TrustError: It reaches files, the network, Python or unknown code, and `trust` is False.
    """
    model.check_frozen(outputs)
    model.check_ends(outputs)  # before trust, which would not help
    model.check_trust(trust, outputs)


def open_session(
    model: Model,
    *,
    trust: bool = False,
    optimize: bool = True,
    timeout: float | None = None,
    threads: int | None = None,
    config: Any = None,
    location: Location | None = None,
    outputs: Sequence[str] | None = None,
    isolate: bool = False,
) -> Session:
    """A session of a model, in the runtime of its format.

    Args:
        model: The model.
        trust: Run a model that reaches files, the network or Python.
        optimize: As deployed (Grappler; XNNPACK). Without it every legal cut is bit-equal to the whole.
        timeout: Seconds one run may take; None: unlimited.
        threads: Threads of the session's own pool (default: TensorFlow's shared pool; LiteRT's one thread).
        config: A ``tf.compat.v1.ConfigProto`` for TensorFlow to start from.
        location: Where it runs, from the `locate` of its runtime; None: wherever the runtime puts it.
        outputs: The tensors that will be computed (default: all that the model outputs); the rest of the model is not loaded.
        isolate: Run it in a child process (see `graphsplit.isolation.shared`), without `config` and `location`. A model that
            reaches outside itself, and is trusted, stays here if TensorFlow has been imported here: its custom ops and
            Python functions may be registered in this process only.

    Raises:
        TrustError: The model reaches outside itself and is not trusted.
        FormatError: The model is not frozen, would never end, or is refused by its runtime.
        MissingExtraError: The runtime is not installed.
        ChildError: The runtime did not survive the model, with `isolate`.
    """
    check_runnable(model, trust, outputs)
    if outputs is not None:
        model = model.pruned(outputs)  # what was not checked is not loaded
    if isolate and not ("tensorflow" in sys.modules and model.reaches_outside):
        return IsolatedSession(model, optimize=optimize, timeout=timeout, threads=threads)
    return runtime_of(model).open(model, SessionSettings(optimize, timeout, threads, config, location))


def run_error(
    error: BaseException, what: str, section: str, *, did: str = "failed to run", timeout: float | None = None, hint: str = ""
) -> SectionRunError:
    """The error to raise, from a runtime's own one, when a model failed to run.

    Args:
        error: What the runtime raised.
        what: What it ran, and where: "section 'main' on /gpu:0".
        section: Name of the section.
        did: What happened: "failed at frame 3".
        timeout: Limit of the run in seconds, for a TimeoutError.
        hint: What to do about it.
    """
    if isinstance(error, ChildError):
        return SectionRunError(f"{what} {error}{hint}", section=section)
    if isinstance(error, TimeoutError) and timeout is not None:
        return SectionRunError(f"{what} did not end within {timeout:g} seconds{hint}", section=section)
    return SectionRunError(f"{what} {did}: {error_text(error)}{hint}", section=section)


class NamedSession:
    """A session whose errors name what it runs.

    Args:
        session: The session, which is closed with this one.
        what: What it runs: "section 'main'", "the whole model".
        section: Name of the section.
        timeout: Seconds one run may take, as the session was opened with; for the error.
        hint: What to do about an error.
    """

    def __init__(self, session: Runnable, what: str, section: str, *, timeout: float | None = None, hint: str = "") -> None:
        self._session, self._what, self._section, self._timeout, self._hint = session, what, section, timeout, hint

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """The values of some tensors.

        Raises:
            SectionRunError: The runtime failed, or took too long; its own error is the cause.
        """
        if not fetches:
            return []
        try:
            return self._session.run(feeds, fetches)
        except GraphSplitError:
            raise
        except Exception as error:  # every runtime has its own kinds
            raise run_error(error, self._what, self._section, timeout=self._timeout, hint=self._hint) from error

    def close(self) -> None:
        """Release what the session holds."""
        self._session.close()


def open_named(
    model: Model,
    what: str,
    section: str,
    *,
    trust: bool,
    optimize: bool = True,
    timeout: float | None = None,
    hint: str = "",
    outputs: Sequence[str] | None = None,
    isolate: bool = True,
) -> NamedSession:
    """A session of a model whose errors name it; the arguments are those of `open_session` and `NamedSession`.

    Raises:
        TrustError: The model reaches outside itself and is not trusted.
        FormatError: The model is not frozen, would never end, or is refused by its runtime.
        SectionRunError: The runtime did not survive the model.
    """
    try:
        session = open_session(model, trust=trust, optimize=optimize, timeout=timeout, outputs=outputs, isolate=isolate)
    except ChildError as error:
        raise run_error(error, f"loading {what}", section, hint=hint) from error
    return NamedSession(session, what, section, timeout=timeout, hint=hint)
