"""The keyword arguments that detecting takes: where to cut the model, and how to run its sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from graphsplit.execution.options import RunOptions, SessionOptions
from graphsplit.graph.options import check_number
from graphsplit.splitting.request import CutOptions

__all__ = ["DetectorOptions", "check_threshold", "separate_options"]


class DetectorOptions(CutOptions, SessionOptions, total=False):
    """The options of `Detector` that it shares: `CutOptions` as of `graphsplit.plan`, `SessionOptions` as of `Pipeline`."""


def separate_options(options: Mapping[str, object]) -> tuple[CutOptions, RunOptions]:
    """Separate options that were passed together into those of the cut and those of the run."""
    cut = {name: value for name, value in options.items() if name in CutOptions.__annotations__}
    run = {name: value for name, value in options.items() if name in RunOptions.__annotations__}
    return cast(CutOptions, cut), cast(RunOptions, run)


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that is not a score.

    Raises:
        OptionError: for a number outside 0 … 1, and what is not a number.
    """
    check_number("threshold", threshold, most=1)
