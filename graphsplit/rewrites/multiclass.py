"""Finding the multiclass non-maximum suppression of the Object Detection API, by structure, and reading its parameters.

For each class one NonMaxSuppression with its slices, gathers and fills; what was selected is joined, sorted, clipped to a
window, freed of boxes without area, and cut to the best few (``multiclass_non_max_suppression`` in the API's
``core/post_processing.py``; until 2018 scores were filtered and boxes clipped before the suppression instead):

    boxes [k, q, 4] ──┬─ class 0: slice, NonMaxSuppression, gather, fill ─┐
    scores [k, C] ────┼─ class 1: …                                       ├─ concat ─ sort ─ clip ─ filter ─ sort ─ take
                      └─ …                                                ┘
                      └────────── what is replaced ───────────────────────┘   └──── the graph's own ops, left as they are
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from graphsplit.formats import GraphDefModel
from graphsplit.graph.index import Node
from graphsplit.graph.traversal import walk
from graphsplit.rewrites.boxes import Window, clipped, keeps_area, keeps_scores, window_key
from graphsplit.rewrites.matching import Matcher, NoMatch
from graphsplit.rewrites.postprocessing import read_following

__all__ = ["MulticlassNms", "Unfit", "find_multiclass"]

_OPS = ("NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5")


@dataclass(frozen=True, slots=True)
class Unfit:
    """A non-maximum suppression that is left alone.

    where   the name of its first op
    reason  why, in words
    """

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class MulticlassNms:
    """The suppression of one image, as it was read from the graph.

    where            name of its first op
    op               which NonMaxSuppression it is built of
    nodes            how many of these
    boxes            float32 [k, q, 4]: q is 1, or the number of classes
    scores           float32 [k, classes]
    iou, threshold   overlaps above and scores not above them are dropped
    per_class        the most of one class
    total            the most of all classes
    first            the class that column 0 of the scores is called
    window           scalars ymin, xmin, ymax, xmax; None: boxes are not clipped
    clips_first      whether boxes are clipped, and those without area dropped, before the suppression (until 2018) or after it
    joined           what is replaced, joined over the classes: boxes, scores, classes
    carried          joined tensor → [k, …] that it holds rows of
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
        """How many classes there are."""
        return self.nodes

    @property
    def scope(self) -> tuple[str, ...]:
        """The name scope that what is replaced has in common: new nodes are named in it, so that families are still known."""
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


@dataclass(frozen=True, slots=True)
class _Class:
    """One class: its op, what it is given, how its boxes were filtered before (outermost filter first)."""

    node: Node
    number: int
    boxes: str
    scores: str
    per_class_boxes: bool
    filters: tuple[str, ...]
    threshold: float
    window: Window | None
    iou: float
    per_class: int


def find_multiclass(model: GraphDefModel) -> Iterator[MulticlassNms | Unfit]:
    """Each multiclass suppression of a graph, read, or why it is left alone. Needs no TensorFlow."""
    match = Matcher(model)
    groups: dict[tuple[str, str], list[_Class]] = defaultdict(list)
    unread: dict[str, list[Node]] = defaultdict(list)
    for node in model.index.nodes:
        if node.op in _OPS:
            try:
                found = _read_class(match, node)
            except NoMatch as why:
                unread[_reason(str(why), node)].append(node)
            else:
                groups[found.boxes, found.scores].append(found)
        elif node.op in ("NonMaxSuppression", "NonMaxSuppressionWithOverlaps"):
            unread[f"{node.op} is not one of {', '.join(_OPS)}"].append(node)
    for function in model.index.functions.values():
        if any("NonMaxSuppression" in op for op in function.ops):
            yield Unfit(function.name, "it lies in a function, as TensorFlow 2 exports it; only the graph itself is rewritten")
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


