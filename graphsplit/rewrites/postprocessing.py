"""What follows a multiclass suppression: the lists of all classes, joined, are sorted, clipped and cut.

What may be put in the place of the joined lists depends on it: boxes that are dropped here need not be given, and of a
list that is cut to the best few only the best are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphsplit.rewrites.boxes import Window, area, clipped, keeps_area, row_filter, valid_count
from graphsplit.rewrites.matching import Matcher, NoMatch

__all__ = ["read_following"]


def read_following(match: Matcher, boxes: str, scores: str) -> tuple[int, Window | None, bool]:
    """(the most of all classes, the window, whether padding is dropped), read from what follows the joined lists."""
    window: Window | None = None
    total, in_order = 0, False
    for _ in range(8):  # sort, clip, mark, sort, take, take: no list goes through more
        step = (
            _sorted(match, boxes, scores) or _clip(match, boxes, scores) or _marked(match, boxes, scores)
            or _taken(match, boxes, scores)
        )  # fmt: skip
        if step is None:
            break
        if isinstance(step, _Take):
            if not in_order:
                raise NoMatch("the best are taken of a list that is not sorted")
            total = min(total or step.most, step.most)
            if step.valid:
                return total, window, True
            boxes, scores = step.boxes, step.scores
            continue
        boxes, scores, found, sorts = step
        in_order = in_order or sorts
        if found is not None and window is not None:
            raise NoMatch("boxes are clipped twice")
        window = found or window
    if not total:
        raise NoMatch("what follows the suppression is not the sort, clip and cut of the Object Detection API")
    return total, window, False


@dataclass(frozen=True, slots=True)
class _Take:
    boxes: str
    scores: str
    most: int
    valid: bool


_Step = tuple[str, str, Window | None, bool]  # boxes, scores, the window they were clipped to, whether they were sorted


def _rows(match: Matcher, tensor: str, indices: str) -> str | None:
    return next((rows for found, rows in row_filter(match, tensor) if found == indices), None) if tensor else None


def _sorted(match: Matcher, boxes: str, scores: str) -> _Step | None:
    for node in match.readers.get(scores, ()):
        if node.op == "TopKV2" and node.inputs[0] == scores:
            if match.rows_of(node.inputs[1]) not in (boxes, scores):
                raise NoMatch(f"{node.name!r} does not sort the whole list")
            rows = _rows(match, scores, node.outputs[1])
            if rows is None:
                raise NoMatch("sorted scores are not gathered")
            return _rows(match, boxes, node.outputs[1]) or "", rows, None, True
    return None


def _clip(match: Matcher, boxes: str, scores: str) -> _Step | None:
    for indices, rows in row_filter(match, scores):
        try:
            kept = keeps_area(match, indices)
            source, window = clipped(match, kept)
        except NoMatch:
            continue
        if source != boxes:
            raise NoMatch("other boxes are clipped than those of the scores")
        return _rows(match, kept, indices) or "", rows, window, False
    return None


def _marked(match: Matcher, boxes: str, scores: str) -> _Step | None:
    for node in match.readers.get(scores, ()):
        if node.op in ("Select", "SelectV2") and node.inputs[1] == scores and match.filled(node.inputs[2], -1):
            cast = match.node(node.inputs[0], "Cast", "NotEqual")
            if area(match, cast.inputs[0]) != boxes:
                raise NoMatch(f"{node.name!r} drops boxes by something else than their area")
            return boxes, node.outputs[0], None, False
    return None


def _taken(match: Matcher, boxes: str, scores: str) -> _Take | None:
    for indices, rows in row_filter(match, scores):
        try:
            limit = match.first(indices)
        except NoMatch:
            continue
        after = _rows(match, boxes, indices) or ""
        node = match.maker(match.plain(limit))
        if node.op in ("Select", "SelectV2"):
            greater = match.node(node.inputs[0], "Greater")
            most, _ = match.minimum(greater.inputs[0])
            valid_count(match, greater.inputs[1])
            if not (match.same(node.inputs[1], greater.inputs[1]) and match.same(node.inputs[2], greater.inputs[0])):
                raise NoMatch(f"{node.name!r} is not the number of valid boxes")
            return _Take(after, rows, most, True)
        most, count = match.minimum(limit)
        if count is not None:
            match.rows_of(count)
        if most < 1:
            raise NoMatch(f"at most {most} of all classes")
        return _Take(after, rows, most, False)
    return None
