"""The multiclass non-maximum suppression of the Object Detection API, found by structure, with its parameters.

Each class has a NonMaxSuppression with slices, gathers and fills. What the classes select is joined, sorted, clipped to a
window, filtered by area, and cut to the best few (``multiclass_non_max_suppression`` in the API's
``core/post_processing.py``; until 2018 scores were filtered and boxes clipped before the suppression instead):

    boxes [k, q, 4] ──┬─ class 0: slice, NonMaxSuppression, gather, fill ─┐
    scores [k, C] ────┼─ class 1: …                                       ├─ concat ─ sort ─ clip ─ filter ─ sort ─ take
                      └─ …                                                ┘
                      └────────── what is replaced ───────────────────────┘   └──── the graph's own ops, left as they are
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from graphsplit.formats import GraphDefModel
from graphsplit.graph.index import Node
from graphsplit.rewrites.boxes import Window
from graphsplit.rewrites.joined import read_joined
from graphsplit.rewrites.matching import Matcher, NoMatch, Unfit
from graphsplit.rewrites.postprocessing import read_following
from graphsplit.rewrites.suppression import OPS, ClassNms, read_class

__all__ = ["MulticlassNms", "find_multiclass"]


@dataclass(frozen=True, slots=True)
class MulticlassNms:
    """The suppression of one image, as read from the graph.

    Attributes:
        where: Name of its first op.
        op: The NonMaxSuppression it is built of.
        nodes: Number of these ops.
        boxes: float32 [k, q, 4]: q is 1, or the number of classes.
        scores: float32 [k, classes].
        per_class_boxes: Whether each class has its own boxes.
        iou: Overlaps above it are suppressed.
        threshold: Scores not above it are dropped.
        per_class: The most detections of one class.
        total: The most detections of all classes.
        first: Class id of column 0 of the scores.
        window: Scalars ymin, xmin, ymax, xmax; None: boxes are not clipped.
        clips_first: Whether boxes are clipped, and those without area dropped, before the suppression (until 2018) or after it.
        joined: Boxes, scores and class ids, joined over the classes: the lists that are replaced.
        carried: Joined list and the [k, …] that it holds rows of, for everything that is carried along.
    """

    where: str
    op: str
    nodes: int
    boxes: str
    scores: str
    per_class_boxes: bool
    iou: float
    threshold: float
    per_class: int
    total: int
    first: float
    window: Window | None
    clips_first: bool
    joined: tuple[str, str, str]
    carried: tuple[tuple[str, str], ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.nodes

    @property
    def scope(self) -> tuple[str, ...]:
        """The name scope that the replaced nodes share. New nodes are named in it, so that presets still match."""
        parts = [name.rpartition(":")[0].split("/")[:-1] for name in (f"{self.where}:0", *filter(None, self.joined))]
        return tuple(one[0] for one in takewhile(lambda one: len(set(one)) == 1, zip(*parts, strict=False)))

    def summary(self) -> dict[str, object]:
        """The parameters, for people and manifests."""
        return {
            "op": self.op,
            "classes": self.classes,
            "first_class": self.first,
            "iou_threshold": self.iou,
            "score_threshold": self.threshold,
            "max_per_class": self.per_class,
            "max_total": self.total,
            "boxes": "one for each class" if self.per_class_boxes else "shared by all classes",
            "clip": "none" if self.window is None else "before" if self.clips_first else "after",
            "carried": len(self.carried),
        }


def find_multiclass(model: GraphDefModel) -> Iterator[MulticlassNms | Unfit]:
    """Find each multiclass suppression of a graph, without TensorFlow.

    Yields:
        Its parameters, or the reason why it is left alone.
    """
    match = Matcher(model)
    groups: dict[tuple[str, str], list[ClassNms]] = defaultdict(list)
    unread: dict[str, list[Node]] = defaultdict(list)
    for node in model.index.nodes:
        if node.op in OPS:
            try:
                one = read_class(match, node)
            except NoMatch as why:
                unread[_reason(str(why), node)].append(node)
            else:
                groups[one.boxes, one.scores].append(one)
        elif node.op in ("NonMaxSuppression", "NonMaxSuppressionWithOverlaps"):
            unread[f"{node.op} is not supported; {', '.join(OPS)} are"].append(node)
    for function in model.index.functions.values():
        if any("NonMaxSuppression" in op for op in function.ops):
            yield Unfit(function.name, "it is inside a function, as TensorFlow 2 exports it; only the graph itself is rewritten")
    for reason, nodes in unread.items():
        more = f" (and {len(nodes) - 1} more)" if len(nodes) > 1 else ""
        yield Unfit(nodes[0].name, reason + more)
    for classes in groups.values():
        try:
            yield _read(match, sorted(classes, key=lambda c: c.number))
        except NoMatch as why:
            yield Unfit(classes[0].node.name, str(why))


def _reason(why: str, node: Node) -> str:
    return why.replace(repr(node.name), f"its {node.op}")


def _read(match: Matcher, classes: Sequence[ClassNms]) -> MulticlassNms:
    one = classes[0]
    if len(classes) == 1:
        raise NoMatch("one class: it is a single op already")
    if [c.number for c in classes] != list(range(len(classes))):
        raise NoMatch(f"{len(classes)} ops for classes {', '.join(str(c.number) for c in classes[:5])} …")
    for c in classes:
        if c.parameters(match) != one.parameters(match):
            raise NoMatch(f"class {c.number} has other parameters than class {one.number}")
    if one.columns not in (1, len(classes)):
        raise NoMatch(f"boxes of {one.columns} classes, scores of {len(classes)}")
    for tensor, rank in ((one.boxes, 3), (one.scores, 2)):
        spec = match.index.tensors[tensor]
        if spec.dtype not in ("float32", None) or (spec.shape is not None and len(spec.shape) != rank):
            raise NoMatch(f"{tensor} is {spec.dtype}{'' if spec.shape is None else list(spec.shape)}, not float32 of rank {rank}")
    joined = read_joined(match, classes)
    following = read_following(match, joined)
    if one.window is not None and following.window is not None:
        raise NoMatch("boxes are clipped before and after the suppression")
    if not joined.boxes or not joined.classes:
        raise NoMatch("what is selected is not joined to boxes, scores and classes")
    return MulticlassNms(
        where=one.node.name, op=one.node.op, nodes=len(classes), boxes=one.boxes, scores=one.scores,
        per_class_boxes=one.columns > 1, iou=one.iou, threshold=one.threshold, per_class=one.per_class, total=following.total,
        first=joined.first, window=one.window or following.window, clips_first=one.window is not None,
        joined=(joined.boxes, joined.scores, joined.classes), carried=tuple(joined.carried),
    )  # fmt: skip