def _read_class(match: Matcher, node: Node) -> _Class:
    boxes, scores, most = node.inputs[:3]
    if node.op in ("NonMaxSuppressionV4", "NonMaxSuppressionV5"):
        pad = match.attribute(node, "pad_to_max_output_size")
        if pad is not None and pad.b:
            raise NoMatch("each class is padded to its maximum, and the padding stays in the result")
    if node.op == "NonMaxSuppressionV5" and match.number(node.inputs[5], "the sigma of the soft suppression") != 0:
        raise NoMatch("soft suppression, which changes scores, has no fused op")
    iou = match.number(node.inputs[3], "the IoU threshold")
    threshold = match.number(node.inputs[4], "the score threshold") if len(node.inputs) > 4 else float("-inf")
    per_class, rows = match.minimum(most)
    if rows is not None and match.rows_of(rows) not in (match.plain(boxes), match.plain(scores)):
        raise NoMatch("the maximum of a class depends on something else than the number of its boxes")
    boxes, scores = match.plain(boxes), match.plain(scores)
    filters: list[str] = []
    window: Window | None = None
    while match.maker(boxes).op in ("GatherV2", "Gather"):
        boxes, indices = match.gather(boxes)
        scores, others = match.gather(scores)
        if indices != others:
            raise NoMatch("boxes and scores are filtered differently")
        if window is not None and len(filters) != 1:
            raise NoMatch("boxes are filtered more than once before or after they are clipped")
        filters.append(indices)
        boxes, scores = match.plain(boxes), match.plain(scores)
        if match.maker(boxes).op == "ConcatV2":
            if window is not None:
                raise NoMatch("boxes are clipped twice before the suppression")
            if keeps_area(match, indices) != boxes:
                raise NoMatch("boxes are clipped and then filtered by something else than their area")
            boxes, window = clipped(match, boxes)
        else:
            compared, limit = keeps_scores(match, indices)
            if compared != scores:
                raise NoMatch("boxes are filtered by something else than their scores")
            threshold = max(threshold, limit)
    if not threshold >= 0:
        raise NoMatch("scores that are negative would be kept" if filters or len(node.inputs) > 4 else "no score threshold")
    if not 0 <= iou <= 1 or per_class < 1:
        raise NoMatch(f"an IoU threshold of {iou:g} and a maximum of {per_class} for a class")
    unstacked = match.node(boxes, "Unpack", port=None)
    axis = match.attribute(unstacked, "axis")
    if axis is None or axis.i != 1:
        raise NoMatch(f"{unstacked.name!r} does not unstack the boxes of classes")
    column = match.node(match.node(scores, "Reshape", "Squeeze").inputs[0], "Slice")
    begin = match.value(column.inputs[1])
    if begin is None or begin.shape != (2,) or begin[0] != 0 or not _is_column(match, column.inputs[2]):
        raise NoMatch(f"{column.name!r} is not one column of the scores")
    port = match.port(match.plain(boxes))
    number = int(begin[1])
    if len(unstacked.outputs) > 1 and port != number:
        raise NoMatch(f"class {number} is given the boxes of class {port}")
    return _Class(
        node, number, match.here(unstacked.inputs[0]), match.here(column.inputs[0]), len(unstacked.outputs) > 1, tuple(filters),
        threshold, window, iou, per_class,
    )  # fmt: skip


def _is_column(match: Matcher, size: str) -> bool:
    value = match.value(size)
    if value is not None:
        return bool(value.tolist() == [-1, 1])
    node = match.node(size, "Pack")
    return len(node.inputs) == 2 and match.is_number(node.inputs[1], 1) and match.rows_of(node.inputs[0]) is not None


