"""Patterns over lists of boxes in the post-processing of the Object Detection API: area, clip, filter, count.

A list of boxes is float32 [n, 4]: ymin, xmin, ymax, xmax. A window is four scalars in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphsplit.graph.index import Node
from graphsplit.rewrites.matching import Matcher, NoMatch

__all__ = ["Window", "area", "clipped", "keeps_area", "keeps_scores", "row_filter", "valid_count", "window_key"]

Window = tuple[str, str, str, str]


def columns(match: Matcher, tensors: list[str]) -> str:
    """x, for the four columns of x in order. Raises NoMatch."""
    sources = set()
    for which, tensor in enumerate(tensors):
        node = match.node(tensor, "Split", port=which)
        if not match.is_number(node.inputs[0], 1):
            raise NoMatch(f"{node.name!r} does not split columns")
        sources.add(match.plain(node.inputs[1]))
    if len(sources) != 1:
        raise NoMatch("columns of several lists of boxes")
    return sources.pop()


def clipped(match: Matcher, tensor: str) -> tuple[str, Window]:
    """(boxes, window), for boxes whose corners are clipped to a window. Raises NoMatch."""
    node = match.node(tensor, "ConcatV2")
    if len(node.inputs) != 5 or not match.is_number(node.inputs[4], 1):
        raise NoMatch(f"{node.name!r} does not join four columns")
    low, high, inner = [], [], []
    for column in node.inputs[:4]:
        outer = match.node(column, "Maximum")
        least = match.node(outer.inputs[0], "Minimum")
        inner.append(least.inputs[0])
        high.append(match.here(least.inputs[1]))
        low.append(match.here(outer.inputs[1]))
    ymin, xmin, ymax, xmax = low[0], low[1], high[0], high[1]
    if [match.plain(t) for t in (low[2], low[3], high[2], high[3])] != [match.plain(t) for t in (ymin, xmin, ymax, xmax)]:
        raise NoMatch(f"{node.name!r} clips the corners to different windows")
    return columns(match, inner), (ymin, xmin, ymax, xmax)


def area(match: Matcher, tensor: str) -> str:
    """Boxes, for their areas (height × width). Raises NoMatch."""
    node = match.node(tensor, "Squeeze", "Mul")
    product = match.node(node.inputs[0], "Mul") if node.op == "Squeeze" else node
    height, width = (match.node(i, "Sub") for i in product.inputs)
    return columns(match, [height.inputs[1], width.inputs[1], height.inputs[0], width.inputs[0]])


def mask(match: Matcher, indices: str) -> Node:
    """The comparison, for the indices of the rows where it is true. Raises NoMatch."""
    where = match.node(match.node(match.node(indices, "Cast").inputs[0], "Reshape", "Squeeze").inputs[0], "Where")
    return match.node(where.inputs[0], "Greater")


def keeps_area(match: Matcher, indices: str) -> str:
    """Boxes, for the indices of boxes whose area is above zero. Raises NoMatch."""
    node = mask(match, indices)
    if not match.is_number(node.inputs[1], 0):
        raise NoMatch(f"{node.name!r} compares with something other than zero")
    return area(match, node.inputs[0])


def keeps_scores(match: Matcher, indices: str) -> tuple[str, float]:
    """(scores, threshold), for the indices of the scores above a threshold. Raises NoMatch."""
    node = mask(match, indices)
    return match.plain(node.inputs[0]), match.number(node.inputs[1], "the score threshold")


def window_key(match: Matcher, window: Window | None) -> tuple[str, ...]:
    """A key that is the same for equal windows: each class may unpack the same vector separately."""
    if window is None:
        return ()
    vectors = [match.element(t, i) for i, t in enumerate(window)]
    return tuple(match.plain(v) if v is not None else t for v, t in zip(vectors, window, strict=True))


def row_filter(match: Matcher, tensor: str) -> Iterator[tuple[str, str]]:
    """(indices, gathered rows) for each node that gathers rows of a tensor."""
    for node in match.readers.get(tensor, ()):
        if node.op in ("GatherV2", "Gather") and match.same(node.inputs[0], tensor):
            source, indices = match.gather(node.outputs[0])
            if match.same(source, tensor):
                yield indices, node.outputs[0]


def valid_count(match: Matcher, tensor: str) -> str:
    """Scores, for the number of scores that are not negative. Raises NoMatch."""
    total = match.node(tensor, "Sum")
    node = match.node(match.node(total.inputs[0], "Cast").inputs[0], "GreaterEqual")
    if not match.is_number(node.inputs[1], 0):
        raise NoMatch(f"{node.name!r} compares with something other than zero")
    return match.plain(node.inputs[0])
