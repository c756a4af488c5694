"""A model, parts or a path → parts to detect with, and how many classes they know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphsplit.detection.layouts import Layout, recognise
from graphsplit.errors import FormatError
from graphsplit.formats import Model, ModelLike
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.options import check_options
from graphsplit.inference.shapes import infer
from graphsplit.parts.parts import Parts, Port
from graphsplit.planning.presets import match
from graphsplit.rewrites.opening import check_no_cut, open_model_or_parts, open_parts, plan_model, whole_of
from graphsplit.splitting.naming import tensors_of
from graphsplit.splitting.request import CutOptions
from graphsplit.splitting.surgery import split as make_parts

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Detectable", "class_count", "detectable"]

# Tensors with the scores of all classes in whole graphs of the Object Detection API.
_SCORES = ("Postprocessor/convert_scores", "SecondStagePostprocessor/convert_scores", "all_class_predictions_with_background")


@dataclass(frozen=True, slots=True)
class Detectable:
    """Parts to detect with.

    Attributes:
        parts: The sections.
        layout: Which of their outputs hold the detections.
        cut: Where the cut came from, in a sentence.
        notes: What else was decided.
    """

    parts: Parts
    layout: Layout
    cut: str
    notes: tuple[str, ...] = ()

    @property
    def quantised(self) -> dict[str, tuple[float, int]]:
        """Scale and zero point of the inputs that a quantised network has."""
        scales = {p.tensor: part.model.quantisation(p.name) for part in self.parts for p in part.inputs}
        return {tensor: scale for tensor, scale in scales.items() if scale is not None and tensor in self.parts.inputs}

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The inputs of the whole."""
        return self.parts.input_ports


def detectable(
    model: ModelLike | Parts,
    *,
    split: bool = True,
    trust: bool = False,
    fuse_nms: bool = False,
    **cut: Unpack[CutOptions],
) -> Detectable:
    """Parts to detect with, and where detections are among their outputs.

    A model is split as `graphsplit.plan` decides; of its outputs those are kept that detections are read from.

    Args:
        model: A model, its parts, or the path of either.
        split: False: the whole as one part.
        trust: Load a SavedModel that reaches files, the network or Python.
        fuse_nms: One op for the non-maximum suppression of all classes, see `graphsplit.rewrites`.
        **cut: Where to cut, as of `graphsplit.plan`.

    Raises:
        FormatError: for a model whose outputs are not known.
        CutError: for a split together with a cut, and whatever else loading, planning and splitting raise.
    """
    check_options(detectable, cut, CutOptions)
    opened = open_model_or_parts(model, trust=trust)
    if isinstance(opened, Parts):
        if split:
            parts = open_parts(opened, fuse_nms=fuse_nms, trust=trust, **cut)
            return Detectable(parts, recognise(parts.outputs, parts.signature.outputs), "as it was split")
        check_no_cut(cut)
        opened = whole_of(opened, trust=trust)
    kept = cut.get("model_outputs")
    outputs = opened.index.outputs if kept is None else tensors_of(opened.index, kept)
    layout = recognise(outputs, opened.signature.outputs)
    cut["model_outputs"] = layout.tensors if kept is None else kept
    planned = plan_model(opened, fuse_nms=fuse_nms, whole=not split, **cut)
    notes = planned.plan.notes
    if split and not planned.plan.cuts:
        notes = (f"the model runs whole, as one section: {planned.plan.origin}", *notes)
    return Detectable(make_parts(planned.model, planned.plan, shapes=False), layout, planned.plan.origin, notes)


def class_count(parts: Parts, layout: Layout, borders: Iterable[Sequence[int]]) -> int | None:
    """How many classes a model has, as far as names depend on it: 90 or 80; None: unknown, or another number.

    Args:
        parts: The sections.
        layout: Which of their outputs hold the detections.
        borders: Shapes of the border tensors for one image; if the cut is after the network, the scores are among them. If it
            is elsewhere, the shapes of the scores are inferred.
    """

    def known(shapes: Iterable[Sequence[int]]) -> int | None:
        if layout.packed:
            return next((80 for s in shapes if len(s) == 4 and s[-1] == 80), None)
        return next((90 for s in shapes if len(s) in (2, 3) and s[-1] in (90, 91)), None)  # 91: with a background

    models = [part.model for part in parts] if parts.source.model is None else [parts.source.model]
    return known(borders) or next((count for model in models if (count := known(_score_shapes(model)))), None)


def _score_shapes(model: Model) -> list[tuple[int, ...]]:
    """Shapes of the tensors that may hold scores of classes."""
    tensors = _scores(model.index)
    if not tensors:
        return []
    try:
        specs = infer(model, tensors, isolate=False)  # it is run in this process anyway
    except FormatError:
        return []
    return [tuple(d or 0 for d in s.shape) for s in specs.values() if s.shape is not None]


def _scores(index: GraphIndex) -> list[str]:
    preset = match(index)
    if preset is not None and preset.targets:
        return list(preset.targets)
    ends = tuple(f"/{name}" for name in _SCORES)
    return [n.outputs[0] for n in index.nodes if n.outputs and f"/{n.name}".endswith(ends)]
