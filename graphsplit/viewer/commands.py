"""The command that splits a model as the page shows it, to be pasted into a terminal."""

from __future__ import annotations

import shlex

from graphsplit.formats import Model
from graphsplit.planning.plan import Plan
from graphsplit.planning.targets import Target, target_names
from graphsplit.splitting.naming import UNWRITABLE, choice_flags, name_flags
from graphsplit.viewer.session import ChosenCut
from graphsplit.viewer.targets import target_key

__all__ = ["split_command"]


def split_command(
    model: Model, cut: ChosenCut, *, fitted: Plan | None = None, target: Target | None = None, trust: bool = False
) -> tuple[str | None, str]:
    """The command for a cut.

    Args:
        model: The model.
        cut: The cut.
        fitted: Its plan, if a search decided it rather than the names of tensors.
        target: The target that it was searched for.
        trust: Whether the model is trusted.

    Returns:
        The command, or None and why there is none.
    """
    if model.path is None or model.rewrites:
        return None, "the model is not as it is in a file; split it here or in Python"
    path = str(model.path.absolute())
    if not path.isprintable():
        return None, "the path of the model cannot be written on a command line; split it here or in Python"
    words = ["graphsplit", "split", path, *choice_flags(model.choice), *(["--trust"] if trust else [])]
    searched = _searched(fitted, target)
    if searched is not None:
        words += searched
    flags = [] if searched is not None else [("--inputs", cut.inputs), *(("--outputs", end) for end in cut.ends)]
    if searched is None and not any(tensors for _, tensors in flags):
        return None, "nothing to split: one section"
    named = name_flags(model.index, (*flags, ("--model-outputs", cut.model_outputs or ())))
    if named is None:
        return None, UNWRITABLE
    words += named
    if cut.repair != "auto":
        words += ["--repair", cut.repair]
    return shlex.join([*words, "-o", "DIR"]), ""


def _searched(plan: Plan | None, target: Target | None) -> list[str] | None:
    """The options that search for the cut again; None where tensors have to be named."""
    if plan is None:
        return None
    islands = ["--islands"] if any(name.startswith("part_") for name in plan.devices) else []
    if plan.target is None:
        return islands or None
    if target is None or (target.path is None and target.name not in target_names()):
        return None
    key = target_key(target) if target.path is None else str(target.path.absolute())
    if not key.isprintable():
        return None
    return ["--target", key, *islands, *([] if plan.target.compiler is not None else ["--no-ask"])]
