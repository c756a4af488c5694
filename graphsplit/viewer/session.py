"""What a workbench is opened with: a model, and the cut to begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphsplit.errors import CutError
from graphsplit.formats import Model, ModelLike
from graphsplit.parts.parts import Parts
from graphsplit.planning.plan import Plan, Repair
from graphsplit.rewrites.opening import check_no_cut, open_model_or_parts, whole_of
from graphsplit.splitting.request import CutOptions
from graphsplit.splitting.surgery import plan, plan_whole

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ChosenCut", "Session", "open_model"]


@dataclass(frozen=True, slots=True)
class ChosenCut:
    """A cut as the workbench holds it.

    Attributes:
        inputs: Border tensors at which main starts.
        ends: For each cut the border tensors at which its section ends; one list for main, several for an N-way split.
        model_outputs: Outputs of the whole to keep; None: all.
        repair: What to do with tensors that cross without being named.
    """

    inputs: tuple[str, ...] = ()
    ends: tuple[tuple[str, ...], ...] = ()
    model_outputs: tuple[str, ...] | None = None
    repair: Repair = "auto"

    def plan(self, model: Model) -> Plan:
        """The plan of this cut; one section if there is no border at all. Raises what `graphsplit.plan` raises."""
        ends = [list(e) for e in self.ends if e]
        if not ends and not self.inputs:
            return plan_whole(model, outputs=self.model_outputs)
        return plan(
            model,
            shapes=False,
            outputs=ends or None,
            inputs=self.inputs or None,
            model_outputs=self.model_outputs,
            repair=self.repair,
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A model to look at, and the cut to begin with.

    Attributes:
        model: The model.
        cut: The cut.
        origin: Where the cut came from, in a sentence.
    """

    model: Model
    cut: ChosenCut
    origin: str


def open_model(what: ModelLike | Parts, *, planned: Plan | None = None, trust: bool = False, **cut: Unpack[CutOptions]) -> Session:
    """A model with its cut: the one asked for, that of a plan, of parts or of a folder, else what `graphsplit.plan` decides.

    Args:
        what: A model, its parts, or the path of either.
        planned: A plan of the model.
        trust: Load a SavedModel that reaches files, the network or Python.
        **cut: Where to cut, as of `graphsplit.plan`.

    Raises:
        CutError: More than one of split, plan and cut say where to cut; also as `graphsplit.plan`.
        FormatError: The model of a split is not there, or is another file.
    """
    opened = open_model_or_parts(what, trust=trust)
    if isinstance(opened, Parts):
        if planned is not None:
            raise CutError("a split and a plan both say where to cut; pass the model with its plan")
        check_no_cut(cut)
        model = whole_of(opened, rewritten=True, trust=trust)
        ports = [(p.name, [i.tensor for i in p.inputs], [o.tensor for o in p.outputs]) for p in opened]
        return Session(model, _same_repair(_as_cut(ports, opened.outputs, model, "auto"), model, ports), "as it was split")
    if planned is not None:
        if cut:
            raise CutError("a plan and a cut both say where to cut; pass one of them")
        sections = [(s.name, s.inputs, s.outputs) for s in planned.sections]
        return Session(opened, _as_cut(sections, planned.outputs, opened, planned.repair), "as it was planned")
    planned = plan(opened, **cut)
    kept = None if cut.get("model_outputs") is None else planned.outputs
    inputs = planned.cuts[0].tensors if planned.cuts and planned.cuts[0].section == "pre" else ()
    ends = tuple(c.tensors for c in planned.cuts if c.section != "pre")
    return Session(opened, ChosenCut(inputs, ends, kept, planned.repair), planned.origin)


_Ports = Iterable[tuple[str, Iterable[str], Iterable[str]]]  # name, inputs and outputs of each section


def _same_repair(cut: ChosenCut, model: Model, sections: _Ports) -> ChosenCut:
    """The cut with the repair mode that leads to these sections again, because a manifest does not record it."""
    expected = {name: (set(inputs), set(outputs)) for name, inputs, outputs in sections}
    modes: tuple[Repair, ...] = ("auto", "replicate", "border")
    for candidate in (replace(cut, repair=mode) for mode in modes):
        if {s.name: (set(s.inputs), set(s.outputs)) for s in candidate.plan(model).sections} == expected:
            return candidate
    return cut


def _as_cut(sections: _Ports, outputs: tuple[str, ...], model: Model, repair: Repair) -> ChosenCut:
    """The cut that produces these sections again: where each one ends is what later ones read of it."""
    listed = [(name, tuple(inputs), tuple(produced)) for name, inputs, produced in sections]
    ends: dict[str, tuple[str, ...]] = {}
    for number, (name, _, produced) in enumerate(listed[:-1]):
        later: Mapping[str, None] = {t: None for _, inputs, _ in listed[number + 1 :] for t in inputs}
        ends[name] = tuple(t for t in produced if t in later)
    kept = None if set(outputs) == set(model.index.outputs) else outputs
    return ChosenCut(ends.pop("pre", ()), tuple(ends.values()), kept, repair)
