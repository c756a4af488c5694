"""A model, parts or a path → parts to detect with, and how many classes they know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.detection.layouts import Layout, recognise
from graphsplit.errors import CutError, FormatError
from graphsplit.formats import Model, as_graphdef, load
from graphsplit.graph.index import GraphIndex
from graphsplit.inference.shapes import infer
from graphsplit.parts.folder import MANIFEST, load_parts
from graphsplit.parts.parts import Parts, Port
from graphsplit.planning.planner import Repair
from graphsplit.planning.presets import match
from graphsplit.rewrites import fused
from graphsplit.splitting.surgery import Choice, Names, choose, plan_choice
from graphsplit.splitting.surgery import split as make_parts

__all__ = ["Detectable", "class_count", "detectable"]

# Where the scores of all classes are to be seen in graphs of the Object Detection API, whole as they are.
_SCORES = ("Postprocessor/convert_scores", "SecondStagePostprocessor/convert_scores", "all_class_predictions_with_background")


@dataclass(frozen=True, slots=True)
class Detectable:
    """Parts to detect with.

    layout  where the answer is among their outputs
    cut     where the cut comes from, in a sentence
    notes   what else was decided
    """

    parts: Parts
    layout: Layout
    cut: str
    notes: tuple[str, ...] = ()

    @property
    def quantised(self) -> dict[str, tuple[float, int]]:
        """Scale and zero point of the inputs that a quantised network has."""
        found = {p.tensor: part.model.quantisation(p.name) for part in self.parts for p in part.inputs}
        return {tensor: scale for tensor, scale in found.items() if scale is not None and tensor in self.parts.inputs}

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the whole is fed."""
        ports = {p.tensor: p for part in reversed(self.parts.sections) for p in part.inputs}
        return tuple(ports[t] for t in self.parts.inputs if t in ports)


def detectable(
    model: Model | Parts | str | PathLike[str],
    *,
    split: bool = True,
    trust: bool = False,
    fuse_nms: bool = False,
    model_outputs: Names | None = None,
    repair: Repair = "auto",
    **cut: Any,
) -> Detectable:
    """Parts of a model, cut at what `cut` (see `choose`) or its preset says, else where the search finds
    a cut; the whole as one part where `split` is False, or nothing is worth cutting off.

    fuse_nms  one op for the non-maximum suppression of all classes (see `graphsplit.rewrites`)

    Of a model's outputs those are kept that detections are read from. Raises what loading, planning and splitting raise.
    """
    named = {key: value for key, value in cut.items() if value not in (None, False)}
    if isinstance(model, (str, PathLike)):
        path = Path(model)
        is_split = (path / MANIFEST).is_file() or path.name == MANIFEST
        model = load_parts(path) if is_split else load(path, trust=trust)
    if isinstance(model, Parts):
        if fuse_nms and split:
            raise CutError("a split was given; --fuse-nms goes with `graphsplit split`, or give the model")
        if named or model_outputs is not None:
            raise CutError("a split and a cut were given; the split says where it is cut already. Give the model to cut it anew")
        if split:
            return Detectable(model, recognise(model.outputs), "as it was split")
        model = _whole(model, trust)
    elif not split and named:
        raise CutError(f"{', '.join(sorted(named))} names a cut, but the model is to run whole")
    layout = recognise(model.index.outputs if model_outputs is None else _tensors(model.index, model_outputs))
    if model_outputs is None:
        model_outputs = layout.tensors
    notes: tuple[str, ...] = ()
    if not split:
        choice = Choice((), "main", "whole, as one section")
    else:
        choice = choose(model, **named, model_outputs=model_outputs)
        if not choice.cuts:
            notes = (f"the model runs whole, as one section: {choice.source}",)
    if fuse_nms:
        model, choice = fused(as_graphdef(model, "--fuse-nms"), choice, model_outputs)
    plan = plan_choice(model, choice, model_outputs=model_outputs, repair=repair)
    return Detectable(make_parts(model, plan, shapes=False), layout, choice.source, (*notes, *choice.notes))


def _tensors(index: GraphIndex, names: Names) -> list[str]:
    given = [names] if isinstance(names, str) else list(names)
    return [index.tensor(part) for name in given for part in name.split(",") if part.strip()]


def _whole(parts: Parts, trust: bool) -> Model:
    """The model that was split, found where its manifest says and checked by its sum."""
    source = parts.source
    if source.model is not None:
        return source.model
    if source.path is None or not source.path.exists():
        raise FormatError(f"the whole model is not there ({source.path}); give the model instead of its split")
    model = load(source.path, trust=trust)
    if model.sha256 != source.sha256:
        raise FormatError("not the file that was split (its sum is another); give the model that is meant", path=source.path)
    return model


def class_count(parts: Parts, layout: Layout, borders: Iterable[Sequence[int]]) -> int | None:
    """How many classes a model has, as far as names depend on it: 90 or 80; None: unknown, or another number.

    borders  shapes of the values that crossed for one picture. The scores are among them where the cut lies behind the
             network; of a model that runs whole they are inferred
    """
    shapes = [tuple(s) for s in borders]
    model = parts.source.model
    if len(parts) == 1 and model is not None:
        try:
            specs = infer(model, _scores(model.index))
        except FormatError:
            return None
        shapes = [tuple(d or 0 for d in s.shape) for s in specs.values() if s.shape is not None]
    if layout.packed:
        return next((80 for s in shapes if len(s) == 4 and s[-1] == 80), None)
    return next((90 for s in shapes if len(s) in (2, 3) and s[-1] in (90, 91)), None)  # 91: with a background


def _scores(index: GraphIndex) -> list[str]:
    found = match(index)
    if found is not None and found.targets:
        return list(found.targets)
    ends = tuple(f"/{name}" for name in _SCORES)
    return [n.outputs[0] for n in index.nodes if n.outputs and f"/{n.name}".endswith(ends)]
