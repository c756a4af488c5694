"""The targets that the page offers for a model, by name. A request names one of them; a path is not read, let alone run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphsplit.compilers.asking import installed
from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats import Model
from graphsplit.graph.text import shortened
from graphsplit.planning.targets import Target, read_target, target_names
from graphsplit.planning.targets.answer import Answer, Refused, RefusedGroup, grouped

__all__ = ["Targets", "answer_json", "target_key"]

_LISTED = 12  # tensors of a group of refused ops
_LONGEST = 400  # characters of a reason


@dataclass(frozen=True, slots=True)
class _Choice:
    """A target, why it does not fit the model (empty if it does), and what asking it takes."""

    target: Target
    unfit: str
    note: str


class Targets:
    """The built-in targets, and the one that the workbench was started with.

    Args:
        model: The model.
        own: The target named on the command line or in Python, which may be of a file.
    """

    def __init__(self, model: Model, own: Target | None = None) -> None:
        self._model = model
        self._choices = {name: _choice(model, read_target(name)) for name in target_names()}
        if own is not None:
            self._choices[target_key(own)] = _choice(model, own)
        self._refusals: dict[str, Mapping[str, str]] = {}

    def json(self) -> list[dict[str, object]]:
        """The choices for the page."""
        return [
            {"key": key, "name": c.target.name, "unfit": c.unfit, "asks": not c.note, "note": c.note, "source": c.target.source}
            for key, c in self._choices.items()
        ]

    def __getitem__(self, key: str) -> Target:
        """The target of a choice. Raises GraphSplitError for anything that is not offered, and for one that does not fit."""
        choice = self._choices.get(key)
        if choice is None:
            known = ", ".join(self._choices)
            raise GraphSplitError(f"{shortened(key, 60)!r} is not a target offered here; choose one of {known}")
        if choice.unfit:
            raise GraphSplitError(choice.unfit)
        return choice.target

    def refusals(self, key: str | None) -> Mapping[str, str]:
        """The nodes that the table of a target refuses, with reasons; none without a target."""
        if key is None:
            return {}
        if key not in self._refusals:
            self._refusals[key] = self[key].refusals(self._model.index)
        return self._refusals[key]

    def table_json(self, key: str) -> dict[str, object]:
        """What the table of a target refuses of the model, for the page."""
        nodes = self._model.index.name_to_node_map
        refused = [
            Refused(nodes[name].op, nodes[name].outputs[0] if nodes[name].outputs else name, reason)
            for name, reason in self.refusals(key).items()
        ]
        asked = sum(n.kind == "op" for n in self._model.index.nodes)
        return {"taken": asked - len(refused), "asked": asked, "refused": [_group_json(g) for g in grouped(refused)]}


def target_key(target: Target) -> str:
    """What the page calls a target, and what a command line would: its name or the path of its file."""
    return target.name if target.path is None else str(target.path)


def answer_json(answer: Answer) -> dict[str, object]:
    """What a compiler or a table said of a cut, for the page."""
    return {
        "target": answer.target,
        "summary": answer.summary(),
        "reason": answer.reason,
        "whole": answer.whole,
        "taken": answer.taken,
        "asked": answer.asked,
        "refused": [_group_json(g) for g in grouped(answer.refused)],
        "rounds": [{"taken": r.taken, "asked": r.asked, "tied": [_group_json(g) for g in grouped(r.tied)]} for r in answer.rounds],
    }


def _group_json(group: RefusedGroup) -> dict[str, object]:
    return {
        "op": group.op,
        "count": len(group.tensors),
        "tensors": list(group.tensors[:_LISTED]),
        "reason": shortened(group.reason, _LONGEST),
    }


def _choice(model: Model, target: Target) -> _Choice:
    try:
        target.check_format(model.section_format)
    except FormatError as error:
        return _Choice(target, str(error), "")
    if unsuited := target.unsuited(model.index):
        return _Choice(target, unsuited, "")
    try:
        asks = installed(target)
    except FormatError as error:  # the command of a user's target
        return _Choice(target, "", str(error))
    if asks:
        return _Choice(target, "", "")
    extra = "" if target.compiler is None else target.compiler.extra
    return _Choice(target, "", "its table answers" + (f"; install graphsplit[{extra}] to ask the compiler" if extra else ""))
