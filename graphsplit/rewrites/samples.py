"""What the proof of a rewrite runs old and new on: random tensors, the odd ones among them, fed right where it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphsplit.formats import GraphDefModel
from graphsplit.graph.index import Shape
from graphsplit.inference.shapes import infer
from graphsplit.rewrites.batched_map import BatchedMap
from graphsplit.rewrites.matching import Matcher, NoMatch
from graphsplit.rewrites.multiclass import MulticlassNms
from graphsplit.runtimes.arrays import Array

__all__ = ["KINDS", "Samples", "image_samples", "made_boxes", "nms_samples"]


#: Kinds of boxes and scores: what each tries.
KINDS = ("spread", "crowded", "tied", "few", "none", "outside", "degenerate", "flipped", "not a number")


@dataclass(frozen=True, slots=True)
class Samples:
    """Random feeds.

    feeds    number of a sample → {tensor: array}; the same number gives the same feeds
    fetches  tensors of the model before the rewrite to compare
    """

    feeds: Callable[[int], dict[str, Array]]
    fetches: tuple[str, ...]


def made_boxes(
    kind: str, anchors: int, columns: int, classes: int, threshold: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Boxes float32 [anchors, columns, 4] and scores float32 [anchors, classes] of one image, of a kind from `KINDS`."""
    size = (anchors, columns, 2)
    spread = 0.2 if kind == "crowded" else 1.0
    center = rng.uniform(0.5 - spread / 2, 0.5 + spread / 2, size)
    half = rng.uniform(0.02, 0.25, size)
    if kind == "outside":
        center = rng.uniform(-1.0, 2.0, size)
    boxes = np.concatenate([center - half, center + half], axis=2)
    scores = rng.uniform(0.0, 1.0, (anchors, classes)) ** rng.choice([1.0, 4.0, 20.0])
    if kind == "tied":
        scores = np.round(scores * 4) / 4
    elif kind == "few":
        scores = np.where(rng.random(scores.shape) < 0.02, scores, 0.0)
    elif kind == "none":
        scores = np.minimum(scores, threshold) if threshold > 0 else np.zeros_like(scores)
    elif kind == "degenerate":  # no height, no width, or neither
        flat = rng.random((anchors, columns)) < 0.5
        boxes[flat, 2 + rng.integers(2)] = boxes[flat, 0]
        boxes[rng.random((anchors, columns)) < 0.3] = 0.5
        scores = np.round(scores * 50) / 50
    elif kind == "flipped":
        boxes = np.where(rng.random((anchors, columns, 1)) < 0.4, boxes[..., [2, 1, 0, 3]], boxes)
        boxes = np.where(rng.random((anchors, columns, 1)) < 0.4, boxes[..., [0, 3, 2, 1]], boxes)
    elif kind == "not a number":
        scores = np.where(rng.random(scores.shape) < 0.05, np.nan, scores)
    return boxes.astype(np.float32), scores.astype(np.float32)


def nms_samples(model: GraphDefModel, found: MulticlassNms) -> Samples:
    """Random boxes, scores, windows and carried tensors for a suppression, in batches of 1 and 3 where it lies in a loop.

    Raises NoMatch where it cannot be told which tensors are the border.
    """
    match = Matcher(model)
    boxes, scores = outside(match, found.boxes), outside(match, found.scores)
    carried = {outside(match, source) for _, source in found.carried} - {boxes, scores}
    window = None if found.window is None else _window(match, found.window)
    specs = infer(model, [t for t in (boxes, scores, window, *carried) if t is not None])
    looped = found.scores in match.index.captive
    rank = 3 if looped else 2
    anchors = _known(specs[scores].shape, rank - 2) or _known(specs[boxes].shape, rank - 2) or 200
    columns = found.classes if found.per_class_boxes else 1

    def feeds(number: int) -> dict[str, Array]:
        rng = np.random.default_rng(number)
        batch = 3 if looped and number % 2 else 1
        made = [
            made_boxes(KINDS[(number + i) % len(KINDS)], anchors, columns, found.classes, found.threshold, rng)
            for i in range(batch)
        ]
        b, s = (np.stack(side) if looped else side[0] for side in zip(*made, strict=True))
        given = {scores: s, boxes: _fitting(b, specs[boxes].shape)}
        if window is not None:
            corner = rng.uniform(0.0, 0.3, (batch, 2))
            corners = np.concatenate([corner, corner + rng.uniform(0.3, 0.7, (batch, 2))], axis=1).astype(np.float32)
            if number % 3 == 0:
                corners = np.tile(np.array([0, 0, 1, 1], np.float32), (batch, 1))
            given[window] = corners if len(specs[window].shape or (None, 4)) == 2 else corners[0]
        for tensor in carried:
            shape = specs[tensor].shape or ()
            lead = (batch, anchors) if looped else (anchors,)
            given[tensor] = rng.random((*lead, *(d or 3 for d in shape[len(lead) :]))).astype(np.float32)
        return given

    group = match.maker(found.scores).group
    stacked = [n.outputs[0] for n in model.index.nodes if n.group == group and n.op == "TensorArrayGatherV3"] if group else []
    return Samples(feeds, tuple(stacked) or model.index.outputs)


def _fitting(boxes: Array, shape: Shape | None) -> Array:
    """Boxes in the rank that the border has: a graph may add the axis of the classes later."""
    return boxes[..., 0, :] if shape is not None and len(shape) == boxes.ndim - 1 else boxes


def _known(shape: Shape | None, axis: int) -> int | None:
    return None if shape is None or len(shape) <= axis else shape[axis]


def _window(match: Matcher, window: tuple[str, ...]) -> str | None:
    """The tensor outside of loops that the corners of a window come from; None where that is a constant."""
    vectors = {match.element(t, i) for i, t in enumerate(window)}
    vector = vectors.pop() if len(vectors) == 1 else None
    if vector is None or match.value(vector) is not None:
        return None
    return outside(match, vector)


def outside(match: Matcher, tensor: str) -> str:
    """The tensor outside of loops of which one in a loop is one row, sliced and reshaped. Raises NoMatch."""
    while tensor in match.index.captive:
        if match.plain(tensor) not in match.index.captive:
            return match.plain(tensor)  # the same for all rows
        node = match.maker(match.plain(tensor))
        if node.op in ("Reshape", "Slice", "Squeeze", "ExpandDims"):
            tensor = node.inputs[0]
        elif node.op == "TensorArrayReadV3":
            tensor = match.plain(match.node(node.inputs[2], "TensorArrayScatterV3").inputs[2])
        else:
            raise NoMatch(f"{node.name!r} is not a row of what the loop runs over")
    return tensor


def image_samples(model: GraphDefModel, found: BatchedMap) -> Samples:
    """Random images of random sizes, 1 and 3 in a batch."""
    spec = infer(model, [found.images])[found.images]
    shape = spec.shape if spec.shape is not None and len(spec.shape) == 4 else (None, None, None, 3)

    def feeds(number: int) -> dict[str, Array]:
        rng = np.random.default_rng(number)
        sizes = (3 if number % 2 else 1, int(rng.integers(1, 700)), int(rng.integers(1, 700)), 3)
        images = rng.uniform(-1, 255, [d or s for d, s in zip(shape, sizes, strict=True)])
        return {found.images: images.astype(spec.dtype or "float32")}

    return Samples(feeds, tuple(result for result, _ in found.results))
