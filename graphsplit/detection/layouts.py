"""Which outputs of a model are boxes, scores and classes, recognised by the names that exporters give them:

detection_boxes, detection_scores, detection_classes, num_detections (, detection_masks)    Object Detection API
boxes, scores, classes (, num, masks)                                                       the same, for TensorRT
TFLite_Detection_PostProcess, …:1, …:2, …:3                                                 boxes, classes, scores, count
Identity, Identity_1, …                                                                     the API's SavedModels of
                                                                                            TensorFlow 2, ordered by key
SemanticPredictions                                                                         DeepLab
detections, the only output                                                                 CenterNet, one row per box
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphsplit.errors import FormatError

__all__ = ["Layout", "recognise"]


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
    """

    boxes: str = ""
    scores: str = ""
    classes: str = ""
    count: str = ""
    masks: str = ""
    packed: str = ""
    segmentation: str = ""
    first: int = 1

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors it needs."""
        every = (self.boxes, self.scores, self.classes, self.count, self.masks, self.packed, self.segmentation)
        return tuple(t for t in every if t)

    @property
    def longest_side(self) -> int:
        """The longest side of an image that the model takes, in pixels; 0: any. DeepLab is exported for 513."""
        return 513 if self.segmentation else 0


_ROLES = {
    "boxes": ("detection_boxes", "boxes"),
    "scores": ("detection_scores", "scores"),
    "classes": ("detection_classes", "classes"),
    "count": ("num_detections", "num"),
    "masks": ("detection_masks", "masks"),
}
_NEEDED = ("boxes", "scores", "classes")
_TFLITE = "TFLite_Detection_PostProcess"
# The outputs of the API's exporter for TensorFlow 2, by their number. SavedModels order them by key.
_BY_KEY: Mapping[int, tuple[str, ...]] = {
    4: ("boxes", "classes", "scores", "count"),
    7: ("boxes", "classes", "", "scores", "count", "", ""),
    8: ("", "boxes", "classes", "", "scores", "count", "", ""),
}


def recognise(outputs: Sequence[str]) -> Layout:
    """Find the layout of a model by its outputs.

    Args:
        outputs: Names of its output tensors, in order.

    Raises:
        FormatError: if no layout fits; lists the outputs and the known layouts.
    """
    layout = _by_name(outputs) or _tflite(outputs) or _by_key(outputs) or _single(outputs)
    if layout is None:
        long, short = (", ".join(names) for names in zip(*_ROLES.values(), strict=True))
        raise FormatError(
            f"none of its outputs is known to be boxes, scores and classes; there are {', '.join(outputs) or 'none'}. Known are "
            f"{long}; {short}; those of {_TFLITE}; SemanticPredictions; and a single output called detections"
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


def _by_name(outputs: Iterable[str]) -> Layout | None:
    plain = {_plain(t): t for t in reversed(list(outputs))}
    for style in (0, 1):
        by_role = {role: plain[names[style]] for role, names in _ROLES.items() if names[style] in plain}
        if all(role in by_role for role in _NEEDED):
            return _layout(by_role)
    return None


def _tflite(outputs: Iterable[str]) -> Layout | None:
    by_port = {t.partition(":")[2] or "0": t for t in outputs if _plain(t) == _TFLITE}
    if not {"0", "1", "2", "3"} <= set(by_port):
        return None
    return Layout(boxes=by_port["0"], classes=by_port["1"], scores=by_port["2"], count=by_port["3"], first=0)


def _by_key(outputs: Sequence[str]) -> Layout | None:
    expected = ["Identity", *(f"Identity_{i}" for i in range(1, len(outputs)))]
    if len(outputs) not in _BY_KEY or [_plain(t) for t in outputs] != expected:
        return None
    return _layout(dict(zip(_BY_KEY[len(outputs)], outputs, strict=True)))


def _single(outputs: Sequence[str]) -> Layout | None:
    for tensor in outputs:
        if _plain(tensor) == "SemanticPredictions":
            return Layout(segmentation=tensor)
    if len(outputs) == 1 and _plain(outputs[0]) == "detections":
        return Layout(packed=outputs[0], first=0)
    return None
