"""Which outputs of a model are boxes, scores and classes. Recognised by the keys of its signature, then by the names that
exporters give them:

detection_boxes, detection_scores, detection_classes, num_detections (, detection_masks)    Object Detection API
boxes, scores, classes (, num, masks)                                                       the same, for TensorRT
nmsed_boxes, nmsed_scores, nmsed_classes, valid_detections                                  tf.image's suppression
TFLite_Detection_PostProcess, …:1, …:2, …:3                                                 boxes, classes, scores, count
SemanticPredictions                                                                         DeepLab
detections, the only output                                                                 CenterNet, one row per box

Names that say nothing (Identity_1, StatefulPartitionedCall:1, output_1) leave the order of the outputs, which differs between
exporters. Then the values of each image decide: classes and counts are whole numbers, scores lie between 0 and 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.runtimes.arrays import Array

__all__ = ["Layout", "recognise", "settled"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The output tensors that detections are read from; an empty name: the model has no such output.

    Attributes:
        boxes: float [1, N, 4]: ymin, xmin, ymax, xmax, normalised.
        scores: float [1, N].
        classes: float or int [1, N].
        count: [1]: how many of the N are detections.
        masks: float [1, N, h, w]: probabilities inside each box.
        packed: float [1, N, 6]: xmin, ymin, xmax, ymax in pixels of the model's input, score, class.
        segmentation: int [1, height, width]: the class of each pixel, 0 is background.
        first: Id of the first class: 1, or 0 in layouts that count from 0.
        guesses: What else the outputs may be, and this, if neither keys nor names say it; see `settled`.
    """

    boxes: str = ""
    scores: str = ""
    classes: str = ""
    count: str = ""
    masks: str = ""
    packed: str = ""
    segmentation: str = ""
    first: int = 1
    guesses: tuple[Layout, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors it needs."""
        every = (self.boxes, self.scores, self.classes, self.count, self.masks, self.packed, self.segmentation)
        return tuple(dict.fromkeys(t for t in (*every, *(t for guess in self.guesses for t in guess.tensors)) if t))

    @property
    def longest_side(self) -> int:
        """The longest side of an image that the model takes, in pixels; 0: any. DeepLab is exported for 513."""
        return 513 if self.segmentation else 0


# Names and keys of each role, those of one exporter in one place.
_ROLES = {
    "boxes": ("detection_boxes", "boxes", "nmsed_boxes"),
    "scores": ("detection_scores", "scores", "nmsed_scores"),
    "classes": ("detection_classes", "classes", "nmsed_classes"),
    "count": ("num_detections", "num", "valid_detections"),
    "masks": ("detection_masks", "masks", ""),
}
_NEEDED = ("boxes", "scores", "classes")
_TFLITE = "TFLite_Detection_PostProcess"
_TELLS_NOTHING = re.compile(r"(Identity|output|(?P<call>(Stateful)?PartitionedCall))(_\d+)?(:\d+)?")
# Outputs of the API's exporter for TensorFlow 2, by their number. SavedModels order them by key.
_BY_KEY: Mapping[int, tuple[str, ...]] = {
    4: ("boxes", "classes", "scores", "count"),
    7: ("boxes", "classes", "", "scores", "count", "", ""),
    8: ("", "boxes", "classes", "", "scores", "count", "", ""),
}
_SLACK = 1e-3  # by which scores may leave 0 … 1, and whole numbers be none


def recognise(outputs: Sequence[str], signature: Mapping[str, str] | None = None) -> Layout:
    """Find the layout of a model by its outputs.

    Args:
        outputs: Names of its output tensors, in order.
        signature: Key → output, as far as the model's file states keys.

    Raises:
        FormatError: if no layout fits; lists the outputs and the known layouts.
    """
    keys = {key: tensor for key, tensor in (signature or {}).items() if tensor in outputs}
    plain = {_plain(t): t for t in reversed(outputs)}
    layout = _named(keys) or _named(plain) or _tflite(outputs) or _single(outputs) or _guessed(outputs)
    if layout is None:
        styles = "; ".join(", ".join(filter(None, names)) for names in zip(*_ROLES.values(), strict=True))
        there = ", ".join(
            f"{t} ({keys_of})" if (keys_of := ", ".join(k for k, o in keys.items() if o == t)) else t for t in outputs
        )
        raise FormatError(
            f"none of its outputs is known to be boxes, scores and classes; there are {there or 'none'}. Known are "
            f"{styles}; those of {_TFLITE}; SemanticPredictions; and a single output called detections"
        )
    return layout


def _plain(tensor: str) -> str:
    """A name without its scope and port."""
    return tensor.rpartition("/")[2].partition(":")[0]


def _layout(by_role: Mapping[str, str]) -> Layout:
    return Layout(
        boxes=by_role["boxes"],
        scores=by_role["scores"],
        classes=by_role["classes"],
        count=by_role.get("count", ""),
        masks=by_role.get("masks", ""),
    )


def _named(names: Mapping[str, str]) -> Layout | None:
    """The layout by name or key → output."""
    for style in range(3):
        by_role = {role: names[known[style]] for role, known in _ROLES.items() if known[style] in names}
        if all(role in by_role for role in _NEEDED):
            return _layout(by_role)
    return None


def _tflite(outputs: Iterable[str]) -> Layout | None:
    by_port = {t.partition(":")[2] or "0": t for t in outputs if _plain(t) == _TFLITE}
    if not {"0", "1", "2", "3"} <= set(by_port):
        return None
    return Layout(boxes=by_port["0"], classes=by_port["1"], scores=by_port["2"], count=by_port["3"], first=0)


def _guessed(outputs: Sequence[str]) -> Layout | None:
    names = [_TELLS_NOTHING.fullmatch(t.rpartition("/")[2]) for t in outputs]
    if not all(names):
        return None
    roles = _BY_KEY.get(len(outputs))
    if roles is None:
        return None
    first = 0 if any(name and name["call"] for name in names) else 1  # of a TFLite file, or of a graph
    orders = permutations(roles) if len(roles) == 4 else [roles]
    guesses = tuple(replace(_layout(dict(zip(order, outputs, strict=True))), first=first) for order in orders)
    return replace(guesses[0], guesses=guesses)


def _single(outputs: Sequence[str]) -> Layout | None:
    for tensor in outputs:
        if _plain(tensor) == "SemanticPredictions":
            return Layout(segmentation=tensor)
    if len(outputs) == 1 and _plain(outputs[0]) == "detections":
        return Layout(packed=outputs[0], first=0)
    return None


def settled(layout: Layout, values: Mapping[str, Array]) -> Layout | None:
    """The layout of an image's outputs, once their values are there.

    Args:
        layout: The layout, perhaps with guesses.
        values: Its tensors.

    Returns:
        The layout without guesses; None if nothing was detected, so that it does not matter.

    Raises:
        GraphSplitError: No guess fits the values, or several do.
    """
    if not layout.guesses:
        return layout
    arrays = {t: np.asarray(values[t]) for t in layout.tensors}
    fitting = [guess for guess in layout.guesses if _fits(guess, arrays)]
    if fitting and all(int(arrays[guess.count].reshape(-1)[0]) == 0 for guess in fitting):
        return None
    distinct = {tuple(arrays[t].tobytes() for t in (guess.boxes, guess.scores, guess.classes)): guess for guess in fitting}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    shapes = ", ".join(f"{t} {list(array.shape)}" for t, array in arrays.items())
    what = "cannot be told apart by their values" if distinct else "are not boxes, classes, scores and a count"
    raise GraphSplitError(
        f"the outputs {shapes} {what}; export the model with a signature whose keys are detection_boxes, detection_classes, "
        "detection_scores and num_detections"
    )


def _fits(layout: Layout, values: Mapping[str, Array]) -> bool:
    """Whether each output is what a layout says, by shape and, for those that are detections, by value."""
    boxes, scores, classes, count = (values[t] for t in (layout.boxes, layout.scores, layout.classes, layout.count))
    if count.size != 1 or boxes.ndim not in (2, 3) or boxes.shape[-1] != 4 or scores.shape != boxes.shape[:-1]:
        return False
    if classes.shape != scores.shape or any(a.dtype.kind not in "fiu" for a in (boxes, scores, classes, count)):
        return False
    number = float(count.reshape(-1)[0])
    if not _whole(count) or not 0 <= number <= scores.shape[-1]:
        return False
    scores, classes = (a.reshape(-1)[: int(number)] for a in (scores, classes))
    return bool(
        np.isfinite(scores).all()
        and ((scores >= -_SLACK) & (scores <= 1 + _SLACK)).all()
        and _whole(classes)
        and (classes > -1 - _SLACK).all()
    )


def _whole(values: Array) -> bool:
    return bool(np.isfinite(values).all() and (np.abs(values - np.rint(values)) <= _SLACK).all())
