"""The non-maximum suppression of one class, read backwards from its op to the boxes and scores of all classes.

boxes [k, q, 4] ─ Unpack ───────────────┬─ clip, drop what has no area ─┬─ drop low scores ─┬─ NonMaxSuppression
scores [k, C] ─── Slice one column ─────┘        until 2018: in this order or the other     ┘
"""

from __future__ import annotations

from dataclasses import dataclass

from graphsplit.graph.index import Node
from graphsplit.rewrites.boxes import Window, clipped, keeps_area, keeps_scores, window_key
from graphsplit.rewrites.matching import Matcher, NoMatch

__all__ = ["OPS", "ClassNms", "read_class"]

#: The ops that are read.
OPS = ("NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5")


@dataclass(frozen=True, slots=True)
class ClassNms:
    """One class.

    Attributes:
        node: Its suppression.
        number: Its column of the scores.
        boxes: float32 [k, columns, 4], of all classes.
        scores: float32 [k, classes], of all classes.
        columns: Number of boxes of an anchor: 1, or one per class.
        filters: Indices of the rows that were kept before the suppression, the last filter first.
        threshold: Scores not above it are dropped.
        window: Scalars ymin, xmin, ymax, xmax to which boxes are clipped before the suppression; None: they are not.
        iou: Overlaps above it are suppressed.
        per_class: The most detections.
    """

    node: Node
    number: int
    boxes: str
    scores: str
    columns: int
    filters: tuple[str, ...]
    threshold: float
    window: Window | None
    iou: float
    per_class: int

    def parameters(self, match: Matcher) -> tuple[object, ...]:
        """What has to be the same for all classes."""
        window = window_key(match, self.window)
        return self.node.op, self.iou, self.threshold, self.per_class, window, len(self.filters), self.columns


def read_class(match: Matcher, node: Node) -> ClassNms:
    """Read the suppression of one class. Raises NoMatch."""
    _check_kind(match, node)
    iou = match.number(node.inputs[3], "the IoU threshold")
    limit = match.number(node.inputs[4], "the score threshold") if len(node.inputs) > 4 else float("-inf")
    per_class, rows = match.minimum(node.inputs[2])
    if rows is not None and match.rows_of(rows) not in (match.plain(node.inputs[0]), match.plain(node.inputs[1])):
        raise NoMatch("the maximum of a class depends on something other than the number of its boxes")
    boxes, scores, filters, threshold, window = _before_filters(match, node.inputs[0], node.inputs[1])
    threshold = max(threshold, limit)
    if not threshold >= 0:
        raise NoMatch("scores that are negative would be kept" if filters or len(node.inputs) > 4 else "no score threshold")
    if not 0 <= iou <= 1 or per_class < 1:
        raise NoMatch(f"an IoU threshold of {iou:g} and a maximum of {per_class} for a class")
    unstacked = match.node(boxes, "Unpack", port=None)
    axis = match.attribute(unstacked, "axis")
    if axis is None or axis.i != 1:
        raise NoMatch(f"{unstacked.name!r} does not unstack the boxes of classes")
    column, number = _column(match, scores, match.plain(unstacked.inputs[0]))
    port, columns = match.port(match.plain(boxes)), len(unstacked.outputs)
    if columns > 1 and port != number:
        raise NoMatch(f"class {number} has the boxes of class {port}")
    return ClassNms(
        node, number, match.here(unstacked.inputs[0]), match.here(column), columns, filters, threshold, window, iou, per_class
    )


def _check_kind(match: Matcher, node: Node) -> None:
    """Reject suppressions that pad, and those that change scores. Raises NoMatch."""
    if node.op in ("NonMaxSuppressionV4", "NonMaxSuppressionV5"):
        pad = match.attribute(node, "pad_to_max_output_size")
        if pad is not None and pad.b:
            raise NoMatch("each class is padded to its maximum, and the padding stays in the result")
    if node.op == "NonMaxSuppressionV5" and match.number(node.inputs[5], "the sigma of the soft suppression") != 0:
        raise NoMatch("soft suppression, which changes scores, has no fused op")


def _before_filters(match: Matcher, boxes: str, scores: str) -> tuple[str, str, tuple[str, ...], float, Window | None]:
    """Boxes and scores as they were before filters, the filters, the score threshold and the window. Raises NoMatch."""
    boxes, scores = match.plain(boxes), match.plain(scores)
    filters: list[str] = []
    threshold, window = float("-inf"), None
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
                raise NoMatch("boxes are clipped and then filtered by something other than their area")
            boxes, window = clipped(match, boxes)
        else:
            compared, limit = keeps_scores(match, indices)
            if compared != scores:
                raise NoMatch("boxes are filtered by something other than their scores")
            threshold = max(threshold, limit)
    return boxes, scores, tuple(filters), threshold, window


def _column(match: Matcher, scores: str, boxes: str) -> tuple[str, int]:
    """The scores of all classes and the column, for the scores of one class; scores or boxes count the rows. Raises NoMatch."""
    column = match.node(match.node(scores, "Reshape", "Squeeze").inputs[0], "Slice")
    begin, size = match.value(column.inputs[1]), match.value(column.inputs[2])
    whole = size is not None and size.tolist() == [-1, 1]
    if size is None:
        pack = match.node(column.inputs[2], "Pack")
        rows = (match.plain(column.inputs[0]), boxes)
        whole = len(pack.inputs) == 2 and match.is_number(pack.inputs[1], 1) and match.rows_of(pack.inputs[0]) in rows
    if begin is None or begin.shape != (2,) or begin[0] != 0 or not whole:
        raise NoMatch(f"{column.name!r} is not one column of the scores")
    return column.inputs[0], int(begin[1])