def _read(match: Matcher, classes: Sequence[_Class]) -> MulticlassNms:
    one = classes[0]
    if len(classes) == 1:
        raise NoMatch("one class: it is a single op already")
    if [c.number for c in classes] != list(range(len(classes))):
        raise NoMatch(f"{len(classes)} ops for classes {', '.join(str(c.number) for c in classes[:5])} …")
    for c in classes:
        if _parameters(match, c) != _parameters(match, one):
            raise NoMatch(f"class {c.number} has other parameters than class {one.number}")
    ports = len(match.node(one.node.inputs[0], "Unpack", "GatherV2", "Gather", port=None).outputs)
    if one.per_class_boxes and not one.filters and ports != len(classes):
        raise NoMatch(f"boxes of {ports} classes, scores of {len(classes)}")
    for tensor, rank in ((one.boxes, 3), (one.scores, 2)):
        spec = match.index.tensors[tensor]
        if spec.dtype not in ("float32", None) or (spec.shape is not None and len(spec.shape) != rank):
            raise NoMatch(f"{tensor} is {spec.dtype}{'' if spec.shape is None else list(spec.shape)}, not float32 of rank {rank}")
    joined = _joined(match, classes)
    _check_readers(match, joined)
    total, window, pads_dropped = read_following(match, joined.boxes, joined.scores)
    if joined.padded and not pads_dropped:
        raise NoMatch("each class is padded, and nothing that was recognised drops the padding")
    if one.window is not None and window is not None:
        raise NoMatch("boxes are clipped before and after the suppression")
    if not joined.boxes or not joined.classes:
        raise NoMatch("what is selected is not joined to boxes, scores and classes")
    return MulticlassNms(
        where=one.node.name, op=one.node.op, nodes=len(classes), boxes=one.boxes, scores=one.scores,
        per_class_boxes=one.per_class_boxes, iou=one.iou, threshold=one.threshold, per_class=one.per_class, total=total,
        first=joined.first, window=one.window or window, clips_first=one.window is not None,
        joined=(joined.boxes, joined.scores, joined.classes), carried=tuple(joined.carried),
    )  # fmt: skip


def _parameters(match: Matcher, c: _Class) -> tuple[object, ...]:
    return c.node.op, c.iou, c.threshold, c.per_class, window_key(match, c.window), len(c.filters), c.per_class_boxes


@dataclass(slots=True)
class _Joined:
    boxes: str = ""
    scores: str = ""
    classes: str = ""
    first: float = 0.0
    padded: bool = False
    carried: list[tuple[str, str]] = field(default_factory=list)


def _joined(match: Matcher, classes: Sequence[_Class]) -> _Joined:
    """The tensors that join what all classes selected, and which is which. Raises NoMatch."""
    found = _Joined()
    for node in _concats(match, classes[0].node, len(classes)):
        try:
            kinds = [_kind(match, c, i) for c, i in zip(classes, node.inputs, strict=False)]
        except NoMatch as why:
            raise NoMatch(f"{node.name!r} joins what was selected with something unknown: {why}") from why
        names = {k[0] for k in kinds}
        tensor = node.outputs[0]
        if names == {"boxes"}:
            found.boxes = tensor
        elif names == {"scores"} or names == {"padded scores"}:
            found.scores, found.padded = tensor, names == {"padded scores"}
        elif names == {"class"}:
            found.classes, found.first = tensor, float(kinds[0][1])
            if [float(k[1]) for k in kinds] != [found.first + i for i in range(len(classes))]:
                raise NoMatch(f"{node.name!r} gives classes that do not count up by one")
        elif names == {"rows"}:
            if len({k[1] for k in kinds}) != 1:
                raise NoMatch("masks or other values of each class are carried through")
            found.carried.append((tensor, str(kinds[0][1])))
        else:
            raise NoMatch(f"{node.name!r} joins {' and '.join(sorted(names))}")
    if not found.scores:
        raise NoMatch("what is selected is not joined over the classes")
    return found


def _check_readers(match: Matcher, joined: _Joined) -> None:
    """Refuse lists that are read by more than what sorts them: they will be shorter. Raises NoMatch."""
    for tensor in filter(None, (joined.boxes, joined.scores, joined.classes, *(t for t, _ in joined.carried))):
        if tensor in match.index.outputs:
            raise NoMatch(f"{tensor} is an output of the model")
        for node in match.readers.get(tensor, ()):
            if node.op not in ("Gather", "GatherV2", "Shape", "Size", "TopKV2"):
                raise NoMatch(f"{tensor} is read by {node.name!r} ({node.op}), too")


