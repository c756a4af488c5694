"""What a workbench is opened with: a model, and the cut to begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphsplit.errors import CutError
from graphsplit.formats import Model, ModelLike
from graphsplit.parts.parts import Parts
from graphsplit.planning.plan import Plan, Repair
from graphsplit.planning.targets import Target, read_target, target_names
from graphsplit.rewrites.opening import check_no_cut, open_model_or_parts, whole_of
from graphsplit.splitting.request import PlanOptions
from graphsplit.splitting.surgery import plan, plan_whole

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ChosenCut", "Session", "cut_of", "open_model"]


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
        target: The target to begin with, if one was named.
        fitted: The plan of the cut, where a search for a target or for islands decided more than the cut says.
    """

    model: Model
    cut: ChosenCut
    origin: str
    target: Target | None = None
    fitted: Plan | None = None

    def plan(self) -> Plan:
        """The plan of the cut to begin with. Raises what `graphsplit.plan` raises."""
        return self.fitted or self.cut.plan(self.model)


def open_model(what: ModelLike | Parts, *, planned: Plan | None = None, trust: bool = False, **cut: Unpack[PlanOptions]) -> Session:
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
        chosen = _same_repair(_as_cut(ports, opened.outputs, model, "auto"), model, ports)
        fitted = (
            None
            if opened.target is None
            else replace(chosen.plan(model), target=opened.target, devices={p.name: p.device for p in opened})
        )
        return Session(model, chosen, "as it was split", _built_in(fitted), fitted)
    if planned is not None:
        if cut:
            raise CutError("a plan and a cut both say where to cut; pass one of them")
        sections = [(s.name, s.inputs, s.outputs) for s in planned.sections]
        chosen = _as_cut(sections, planned.outputs, opened, planned.repair)
        fitted = planned if planned.target is not None or planned.devices else None
        return Session(opened, chosen, "as it was planned", _built_in(fitted), fitted)
    planned = plan(opened, **cut)
    kept = None if cut.get("model_outputs") is None else planned.outputs
    target = cut.get("target")
    fitted = planned if planned.target is not None or planned.devices else None
    chosen = cut_of(planned, kept)
    return Session(opened, chosen, planned.origin, None if target is None else read_target(target), fitted)


def cut_of(planned: Plan, kept: tuple[str, ...] | None) -> ChosenCut:
    """The cut of a plan.

    Args:
        planned: The plan.
        kept: Outputs of the whole to keep; None: all.
    """
    inputs = planned.cuts[0].tensors if planned.cuts and planned.cuts[0].section == "pre" else ()
    ends = tuple(c.tensors for c in planned.cuts if c.section != "pre")
    return ChosenCut(inputs, ends, kept, planned.repair)


def _built_in(planned: Plan | None) -> Target | None:
    """The target that a plan was made for, if it is built in: of others only the name is known."""
    name = None if planned is None or planned.target is None else planned.target.target
    return read_target(name) if name in target_names() and name is not None else None


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
