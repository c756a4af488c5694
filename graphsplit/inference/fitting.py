"""Synthetic feeds that a model takes, found by inferring its shapes and by running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphsplit.errors import FeedError, SectionRunError
from graphsplit.inference.runtime import Runnable
from graphsplit.inference.shapes import refusal
from graphsplit.inference.synthesis import Feeds, Synthesis
from graphsplit.inference.trials import Trials
from graphsplit.isolation.failures import ChildError, OutOfTimeError, error_kind

__all__ = ["ADVICE", "fitting_feeds", "was_refused"]

#: What to do where a model takes no synthetic feeds.
ADVICE = "the feeds were synthetic; pass real ones (feeds=…), or state shapes (shapes=…)"

_REFUSALS = {"InvalidArgumentError", "FailedPreconditionError", "OutOfRangeError", "UnimplementedError"}
_RUNS = 50


def was_refused(error: SectionRunError) -> bool:
    """Whether a model rejected what it was fed."""
    cause = error.__cause__
    return isinstance(cause, (ValueError, RuntimeError)) or error_kind(cause) in _REFUSALS


def fitting_feeds(
    synthesis: Synthesis,
    opening: Callable[[], Runnable],
    outputs: Sequence[str],
    *,
    runs: int = 1,
    fixed: Feeds | None = None,
) -> list[Feeds]:
    """The first synthetic feeds that a model takes.

    Args:
        synthesis: Of the model.
        opening: Opens a session of the model, in the child process: kernels may crash on what they are tried on.
        outputs: What is computed.
        runs: How many for each batch size.
        fixed: Values of some inputs.

    Raises:
        SectionRunError: It takes none of them.
        FeedError: As of `Synthesis.feeds`.
    """
    fixed = fixed or {}
    trials = Trials(synthesis, fixed)
    session: Runnable | None = None
    unranked = any(i.shape is None for n, i in synthesis.inputs.items() if n not in fixed)
    first: SectionRunError | None = None
    inferred = ""
    hollow: list[Feeds] = []  # taken, but so small that nothing is left of some output
    ran = 0
    try:
        for guesses in trials:
            try:
                several = synthesis.feeds(runs=runs, fixed=fixed, guesses=guesses)
            except FeedError:  # too large
                if guesses:
                    continue
                raise
            if guesses or unranked:
                message = refusal(synthesis.model, outputs, {t: v.shape for t, v in several[0].items()})
                if message:
                    inferred = inferred or message
                    trials.refused(message)
                    continue
            ran += 1
            taken: list[Feeds] = []
            empty = False
            for feed in several:
                try:
                    session = opening() if session is None else session
                    results = session.run(feed, outputs)
                except SectionRunError as error:
                    died = isinstance(error.__cause__, ChildError)
                    if not (was_refused(error) or died) or isinstance(error.__cause__, OutOfTimeError):
                        raise
                    if died and session is not None:
                        session.close()
                        session = None
                    first = first or error
                    trials.refused(str(error))
                    if (guesses or died) and not taken:
                        break
                else:
                    taken.append(feed)
                    empty = empty or any(0 in r.shape for r in results)
            if taken and not empty:
                return taken
            if taken:
                hollow = hollow or taken
                trials.refused("")
            if ran >= _RUNS:
                break
    finally:
        if session is not None:
            session.close()
    if hollow:
        return hollow
    if first is None:
        raise SectionRunError(f"{inferred}; {ADVICE}", section="whole")
    raise SectionRunError(f"{first}; {ADVICE}", section=first.section) from first
