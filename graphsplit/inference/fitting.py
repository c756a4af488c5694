"""Synthetic feeds that a model takes, found by running it."""

from __future__ import annotations

from collections.abc import Callable

from graphsplit.errors import SectionRunError
from graphsplit.inference.synthesis import Feeds, Synthesis
from graphsplit.isolation.failures import error_kind

__all__ = ["ADVICE", "fitting_feeds", "was_refused"]

#: What to do where a model takes no synthetic feeds.
ADVICE = "the feeds were synthetic; pass real ones (feeds=…), or state shapes (shapes=…)"

_REFUSALS = {"InvalidArgumentError", "FailedPreconditionError", "OutOfRangeError", "UnimplementedError"}


def was_refused(error: SectionRunError) -> bool:
    """Whether a model rejected what it was fed."""
    cause = error.__cause__
    return isinstance(cause, (ValueError, RuntimeError)) or error_kind(cause) in _REFUSALS


def fitting_feeds(
    synthesis: Synthesis, run: Callable[[Feeds], object], *, runs: int = 1, fixed: Feeds | None = None
) -> list[Feeds]:
    """The first synthetic feeds that a model takes, see `Synthesis.attempts`.

    Args:
        synthesis: Of the model.
        run: Runs the model.
        runs: How many for each batch size.
        fixed: Values of some inputs.

    Raises:
        SectionRunError: It takes none of them.
        FeedError: As of `Synthesis.feeds`.
    """
    refused: SectionRunError | None = None
    for several in synthesis.attempts(runs=runs, fixed=fixed):
        taken = []
        for feed in several:
            try:
                run(feed)
            except SectionRunError as error:
                if not was_refused(error):
                    raise
                refused = refused or error
                synthesis.refused(str(error.__cause__))
            else:
                taken.append(feed)
        if taken:
            return taken
    assert refused is not None
    raise SectionRunError(f"{refused}; {ADVICE}", section=refused.section) from refused
