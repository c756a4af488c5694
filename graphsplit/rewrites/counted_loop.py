"""Loops that count from 0 by 1 through the rows of a tensor, as ``tf.map_fn`` writes them in TensorFlow 1."""

from __future__ import annotations

from graphsplit.graph.index import Node
from graphsplit.rewrites.matching import Matcher, NoMatch

__all__ = ["counted_rows"]


def counted_rows(match: Matcher, index: str, size: str) -> str:
    """The tensor whose rows a loop counts through. Raises NoMatch.

    Args:
        index: The counter, as the body reads it.
        size: Number of elements of the TensorArray that is read or written at the counter.
    """
    switch = match.node(index, "Switch", port=1)
    _check_counter(match, match.node(switch.inputs[0], "Merge"))
    if match.maker(match.plain(size)).op == "TensorArraySizeV3":  # as TensorFlow 1 stacks arrays
        size = match.node(match.node(size, "TensorArraySizeV3").inputs[0], "TensorArrayV3").inputs[0]
    images = {match.rows_of(size)}
    conditions = [match.node(switch.inputs[1], "LoopCond").inputs[0]]
    while conditions:
        node = match.node(conditions.pop(), "LogicalAnd", "Less")
        if node.op == "LogicalAnd":
            conditions += node.inputs
        else:
            _check_counter(match, match.node(node.inputs[0], "Merge"))
            images.add(match.rows_of(node.inputs[1]))
    if len(images) != 1:
        raise NoMatch("the loop counts something other than its images")
    return images.pop()


def _check_counter(match: Matcher, merge: Node) -> None:
    """Check that a loop variable counts from 0 by 1. Raises NoMatch."""
    step, by = match.plus(match.node(merge.inputs[1], "NextIteration").inputs[0])
    source = match.node(match.node(step, "Switch", port=1).inputs[0], "Merge")
    if not match.is_number(merge.inputs[0], 0) or by != 1 or source != merge:
        raise NoMatch("the loop does not count from 0 by 1")
