"""What is looked at: a model, and the cut to begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.errors import CutError, FormatError
from graphsplit.formats import Model, load
from graphsplit.parts.folder import MANIFEST, load_parts
from graphsplit.parts.parts import Parts
from graphsplit.planning.planner import Plan, Repair
from graphsplit.splitting.surgery import Choice, choose, plan_choice

__all__ = ["Opened", "Wanted", "open_model"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cut as the workbench holds it.

    inputs         border tensors at which main starts
    ends           for each cut the border tensors at which its section ends; one list for main, several for an N-way split
    model_outputs  outputs of the whole to keep; None: all
    """

    inputs: tuple[str, ...] = ()
    ends: tuple[tuple[str, ...], ...] = ()
    model_outputs: tuple[str, ...] | None = None
    repair: Repair = "auto"

    def plan(self, model: Model) -> Plan:
        """The plan of this cut; without any border one section. Raises what `graphsplit.plan` raises."""
        kept = None if self.model_outputs is None else list(self.model_outputs)
        ends = [list(e) for e in self.ends if e]
        if not ends and not self.inputs:
            choice = Choice((), "main", "whole, as one section")
        else:
            choice = choose(model, outputs=ends or None, inputs=self.inputs or None, shapes=False)
        return plan_choice(model, choice, model_outputs=kept, repair=self.repair)


@dataclass(frozen=True, slots=True)
class Opened:
    """A model to look at, the cut to begin with and where that comes from, in a sentence."""

    model: Model
    wanted: Wanted
    source: str


def open_model(
    what: Model | Parts | Plan | str | PathLike[str], *, model_outputs: Any = None, repair: Repair = "auto", **cut: Any
) -> Opened:
    """A model with its cut: the one asked for (see `choose`), that of parts or of a folder with a split,
    else the preset's or the automatic one.

    Raises what loading and planning raise, CutError for a split together with a cut, FormatError for a split whose model is
    not there.
    """
    named = {key: value for key, value in cut.items() if value not in (None, False)}
    if isinstance(what, (str, PathLike)):
        path = Path(what)
        what = load_parts(path) if (path / MANIFEST).is_file() or path.name == MANIFEST else load(path)
    if isinstance(what, (Parts, Plan)):
        if named or model_outputs is not None:
            raise CutError("a split and a cut were given; the split says where it is cut already. Give the model to cut it anew")
        if isinstance(what, Plan):
            if what.model is None:
                raise CutError("this plan was made of a bare index, which is not kept; give the model and the cut instead")
            sections = [(s.name, s.inputs, s.outputs) for s in what.sections]
            return Opened(what.model, _as_cut(sections, what.outputs, what.model), "as it was planned")
        model = _whole(what)
        ports = [(p.name, [i.tensor for i in p.inputs], [o.tensor for o in p.outputs]) for p in what]
        return Opened(model, _as_cut(ports, what.outputs, model), "as it was split")
    choice = choose(what, **named, model_outputs=model_outputs)
    kept = None
    if model_outputs is not None:
        given = [model_outputs] if isinstance(model_outputs, str) else list(model_outputs)
        kept = tuple(what.index.tensor(n) for name in given for n in name.split(",") if n.strip())
    cuts = choice.cuts
    inputs = cuts[0].tensors if cuts and cuts[0].section == "pre" else ()
    wanted = Wanted(inputs, tuple(c.tensors for c in cuts if c.section != "pre"), kept, repair)
    wanted.plan(what)  # says at once what cannot be
    return Opened(what, wanted, choice.source)


def _as_cut(sections: Iterable[tuple[str, Iterable[str], Iterable[str]]], outputs: tuple[str, ...], model: Model) -> Wanted:
    """The cut that gives these sections again: where each one ends, what later ones read of it."""
    listed = [(name, tuple(inputs), tuple(made)) for name, inputs, made in sections]
    ends: dict[str, tuple[str, ...]] = {}
    for number, (name, _, made) in enumerate(listed[:-1]):
        later: Mapping[str, None] = {t: None for _, inputs, _ in listed[number + 1 :] for t in inputs}
        ends[name] = tuple(t for t in made if t in later)
    kept = None if set(outputs) == set(model.index.outputs) else outputs
    return Wanted(ends.pop("pre", ()), tuple(ends.values()), kept)


def _whole(parts: Parts) -> Model:
    """The model that was split, found where its manifest says and checked by its sum."""
    source = parts.source
    if source.model is not None:
        return source.model
    if source.path is None or not source.path.exists():
        raise FormatError(f"the whole model is not there ({source.path}); give the model instead of its split")
    model = load(source.path)
    if model.sha256 != source.sha256:
        raise FormatError("not the file that was split (its sum is another); give the model that is meant", path=source.path)
    return model
