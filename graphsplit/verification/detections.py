"""Comparing detections where equal scores may come in another order.

A detector's answer is a list for each image, best first: scores [batch, n], and with them boxes [batch, n, 4], classes
[batch, n] and whatever else has a row for each detection. Of two detections with exactly the same score neither is first.
So within a run of equal scores the rows are compared as a set, everything else bit by bit:

    scores   .9  .7  .7  .7  .2        .9  .7  .7  .7  .2
    classes   1   3   1   1   2         1   1   3   1   2      equal, with a tie in another order
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from graphsplit.runtimes.arrays import Array

__all__ = ["Ties", "compare_detections", "detection_rows"]


@dataclass(frozen=True, slots=True)
class Ties:
    """Two answers of a detector, compared.

    equal    whether they hold the same detections, equal scores in any order
    images   number of images with equal scores in another order
    tensors  the tensors that were compared so
    note     what differs; empty when nothing does
    """

    equal: bool
    images: int
    tensors: tuple[str, ...]
    note: str = ""


def detection_rows(values: Mapping[str, Array]) -> tuple[str, tuple[str, ...]] | None:
    """The scores among some tensors, and all tensors that have a row for each detection; None where there are none.

    Scores are float [batch, n] and never rise along n; a name that says so is preferred.
    """
    ranked = [
        name
        for name, v in values.items()
        if v.ndim == 2 and v.dtype.kind == "f" and v.shape[1] > 1 and bool((v[:, 1:] <= v[:, :-1]).all())
    ]
    named = [n for n in ranked if "score" in n.lower()] or ranked
    if not named:
        return None
    scores = named[0]
    size = values[scores].shape
    return scores, tuple(n for n, v in values.items() if v.ndim >= 2 and v.shape[:2] == size)


def compare_detections(whole: Mapping[str, Array], other: Mapping[str, Array]) -> Ties | None:
    """Compare the rows of detections of two runs, equal scores as sets; None where the values hold no list of detections.

    Tensors without a row for each detection are not looked at.
    """
    rows = detection_rows(whole)
    if rows is None:
        return None
    scores, tensors = rows
    for name in tensors:
        if other[name].shape != whole[name].shape or other[name].dtype != whole[name].dtype:
            return Ties(False, 0, tensors, f"{name} is {other[name].dtype}{list(other[name].shape)}")
    moved = 0
    for image in range(whole[scores].shape[0]):
        left, right = ([_bytes(v[n][image]) for n in tensors] for v in (whole, other))
        if left == right:
            continue
        for first, last in _runs(whole[scores][image]):
            ours, theirs = ([tuple(column[i] for column in side) for i in range(first, last)] for side in (left, right))
            if Counter(ours) != Counter(theirs):
                place = f"image {image}, detection {first + 1}" + ("" if last - first == 1 else f" to {last} (a tie)")
                return Ties(False, moved, tensors, f"detections differ: {place}")
        moved += 1
    return Ties(True, moved, tensors)


def _bytes(rows: Array) -> list[bytes]:
    """The bytes of each row; the two zeros are one, as are all NaN."""
    if rows.dtype.kind == "f":
        rows = np.where(np.isnan(rows), np.full_like(rows, np.nan), rows + np.zeros((), rows.dtype))
    return [np.ascontiguousarray(row).tobytes() for row in rows]


def _runs(scores: Array) -> Sequence[tuple[int, int]]:
    """Where each run of equal scores begins and ends."""
    ends = [0, *(np.flatnonzero(scores[1:] != scores[:-1]) + 1).tolist(), len(scores)]
    return list(pairwise(ends))
