"""Suggested cuts: the preset's, the heads of the network, the fewest bytes, around host ops; best first, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, overload

from graphsplit.errors import CutError
from graphsplit.formats import ModelLike, as_model
from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.graph.options import check_count, hinted
from graphsplit.graph.text import bytes_text, count_text, list_text
from graphsplit.inference.shapes import Shapes, Sizes, infer
from graphsplit.planning.affinity import read_affinity, refusing
from graphsplit.planning.plan import Plan
from graphsplit.planning.planner import plan_sections
from graphsplit.planning.presets import match
from graphsplit.planning.targets import Target, read_target
from graphsplit.splitting.searching import Finder, Found, chain_cuts

__all__ = ["Suggestion", "Suggestions", "suggest"]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A possible cut.

    Attributes:
        source: "preset" or "autocrop".
        name: Name of the preset, or which automatic cut it is.
        inputs: Tensors at which main starts; empty: at the inputs of the model.
        outputs: Tensors at which main ends, with dtype and shape.
        nbytes: Bytes of all border tensors for one frame, before main and after it, each counted once.
        added: Further border tensors, which the planner added.
        nodes: Section → number of nodes.
        reason: Why the cut is there.
        share: Part of the multiplications of all layers that main holds, from 0 to 1; None if the model has no layers.
    """

    source: Literal["preset", "autocrop"]
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[TensorSpec, ...]
    nbytes: int
    added: tuple[str, ...]
    nodes: dict[str, int]
    reason: str
    share: float | None = None

    def __repr__(self) -> str:
        ends = list_text(spec.name for spec in self.outputs)
        return f"Suggestion({self.source} {self.name!r}: main ends at {ends}; {bytes_text(self.nbytes)} per frame)"


@dataclass(frozen=True, slots=True)
class Suggestions(Sequence[Suggestion]):
    """Cuts, best first.

    Attributes:
        cuts: The cuts.
        reason: Why there are none, or why the first one is there.
        islands: Part of the multiplications that sections on accelerator and host in turn (`islands` of `graphsplit.plan`) hold
            on the accelerator, from 0 to 1; None where no host op lies between layers.
    """

    cuts: tuple[Suggestion, ...]
    reason: str
    islands: float | None = None

    def __repr__(self) -> str:
        names = list_text((f"{cut.source} {cut.name!r}" for cut in self.cuts), most=5)
        return f"Suggestions({count_text(len(self.cuts), 'cut')}: {names or self.reason})"

    def __len__(self) -> int:
        return len(self.cuts)

    @overload
    def __getitem__(self, place: int) -> Suggestion: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Suggestion]: ...
    def __getitem__(self, place: int | slice) -> Suggestion | Sequence[Suggestion]:
        return self.cuts[place]

    def __iter__(self) -> Iterator[Suggestion]:
        return iter(self.cuts)