def _concats(match: Matcher, first: Node, count: int) -> list[Node]:
    """The nodes that join `count` tensors, first of all one that depends on what the first class selected."""

    def joins(node: Node) -> bool:
        # What one class joins reads its op and its own padding; what joins the classes reads none of the ops.
        return node.op == "ConcatV2" and len(node.inputs) == count + 1 and not _within_class(match, node, first)

    def readers(node: Node) -> Iterator[Node]:
        return (reader for tensor in node.outputs for reader in match.readers.get(tensor, ()))

    def onward(node: Node) -> Iterable[Node]:
        return () if joins(node) or node.op in ("Shape", "Size", "TensorArrayWriteV3", "Assert") else readers(node)

    return [node for node in walk(readers(first), onward) if joins(node)]


def _within_class(match: Matcher, node: Node, first: Node) -> bool:
    return match.index.producer[match.plain(node.inputs[0])] == first.name


def _kind(match: Matcher, c: _Class, tensor: str) -> tuple[str, float | str]:
    """What a tensor of one class is: boxes, scores, its number, rows of something. Raises NoMatch."""
    tensor = match.plain(tensor)
    node = match.maker(tensor)
    if tensor == f"{c.node.name}:1" and node.op == "NonMaxSuppressionV5":
        return "scores", 0.0
    if node.op in ("GatherV2", "Gather"):
        source, indices = match.gather(tensor)
        if not _selected(match, c, indices):
            raise NoMatch(f"{node.name!r} gathers by something else than what was selected")
        if match.same(source, c.node.inputs[0]):
            return "boxes", 0.0
        if match.same(source, c.node.inputs[1]):
            return "scores", 0.0
        for indices in c.filters:
            source, found = match.gather(source)
            if found != indices:
                raise NoMatch(f"{node.name!r} gathers what was filtered differently")
        return "rows", match.here(source)
    if node.op in ("Select", "SelectV2"):
        less = match.node(node.inputs[0], "Less")
        if not match.same(match.first(less.inputs[0]), c.node.inputs[2]) or not _count(match, c, less.inputs[1]):
            raise NoMatch(f"{node.name!r} selects by something else than how many there are")
        if not match.filled(node.inputs[2], -1) or not _scores(match, c, node.inputs[1]):
            raise NoMatch(f"{node.name!r} does not pad scores with -1")
        return "padded scores", 0.0
    source, number = match.plus(tensor)
    zeros = match.node(source, "ZerosLike")
    if _kind(match, c, zeros.inputs[0])[0] not in ("scores", "padded scores"):
        raise NoMatch(f"{node.name!r} is not the class of the scores")
    return "class", number


def _selected(match: Matcher, c: _Class, indices: str) -> bool:
    if indices == f"{c.node.name}:0":
        return True
    node = match.maker(indices)
    return (
        node.op == "ConcatV2"
        and len(node.inputs) == 3
        and match.plain(node.inputs[0]) == f"{c.node.name}:0"
        and match.filled(node.inputs[1], 0)
    )


def _scores(match: Matcher, c: _Class, tensor: str) -> bool:
    node = match.maker(match.plain(tensor))
    if node.op == "ConcatV2":
        return len(node.inputs) == 3 and match.plain(node.inputs[0]) == f"{c.node.name}:1" and match.filled(node.inputs[1], 0)
    return _kind(match, c, tensor)[0] == "scores"


def _count(match: Matcher, c: _Class, tensor: str) -> bool:
    if c.node.op == "NonMaxSuppressionV4" and match.plain(tensor) == f"{c.node.name}:1":
        return True
    return match.rows_of(tensor) == f"{c.node.name}:0"
