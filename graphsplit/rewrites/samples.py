"""Feeds for the proof of a rewrite: random tensors, edge cases included, fed at the inputs of the replaced nodes."""

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

__all__ = ["KINDS", "Samples", "image_samples", "nms_samples", "random_boxes"]

#: Kinds of boxes and scores, each an edge case but the first.
KINDS = ("spread", "crowded", "tied", "few", "none", "outside", "degenerate", "flipped", "not a number")


@dataclass(frozen=True, slots=True)
class Samples:
    """Random feeds.

    Attributes:
        feeds: Number of a sample → {tensor: array}; the same number yields the same feeds.
        fetches: Tensors to compare, as named before the rewrite.
    """

    feeds: Callable[[int], dict[str, Array]]
    fetches: tuple[str, ...]


def random_boxes(
    kind: str, anchors: int, columns: int, classes: int, threshold: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Random boxes and scores of one image.

    Args:
        kind: One of `KINDS`.
        anchors: Number of anchors.
        columns: Number of boxes of an anchor.
        classes: Number of classes.
        threshold: Score threshold of the suppression.
        rng: Source of randomness.

    Returns:
        Boxes float32 [anchors, columns, 4] and scores float32 [anchors, classes].
    """
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
    elif kind == "degenerate":  # without height, without width, or both
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


def nms_samples(model: GraphDefModel, nms: MulticlassNms) -> Samples:
    """Random boxes, scores, windows and carried tensors for a suppression, in batches of 1 and 3 if it is inside a loop.

    Raises:
        NoMatch: The tensors outside of the loop are not known.
    """
    match = Matcher(model)
    boxes, scores = outside(match, nms.boxes), outside(match, nms.scores)
    carried = {outside(match, source) for _, source in nms.carried} - {boxes, scores}
    window = None if nms.window is None else _window(match, nms.window)
    specs = infer(model, [t for t in (boxes, scores, window, *carried) if t is not None])
    looped = nms.scores in match.index.captive
    rank = 3 if looped else 2
    anchors = _known(specs[scores].shape, rank - 2) or _known(specs[boxes].shape, rank - 2) or 200
    columns = nms.classes if nms.per_class_boxes else 1

    def feeds(number: int) -> dict[str, Array]:
        rng = np.random.default_rng(number)
        batch = 3 if looped and number % 2 else 1
        images = [
            random_boxes(KINDS[(number + i) % len(KINDS)], anchors, columns, nms.classes, nms.threshold, rng) for i in range(batch)
        ]
        b, s = (np.stack(side) if looped else side[0] for side in zip(*images, strict=True))
        fed = {scores: s, boxes: _fitting(b, specs[boxes].shape)}
        if window is not None:
            corner = rng.uniform(0.0, 0.3, (batch, 2))
            corners = np.concatenate([corner, corner + rng.uniform(0.3, 0.7, (batch, 2))], axis=1).astype(np.float32)
            if number % 3 == 0:
                corners = np.tile(np.array([0, 0, 1, 1], np.float32), (batch, 1))
            fed[window] = corners if len(specs[window].shape or (None, 4)) == 2 else corners[0]
        for tensor in carried:
            shape = specs[tensor].shape or ()
            lead = (batch, anchors) if looped else (anchors,)
            fed[tensor] = rng.random((*lead, *(d or 3 for d in shape[len(lead) :]))).astype(np.float32)
        return fed

    group = match.maker(nms.scores).group
    stacked = [n.outputs[0] for n in model.index.nodes if n.group == group and n.op == "TensorArrayGatherV3"] if group else []
    return Samples(feeds, tuple(stacked) or model.index.outputs)


def _fitting(boxes: Array, shape: Shape | None) -> Array:
    """Boxes in the rank of the tensor that is fed: a graph may add the axis of the classes later."""
    return boxes[..., 0, :] if shape is not None and len(shape) == boxes.ndim - 1 else boxes


def _known(shape: Shape | None, axis: int) -> int | None:
    return None if shape is None or len(shape) <= axis else shape[axis]


def _window(match: Matcher, window: tuple[str, ...]) -> str | None:
    """The tensor outside of loops that holds the corners of a window; None for a constant."""
    vectors = {match.element(t, i) for i, t in enumerate(window)}
    vector = vectors.pop() if len(vectors) == 1 else None
    if vector is None or match.value(vector) is not None:
        return None
    return outside(match, vector)


def outside(match: Matcher, tensor: str) -> str:
    """The tensor outside of loops whose row, sliced and reshaped, is a tensor inside of a loop. Raises NoMatch."""
    while tensor in match.index.captive:
        if match.plain(tensor) not in match.index.captive:
            return match.plain(tensor)  # the same for all rows
        node = match.maker(match.plain(tensor))
        if node.op in ("Reshape", "Slice", "Squeeze", "ExpandDims"):
            tensor = node.inputs[0]
        elif node.op == "TensorArrayReadV3":
            tensor = match.plain(match.node(node.inputs[2], "TensorArrayScatterV3").inputs[2])
        else:
            raise NoMatch(f"{node.name!r} is not a row of the tensors that the loop runs over")
    return tensor


def image_samples(model: GraphDefModel, loop: BatchedMap) -> Samples:
    """Random images of random sizes, in batches of 1 and 3."""
    spec = infer(model, [loop.images])[loop.images]
    shape = spec.shape if spec.shape is not None and len(spec.shape) == 4 else (None, None, None, 3)

    def feeds(number: int) -> dict[str, Array]:
        rng = np.random.default_rng(number)
        sizes = (3 if number % 2 else 1, int(rng.integers(1, 700)), int(rng.integers(1, 700)), 3)
        images = rng.uniform(-1, 255, [d or s for d, s in zip(shape, sizes, strict=True)])
        return {loop.images: images.astype(spec.dtype or "float32")}

    return Samples(feeds, tuple(result for result, _ in loop.results))
