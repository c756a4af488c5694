"""Detections compared as sets within equal scores, everything else bit by bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.formats import GraphDefModel
from graphsplit.splitting.surgery import plan_whole, split
from graphsplit.verification.compare import compare
from graphsplit.verification.detections import compare_detections
from graphsplit.verification.equivalence import verify, with_ties


def answer():
    return {
        "detection_scores:0": np.float32([[0.9, 0.7, 0.7, 0.7, 0.0], [0.5, 0.4, 0.3, 0.0, 0.0]]),
        "detection_classes:0": np.float32([[1, 3, 1, 2, 1], [1, 1, 2, 1, 1]]),
        "detection_boxes:0": np.arange(40, dtype=np.float32).reshape(2, 5, 4),
        "num_detections:0": np.float32([4, 3]),
    }


def moved(values, image, order):
    for name in values:
        if values[name].ndim > 1:
            values[name][image] = values[name][image][order]
    return values


def test_the_same_answer_has_no_ties_in_another_order():
    found = compare_detections(answer(), answer())
    assert (found.equal, found.images) == (True, 0)
    assert found.tensors == ("detection_scores:0", "detection_classes:0", "detection_boxes:0")


def test_equal_scores_may_come_in_another_order_and_that_is_told():
    found = compare_detections(answer(), moved(answer(), 0, [0, 3, 1, 2, 4]))
    assert (found.equal, found.images) == (True, 1)


def test_other_scores_may_not():
    other = answer()
    other["detection_boxes:0"][1] = other["detection_boxes:0"][1][[1, 0, 2, 3, 4]]
    found = compare_detections(answer(), other)
    assert not found.equal
    assert "image 1, detection 1" in found.note


@pytest.mark.parametrize("name", ["detection_boxes:0", "detection_classes:0"])
def test_a_row_that_is_other_within_a_tie_is_seen(name):
    other = moved(answer(), 0, [0, 3, 1, 2, 4])
    other[name][0, 2] += 1
    found = compare_detections(answer(), other)
    assert not found.equal
    assert "tie" in found.note


def test_rows_move_together_or_not_at_all():
    other = answer()
    other["detection_classes:0"][0] = other["detection_classes:0"][0][[0, 2, 1, 3, 4]]
    assert not compare_detections(answer(), other).equal


def test_nan_is_equal_to_nan_and_both_zeros_are_one():
    one, other = answer(), answer()
    one["detection_boxes:0"][0, 1, 1] = np.nan
    other["detection_boxes:0"][0, 1, 1] = -np.float32(np.nan)
    one["detection_scores:0"][1, 4] = -0.0
    assert compare_detections(one, other).equal


def test_values_without_detections_are_none_of_its_business():
    assert compare_detections({"x": np.zeros(3)}, {"x": np.ones(3)}) is None
    assert compare_detections({"x": np.float32([[1, 2], [3, 4]])}, {"x": np.float32([[1, 2], [3, 4]])}) is None


def test_another_shape_is_a_difference():
    other = {name: value[:, :4] if value.ndim > 1 else value for name, value in answer().items()}
    assert "float32[2, 4]" in compare_detections(answer(), other).note


def test_a_report_tells_of_ties_and_stays_strict_about_the_rest():
    one, other = answer(), moved(answer(), 0, [0, 3, 1, 2, 4])
    strict = [compare(name, one[name], other[name]) for name in one]
    assert [r.equal for r in strict] == [True, False, False, True]
    reports, reordered = with_ties(strict, one, other)
    assert reordered
    assert all(r.equal for r in reports)
    assert "another order" in reports[1].note
    other["num_detections:0"][0] = 3
    reports, _ = with_ties([compare(name, one[name], other[name]) for name in one], one, other)
    assert [r.equal for r in reports] == [True, True, True, False]


def test_verify_compares_ties_as_sets_only_where_something_was_rewritten():
    def built(order) -> GraphDefModel:
        with tf.Graph().as_default() as graph:
            x = tf.compat.v1.placeholder(tf.float32, [1, 3], "x")
            tf.identity(x, "detection_scores")
            tf.gather(tf.constant([[5.0, 6.0, 7.0]]) + 0 * x, order, axis=1, name="detection_classes")
        return GraphDefModel([graph.as_graph_def().SerializeToString()])

    whole, other = built([0, 1, 2]), built([1, 0, 2])
    parts = split(whole, plan_whole(whole), shapes=False)
    section = replace(parts.sections[0], model=other)
    tie, none = ({"x:0": np.float32([scores])} for scores in ([0.5, 0.5, 0.1], [0.5, 0.4, 0.1]))
    rewritten = replace(parts, sections=(section,), rewrites=({"name": "fuse_nms"},))
    report = verify(whole, rewritten, [tie, tie])
    assert report.equal
    assert report.ties == 2
    assert "another order in 2" in report.summary()
    assert not verify(whole, rewritten, [none]).equal
    assert not verify(whole, replace(rewritten, rewrites=()), [tie]).equal
