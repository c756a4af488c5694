"""The replacement: one CombinedNonMaxSuppression for all classes, with what makes it exact.

CombinedNonMaxSuppression selects as the ops of the single classes do, with three differences, each handled here:

- It leaves the order of equal scores open, and with it which of two overlapping boxes of equal scores survives. Therefore it
  receives ranks instead of scores: candidates are sorted once (TopKV2 is stable: score, then class, then box, the order of
  the exported graph), the n-th best gets the score N - n, and the scores that come back identify the candidates. Their
  indices are exact, so values that are carried along are gathered by them.
- It returns a fixed number of boxes and clips to the unit square; both are turned off. Clipping, the removal of boxes without
  area, sorting and cutting are left to the graph's own ops, downstream.
- It treats boxes whose overlap is NaN as apart, the single ops as overlapping. Boxes that are not finite are refused at run
  time with a message (the IoU of all others is a number).

Few candidates can get into the result, so only the best are considered first: the best anchors, and of these the best
candidates. Their selection is a prefix of the whole selection, down to the best score of an anchor that was left out
(suppression never looks ahead). If that prefix fills the result, or nothing above the threshold was left out, it is the
result; else all candidates are sorted, in the other branch of a Switch.

    boxes, scores ─ best anchors ─ best candidates ─ ranks ─ Combined… ─┬─ enough? ─ Merge ─ boxes, scores, classes
                  └──────────── (if not) all candidates ─ ranks ─ Combined… ────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass

from graphsplit.formats.graphdef.edit import NodeWriter
from graphsplit.rewrites.boxes import Window
from graphsplit.rewrites.multiclass import MulticlassNms
from graphsplit.rewrites.tensor_ops import TensorOps

__all__ = ["write_fused"]

_ANCHORS, _CANDIDATES = 512, 1024  # considered first for a result of 100; more for larger results
_FINITE = 1e18  # coordinates below it have areas, and sums of areas, that are finite in float32
_COUNTED = 1 << 24  # integers below it are exact in float32, the dtype of ranks
_TOO_MANY = b"more than 16,777,216 boxes and classes: the fused non-maximum suppression cannot rank them exactly"
_MORE_COLUMNS = b"scores of more classes than are suppressed: the fused non-maximum suppression would take them all"
_NOT_FINITE = b"a box is not finite (NaN, or 1e18 and more): the fused non-maximum suppression is not exact for it"


@dataclass(frozen=True, slots=True)
class _Selected:
    """The selection, best first.

    Attributes:
        score: float32 [n].
        number: Column of the scores, int32 [n].
        anchor: Row of the scores, int32 [n].
    """

    score: str
    number: str
    anchor: str


def write_fused(write: NodeWriter, nms: MulticlassNms) -> dict[str, str]:
    """Write the replacement of a suppression that `find_multiclass` found; joined list → the tensor that replaces it."""
    m = TensorOps(write)
    columns = nms.classes if nms.per_class_boxes else 1
    boxes = _finite(m, m.reshape(nms.boxes, m.const([-1, 4])))
    scores = _only(m, nms.scores, nms.classes)
    if nms.clips_first and nms.window is not None:
        boxes = _clip(m, boxes, nms.window)
        alive = m.write("Reshape", _has_area(m, boxes), m.const([-1, columns]), T="bool", Tshape="int32")
        scores = m.choose(alive, scores, m.const(float("-inf"), "float32"), "float32")
    best, enough = _best(m, nms, boxes, scores)
    every = _all(m, nms, *(m.switch(x, enough, "float32")[0] for x in (boxes, scores)))
    score, number, anchor = (
        m.merge(other, m.switch(one, enough, dtype)[1], dtype)
        for one, other, dtype in (
            (best.score, every.score, "float32"), (best.number, every.number, "int32"), (best.anchor, every.anchor, "int32"),
        )
    )  # fmt: skip
    classes = m.two("AddV2", m.cast(number, "int32", "float32"), m.const(nms.first, "float32"), "float32")
    joined = (m.rows(boxes, _row(m, nms, number, anchor)), score, classes)
    replaced = {old: new for old, new in zip(nms.joined, joined, strict=True) if old}
    for old, source in nms.carried:
        replaced[old] = m.write(
            "GatherV2", source, anchor, m.const(0), Tparams="float32", Tindices="int32", Taxis="int32"
        )  # fmt: skip
    return replaced


def _finite(m: TensorOps, boxes: str) -> str:
    """Boxes, after a check that all of them are finite."""
    small = m.two("Less", m.write("Abs", boxes, T="float32"), m.const(_FINITE, "float32"), "float32")
    sure = m.reduce("All", small, [0, 1])
    check = m.write.must(sure, _NOT_FINITE)
    return m.write("Identity", boxes, after=[check], T="float32")


def _only(m: TensorOps, scores: str, classes: int) -> str:
    """Scores, after a check that they have one column per suppressed class."""
    check = m.write.must(m.two("Equal", m.size(scores, 1), m.const(classes)), _MORE_COLUMNS)
    return m.write("Identity", scores, after=[check], T="float32")


def _row(m: TensorOps, nms: MulticlassNms, number: str, anchor: str) -> str:
    """Row of the box of a class at an anchor among all boxes."""
    if not nms.per_class_boxes:
        return anchor
    return m.two("AddV2", m.two("Mul", anchor, m.const(nms.classes)), number)


def _clip(m: TensorOps, boxes: str, window: Window) -> str:
    """Boxes [n, 4] clipped to a window, as the graph does."""
    low = m.write("Pack", window[0], window[1], window[0], window[1], T="float32", N=4, axis=0)
    high = m.write("Pack", window[2], window[3], window[2], window[3], T="float32", N=4, axis=0)
    return m.two("Maximum", m.two("Minimum", boxes, high, "float32"), low, "float32")


def _has_area(m: TensorOps, boxes: str) -> str:
    """Whether each of the boxes [n, 4] has an area above zero: bool [n]."""
    corners = m.write("Unpack", boxes, T="float32", num=4, axis=1).removesuffix(":0")
    height = m.two("Sub", f"{corners}:2", f"{corners}:0", "float32")
    width = m.two("Sub", f"{corners}:3", f"{corners}:1", "float32")
    return m.two("Greater", m.two("Mul", height, width, "float32"), m.const(0.0, "float32"), "float32")


def _combined(m: TensorOps, nms: MulticlassNms, boxes: str, ranks: str, most: str, total: str) -> str:
    """The ranks [n] of the selected candidates, counted from 0, the best first.

    Args:
        boxes: [n, q, 4].
        ranks: [n, classes]: `total` minus the rank of a candidate; 0 for a cell that is not one.
        most: The most candidates to select.
        total: Number of candidates.
    """
    selected = m.write(
        "CombinedNonMaxSuppression",
        m.write("ExpandDims", boxes, m.const(0), T="float32", Tdim="int32"),
        m.write("ExpandDims", ranks, m.const(0), T="float32", Tdim="int32"),
        m.const(nms.per_class),
        most,
        m.const(nms.iou, "float32"),
        m.const(0.5, "float32"),
        pad_per_class=False,
        clip_boxes=False,
    ).removesuffix(":0")
    keys = m.write(
        "Slice", m.reshape(f"{selected}:1", m.const([-1])), m.const([0]), f"{selected}:3", T="float32", Index="int32"
    )  # fmt: skip
    return m.two("Sub", total, m.cast(keys, "float32", "int32"))


def _best(m: TensorOps, nms: MulticlassNms, boxes: str, scores: str) -> tuple[_Selected, str]:
    """The selection among the best candidates, and whether it suffices for the result."""
    more = max(1, -(-nms.total // 100))
    threshold, least = m.const(nms.threshold, "float32"), m.const(float("-inf"), "float32")
    count = m.size(scores, 0)
    highest = m.reduce("Max", scores, [1], T="float32")
    anchors = m.two("Minimum", m.const(_ANCHORS * more), count)
    tops, where = m.top(highest, anchors)
    left_out = m.choose(m.two("Less", anchors, count), m.reduce("Min", tops, [0], T="float32"), least, "float32")
    # Back to the order of the graph, in which equal scores are selected.
    where = m.write("Neg", m.top(m.write("Neg", where, T="int32"), anchors, "int32")[0], T="int32")
    flat = m.reshape(m.transposed(m.rows(scores, where)), m.const([-1]))

    cells = m.two("Mul", anchors, m.const(nms.classes))
    total = m.two("Minimum", m.const(_CANDIDATES * more), cells)
    values, places = m.top(flat, total)
    lower = m.choose(m.two("Less", total, cells), m.reduce("Min", values, [0], T="float32"), least, "float32")
    number = m.two("FloorDiv", places, m.two("Maximum", anchors, m.const(1)))
    anchor = m.rows(where, m.two("Sub", places, m.two("Mul", number, anchors)), "int32")

    own = m.rows(boxes, _row(m, nms, number, anchor))  # the box of each candidate
    candidate = m.choose(m.two("Greater", values, threshold, "float32"), number, m.const(-1), "int32")
    cell = m.write(
        "OneHot", candidate, m.const(nms.classes), m.const(1.0, "float32"), m.const(0.0, "float32"), T="float32", TI="int32"
    )  # fmt: skip
    order = m.cast(m.two("Sub", total, m.write("Range", m.const(0), total, m.const(1), Tidx="int32")), "int32", "float32")
    ranks = m.two("Mul", cell, m.reshape(order, m.const([-1, 1])), "float32")
    most = m.two("Maximum", total, m.const(1))
    rank = _combined(m, nms, m.reshape(own, m.const([-1, 1, 4])), ranks, most, total)
    chosen = _Selected(m.rows(values, rank), m.rows(number, rank, "int32"), m.rows(anchor, rank, "int32"))

    # A selected score is final if no anchor that was left out reaches it.
    counts = m.two("Greater", chosen.score, left_out, "float32")
    if nms.window is not None and not nms.clips_first:
        alive = _has_area(m, _clip(m, m.rows(own, rank), nms.window))
        counts = m.write("LogicalAnd", counts, alive)
    sure = m.two("GreaterEqual", m.reduce("Sum", m.cast(counts, "bool", "int32"), [0], T="int32"), m.const(nms.total))
    complete = m.write("LogicalNot", m.two("Greater", m.two("Maximum", left_out, lower, "float32"), threshold, "float32"))
    numbers = m.reduce("All", m.two("Equal", highest, highest, "float32"), [0])  # NaN is not equal to itself
    return chosen, m.write("LogicalAnd", m.write("LogicalOr", sure, complete), numbers)


def _all(m: TensorOps, nms: MulticlassNms, boxes: str, scores: str) -> _Selected:
    """The selection among all candidates. Every node depends on the arguments, so that none runs if this branch is not taken."""
    threshold = m.const(nms.threshold, "float32")
    columns = nms.classes if nms.per_class_boxes else 1
    count = m.size(scores, 0)
    # NaN is not above any threshold; scores below zero are not candidates.
    proper = m.choose(m.two("Greater", scores, threshold, "float32"), scores, m.const(-1.0, "float32"), "float32")
    flat = m.reshape(m.transposed(proper), m.const([-1]))
    total = m.write("Size", flat, T="float32", out_type="int32")
    counted = m.write.must(m.two("Less", total, m.const(_COUNTED)), _TOO_MANY)
    total = m.write("Identity", total, after=[counted], T="int32")
    values, places = m.top(flat, total)
    order = m.cast(m.two("Sub", total, m.write("InvertPermutation", places, T="int32")), "int32", "float32")
    ranks = m.choose(m.two("Greater", flat, threshold, "float32"), order, m.const(0.0, "float32"), "float32")
    ranks = m.transposed(m.reshape(ranks, m.vector(m.const(nms.classes), count)))
    own = m.reshape(boxes, m.const([-1, columns, 4]))
    most = m.two("Mul", m.two("Minimum", count, m.const(nms.per_class)), m.const(nms.classes))
    rank = _combined(m, nms, own, ranks, m.two("Maximum", most, m.const(1)), total)
    place = m.rows(places, rank, "int32")
    number = m.two("FloorDiv", place, m.two("Maximum", count, m.const(1)))
    return _Selected(m.rows(values, rank), number, m.two("Sub", place, m.two("Mul", number, count)))