@hinted
def suggest(
    model: ModelLike,
    *,
    limit: int = 5,
    affinity: str | PathLike[str] | None = None,
    target: str | PathLike[str] | Target | None = None,
    shapes: Shapes = True,
    trust: bool = False,
    isolate: bool = True,
) -> Suggestions:
    """Cuts for a model, best first. Needs TensorFlow for the sizes of tensors; nothing is run.

    Args:
        model: A model, or anything that `graphsplit.load` takes.
        limit: How many at most.
        affinity: Path of a table of the ops that your compiler takes, see `graphsplit.planning.affinity`.
        target: Name of a target, or path of a ``.json`` file: what its table refuses stays on the host. Its compiler is not
            asked; `graphsplit.plan` and `graphsplit.split` do that.
        shapes: Whether to infer the sizes of tensors; without, all count the same. Or shapes of inputs, as of `graphsplit.plan`.
        trust: Load a SavedModel that reaches files, the network or Python.
        isolate: Infer in a child process, which a model can crash without harm; False: in this one.

    Raises:
        FormatError: for a model or a table that cannot be read, and a graph that TensorFlow does not survive.
        OptionError: for a limit below 1, and a target that does not exist.
        CutError: for a table and a target together.
    """
    check_count("limit", limit)
    model = as_model(model, trust=trust, isolate=isolate)
    index = model.index
    taken = read_affinity(affinity)
    if target is not None:
        if affinity is not None:
            raise CutError("affinity and target both say what the accelerator takes; pass one of them")
        known = read_target(target)
        known.check_format(model.section_format, path=model.path)
        if unsuited := known.unsuited(index):
            return Suggestions((), unsuited)
        taken = refusing(known.refusals(index))
    found = Finder(model, Sizes(model, shapes=shapes, isolate=isolate, outputs=model.index.outputs)).search(taken)
    asked = _asked(found)
    best = found.search.best()
    preset = match(index)
    if preset is not None and preset.targets:
        targets = tuple(index.tensor(t) for t in preset.targets)
        familiar = [_Asked("preset", preset.preset.name, (), targets, preset.reason, firm=False)]
        if best.front:
            familiar.append(_Asked("autocrop", "front", best.front, targets, f"{best.before}; main starts after it", firm=False))
        # The user's own table says more than what is usual in a family.
        asked = [*asked, *familiar] if affinity is not None or target is not None else [*familiar, *asked]
    plans = [_plan(index, found, one) for one in asked]
    # Once for all cuts: each time costs an import of the graph.
    ends = dict.fromkeys(t for plan in plans if plan is not None for cut in plan.cuts for t in cut.tensors)
    specs = {t: index.tensors[t] for t in ends} if shapes is False else infer(model, ends, shapes=shapes, isolate=isolate)
    unique: dict[frozenset[tuple[str, frozenset[str]]], Suggestion] = {}
    for one, plan in zip(asked, plans, strict=True):
        if plan is not None:
            key = frozenset((cut.section, frozenset(cut.tensors)) for cut in plan.cuts)
            unique.setdefault(key, _suggestion(plan, found, specs, one))
    cuts = tuple(unique.values())[:limit]
    return Suggestions(cuts, cuts[0].reason if cuts else best.reason, found.islands_share)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A cut to plan; the attributes are those of `Suggestion`, and `firm` as of `graphsplit.planning.planner.plan_sections`."""

    source: Literal["preset", "autocrop"]
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reason: str
    firm: bool = True


def _asked(found: Found) -> list[_Asked]:
    """The automatic cuts, best first."""
    search = found.search
    between = found.between
    best = search.best()
    crops = [("heads" if best.back else "front", best, " ".join((found.why(best), *between)))]
    if not best.back:
        crops.append(("heads", search.heads(), "right after the last layer of each head; no op there is known to belong on a host"))
    bytes_first = search.fewest_bytes()
    crops.append(("minimum cut", bytes_first, f"the fewest bytes between the network and {bytes_first.reason}"))
    if between:
        crops.append(("before the host op", search.starting_before(), between[0]))
        crops.append(("after the host op", search.starting_after(), between[0]))
    return [_Asked("autocrop", name, crop.front, crop.back, reason) for name, crop, reason in crops if crop.cuts]


def _plan(index: GraphIndex, found: Found, asked: _Asked) -> Plan | None:
    """The plan of a cut, with the smallest border; None if the planner refuses the cut."""
    cuts, last = chain_cuts(asked.inputs, asked.outputs)
    try:
        return plan_sections(
            index,
            cuts,
            last=last,
            nbytes=found.nbytes,
            firm=asked.firm,
            fixed=found.search.fixed if asked.firm else frozenset(),
        )
    except CutError:
        return None


def _suggestion(plan: Plan, found: Found, specs: Mapping[str, TensorSpec], asked: _Asked) -> Suggestion:
    """The suggestion with its border as the planner computes it."""
    ends = {cut.section: cut.tensors for cut in plan.cuts}
    main = next((s.nodes for s in plan.sections if s.name == "main"), ())
    return Suggestion(
        source=asked.source,
        name=asked.name,
        inputs=ends.get("pre", ()),
        outputs=tuple(specs[t] for t in ends.get("main", ())),
        nbytes=sum(found.nbytes.known.get(t, 0) for t in plan.borders),
        added=tuple(dict.fromkeys(a.tensor for a in plan.added)),
        nodes={s.name: len(s.nodes) for s in plan.sections},
        reason=asked.reason,
        share=found.share(main),
    )
