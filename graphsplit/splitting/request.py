"""Where to cut, as callers say it: the options that `plan`, `split`, `Detector`, `view` and `run_batch` share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TypedDict

from graphsplit.planning.planner import Repair

__all__ = ["CutOptions", "Names"]

#: One name, several in one string with commas between, or an iterable of names.
Names = str | Iterable[str]


class CutOptions(TypedDict, total=False):
    """Where to cut a model. At most one of `outputs`/`inputs`, `preset`, `autocrop`/`affinity` and `crop_file`.

    Attributes:
        outputs: Split targets, the tensors at which ``main`` ends; a list of lists for an N-way split.
        inputs: Border tensors at which ``main`` starts; what is before them is ``pre``.
        preset: Name of a model family (`graphsplit presets` lists them), or path of a ``.json`` file with your own presets.
        autocrop: Search for the cut even if a preset matches.
        affinity: Path of a table of the ops that your compiler takes, used by that search.
        crop_file: Path of a JSON file with inputs and outputs.
        model_outputs: Outputs of the whole to keep (default: all); the rest is pruned.
        repair: What to do with tensors that cross without being named: "auto", "replicate", "border" or "error".
    """

    outputs: Names | Sequence[Names] | None
    inputs: Names | None
    preset: str | None
    autocrop: bool
    affinity: str | PathLike[str] | None
    crop_file: str | PathLike[str] | None
    model_outputs: Names | None
    repair: Repair
