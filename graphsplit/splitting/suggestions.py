"""Suggested cuts: the preset's, the minimum cut, the heads of the network, the front; best first, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, overload

from graphsplit.errors import CutError
from graphsplit.formats import Model, ModelLike, as_model
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.options import check_count, hinted
from graphsplit.graph.text import bytes_text, count_text, list_text
from graphsplit.inference.shapes import frame_bytes, infer
from graphsplit.planning.affinity import read_affinity
from graphsplit.planning.cuts import Cut
from graphsplit.planning.min_cut import Crop, find_crop
from graphsplit.planning.planner import plan_sections
from graphsplit.planning.presets import match

__all__ = ["Suggestion", "Suggestions", "search", "suggest"]

_UNKNOWN = 4096  # bytes of a tensor whose shape nobody knows


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A possible cut.

    Attributes:
        source: "preset" or "autocrop".
        name: Name of the preset, or which automatic cut it is.
        inputs: Tensors at which main starts; empty: at the inputs of the model.
        outputs: Tensors at which main ends, with dtype and shape.
        nbytes: Bytes of all border tensors after main for one frame.
        added: Further border tensors, which the planner added.
        nodes: Section → number of nodes.
        reason: Why the cut is there.
    """

    source: Literal["preset", "autocrop"]
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[TensorSpec, ...]
    nbytes: int
    added: tuple[str, ...]
    nodes: dict[str, int]
    reason: str

    def __repr__(self) -> str:
        ends = list_text(spec.name for spec in self.outputs)
        return f"Suggestion({self.source} {self.name!r}: main ends at {ends}; {bytes_text(self.nbytes)} per frame)"


@dataclass(frozen=True, slots=True)
class Suggestions(Sequence[Suggestion]):
    """Cuts, best first. `reason` says why there are none, or why the first one is there."""

    cuts: tuple[Suggestion, ...]
    reason: str

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


def search(
    model: Model,
    *,
    affinity: str | PathLike[str] | None = None,
    outputs: Sequence[str] | None = None,
    shapes: bool = True,
    isolate: bool = True,
) -> tuple[Crop, dict[str, int]]:
    """The automatic cut of a model, and the bytes of its tensors that the search used.

    Args:
        model: The model.
        affinity: Path of a table of the ops that your compiler takes, see `graphsplit.planning.affinity`.
        outputs: Outputs of the whole to keep (default: all).
        shapes: Whether to infer sizes (needs TensorFlow); without, all tensors count the same.
        isolate: Infer them in a child process.
    """
    sizes = frame_bytes(model, isolate=isolate) if shapes else {}
    return find_crop(model.index, lambda t: sizes.get(t, _UNKNOWN), read_affinity(affinity), outputs), sizes


@hinted
def suggest(
    model: ModelLike,
    *,
    limit: int = 5,
    affinity: str | PathLike[str] | None = None,
    shapes: bool = True,
    trust: bool = False,
    isolate: bool = True,
) -> Suggestions:
    """Cuts for a model, best first. Needs TensorFlow for the sizes of tensors; nothing is run.

    Args:
        model: A model, or anything that `graphsplit.load` takes.
        limit: How many at most.
        affinity: Path of a table of the ops that your compiler takes, see `graphsplit.planning.affinity`.
        shapes: Whether to infer the sizes of tensors; without, all count the same.
        trust: Load a SavedModel that reaches files, the network or Python.
        isolate: Infer in a child process, which a model can crash without harm; False: in this one.

    Raises:
        FormatError: for a model or a table that cannot be read, and a graph that TensorFlow does not survive.
        OptionError: for a limit below 1.
    """
    check_count("limit", limit)
    model = as_model(model, trust=trust)
    index = model.index
    crop, sizes = search(model, affinity=affinity, shapes=shapes, isolate=isolate)
    asked: list[tuple[Literal["preset", "autocrop"], str, tuple[str, ...], tuple[str, ...], str]] = []
    preset = match(index)
    if preset is not None and preset.targets:
        asked.append(("preset", preset.preset.name, (), preset.targets, preset.reason))
    host = f"the fewest bytes between the network and {crop.reason}"
    if crop.back:
        asked.append(("autocrop", "minimum cut", (), crop.back, host))
        if crop.heads:
            asked.append(("autocrop", "heads", (), crop.heads, "right after the last neural op of each head"))
    if crop.front:
        back = asked[0][3] if asked else ()
        asked.append(("autocrop", "front", crop.front, back, f"{crop.before}; main starts after it"))
    if affinity is not None:  # the user's own table says more than what is usual in a family
        asked.sort(key=lambda a: a[0] == "preset")
    full = [tuple(index.tensor(t) for t in a[3]) for a in asked]
    # Once for all cuts: each time costs an import of the graph.
    ends = dict.fromkeys(t for tensors in full for t in tensors)
    specs = infer(model, ends, isolate=isolate) if shapes else {t: index.tensors[t] for t in ends}
    unique: dict[tuple[str, ...], Suggestion] = {}
    for (source, name, inputs, _, reason), tensors in zip(asked, full, strict=True):
        key = (*inputs, "", *tensors)
        outputs = tuple(specs[t] for t in tensors)
        if key not in unique and (suggestion := _planned(model, sizes, source, name, inputs, outputs, reason)) is not None:
            unique[key] = suggestion
    cuts = tuple(unique.values())[:limit]
    return Suggestions(cuts, cuts[0].reason if cuts else crop.reason)


def _planned(
    model: Model,
    sizes: dict[str, int],
    source: Literal["preset", "autocrop"],
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[TensorSpec, ...],
    reason: str,
) -> Suggestion | None:
    """The suggestion with its border as the planner computes it; None if the planner refuses the cut."""
    index = model.index
    cuts = [Cut("pre", inputs)] if inputs else []
    cuts += [Cut("main", tuple(spec.name for spec in outputs))] if outputs else []
    try:
        plan = plan_sections(index, cuts, last="post" if outputs else "main")
    except CutError:
        return None
    crossing = plan["post"].inputs if any(s.name == "post" for s in plan.sections) else ()
    return Suggestion(
        source=source,
        name=name,
        inputs=inputs,
        outputs=outputs,
        nbytes=sum(sizes.get(t, 0) for t in crossing if t not in index.inputs),
        added=tuple(dict.fromkeys(a.tensor for a in plan.added)),
        nodes={s.name: len(s.nodes) for s in plan.sections},
        reason=reason,
    )
