"""Graphs that differ in one place from those that exporters write: left alone with the reason, or fused and equal bit by bit.

`Detector(fuse_nms=True)` fuses without a proof, so what is read from a graph has to be enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import pytest
from tensorflow import errors

from graphsplit.errors import FormatError, SectionRunError
from graphsplit.formats import GraphDefModel
from graphsplit.rewrites import rewrite
from graphsplit.rewrites.matching import Unfit
from graphsplit.rewrites.multiclass import find_multiclass
from graphsplit.rewrites.samples import KINDS, random_boxes
from graphsplit.runtimes.tensorflow import TensorFlowSession
from tests.rewrites.detectors import detector

V2 = {"op": "V2", "carried": "rows"}
V3 = {"op": "V3"}
V5 = {"op": "V5"}
OWN_BOXES = {"op": "V3", "per_class_boxes": True}


def changed(model: GraphDefModel, inputs: Mapping[str, Mapping[int, str]]) -> GraphDefModel:
    """The model with other inputs: node → {which input: tensor}."""
    graph = model.graph_def
    nodes = {node.name: node for node in graph.node}
    for name, places in inputs.items():
        for place, tensor in places.items():
            nodes[name].input[place] = tensor
    return GraphDefModel([graph.SerializeToString(deterministic=True)], output_names=model.index.outputs)


# Two classes of one image, without a loop; nodes are called as TensorFlow numbers them (class 0 before class 1).
CHANGES: list[tuple[str, dict[str, Any], dict[str, dict[int, str]], str]] = [
    # the suppression of a class
    ("both classes read column 0", V3, {"Slice_1": {1: "Slice/begin"}}, "2 ops for classes 0, 0"),
    ("a column begins at row 1", V3, {"Slice": {1: "Slice/size"}}, "'Slice' is not one column"),
    ("a column is as long as another list", V3, {"Slice/size": {0: "strided_slice_3"}}, "'Slice' is not one column"),
    ("the maximum counts something else", V3, {"Minimum": {1: "strided_slice_3"}}, "something other than the number of its boxes"),
    ("a class has the boxes of another", OWN_BOXES, {"NonMaxSuppressionV3": {0: "unstack_3:1"}, "Minimum": {1: "strided_slice_5"}},
     "class 0 has the boxes of class 1"),
    ("scores filtered by another class", V2, {"GatherV2_1": {1: "Cast_2"}}, "boxes and scores are filtered differently"),
    ("a filter looks at another class", V2, {"Greater": {0: "Reshape_3"}}, "something other than their scores"),
    ("an area of other boxes", V2, {"split_1": {1: "GatherV2"}}, "something other than their area"),
    ("a corner clipped to the other side", V2, {"Maximum": {1: "unstack_5:1"}}, "clips the corners to different windows"),
    ("another window for a class", V2, {"unstack_6": {0: "unstack_3"}}, "class 1 has other parameters than class 0"),
    # what joins the classes
    ("rows of another class", V2, {"GatherV2_8": {1: "NonMaxSuppressionV2_1"}}, "something other than the selected indices"),
    ("rows filtered differently", V2, {"GatherV2_2": {1: "Cast_2"}}, "gathers rows that were filtered differently"),
    ("padded with 1", V3, {"SelectV2": {2: "ones"}}, "does not fill with -1"),
    ("padded to another length", V3, {"zeros/packed": {0: "Minimum"}}, "is a Minimum instead of a Sub"),
    ("scores padded to another length", V5, {"zeros_1/packed": {0: "sub_2"}}, "to the maximum of a class"),
    ("scores padded by the count of another class", V5, {"sub_1": {1: "strided_slice_8"}}, "to the maximum of a class"),
    ("valid up to the count of another class", V3, {"Less": {1: "strided_slice_6"}}, "than the number of selected boxes"),
    ("the class of something else", V3, {"zeros_like": {0: "GatherV2"}}, "is not the class id of the scores"),
    ("joined side by side", V3, {"concat_4": {2: "split/split_dim"}}, "'concat_4' does not join rows"),
    # what follows
    ("sorted by the length of one class", V3, {"TopKV2": {1: "strided_slice_2"}}, "'TopKV2' does not sort the whole list"),
    ("classes in another order", V3, {"GatherV2_6": {1: "TopKV2_1:1"}}, "concat_4:0 is read by 'GatherV2_6'"),
    ("classes filtered differently", V3, {"GatherV2_9": {1: "TopKV2:1"}}, "GatherV2_6:0 is read by 'GatherV2_9'"),
    ("the order of the list used elsewhere", V2, {"GatherV2_21": {0: "unstack_3"}}, "TopKV2:1 is read by 'GatherV2_21'"),
    ("marked by the area of other boxes", V3, {"split_2": {1: "GatherV2_4"}}, "drops boxes by something other than their area"),
    ("marked in another length", V3, {"ones_2/Reshape": {0: "strided_slice_8"}}, "does not mark the whole list"),
    ("not marked: padding stays", V3, {"SelectV2_3": {1: "Minimum_6"}}, "is not the number of valid boxes"),
    ("taken before it is sorted", V3, {"GatherV2_5": {1: "range_3"}}, "sorted scores are not gathered"),
    ("other boxes are clipped", V3, {"split": {1: "GatherV2"}}, "the clipped boxes are not those of the scores"),
    ("not sorted", V2, {"GatherV2_22": {0: "concat_2"}, "GatherV2_23": {0: "concat_3"}, "GatherV2_24": {0: "concat_4"},
     "GatherV2_25": {0: "concat_5"}}, "taken from a list that is not sorted"),
    ("without the first row", V2, {"range_1": {0: "range_1/delta"}}, "not followed by the sort, clip and cut"),
    ("as many as one class has", V3, {"Minimum_6": {1: "strided_slice_2"}}, "'Minimum_6' does not count the rows of the list"),
    ("all of them, valid or not", V3, {"range_6": {1: "Minimum_6"}}, "none of the recognised steps drops the padding"),
    ("boxes valid or not", V3, {"range_5": {1: "Minimum_6"}}, "GatherV2_13:0 is read by 'GatherV2_16'"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "inputs", "reason"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_graph_changed_in_one_place_is_left_alone(options, inputs, reason):
    model = detector(classes=2, unrolled=1, **options)
    assert not [f for f in find_multiclass(model) if isinstance(f, Unfit)]
    rewritten = rewrite(changed(model, inputs), fuse_nms=True)
    assert not rewritten.rewrites
    assert reason in rewritten.left_alone[0]["reason"]


def test_scores_of_more_classes_than_are_suppressed_are_refused_in_words():
    model = detector(classes=3, unrolled=1, carried="rows")
    wide = changed(model, {"unstack_1": {0: "extra"}})  # four columns, three suppressions
    rewritten = rewrite(wide, fuse_nms=True)
    assert rewritten.rewrites
    assert outcome(wide, rewritten, model.index.outputs, 0) == "refused"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"iou": 1.5}, "an IoU threshold of 1.5"),
        ({"iou": -0.5}, "an IoU threshold of -0.5"),
        ({"per_class": 0}, "a maximum of 0"),
        ({"total": 0}, "at most 0 of all classes"),
        ({"late": ["clip", "inner clip"]}, "boxes are clipped twice"),
        ({"early": ["clip"], "late": ["clip"]}, "boxes are clipped before and after the suppression"),
    ],
)
def test_parameters_that_no_exporter_writes_are_left_alone(options, reason):
    (left,) = find_multiclass(detector("V3", **options))
    assert reason in left.reason


def test_lists_that_no_output_needs_are_missing_and_the_graph_is_left_alone():
    rewritten = rewrite(detector("V2"), fuse_nms=True, model_outputs="detection_scores")
    assert not rewritten.rewrites
    assert rewritten.left_alone[0]["reason"] == "what is selected is not joined to boxes, scores and classes"


def test_boxes_divided_along_another_axis_are_left_alone():
    graph = detector(classes=2, unrolled=1).graph_def
    next(n for n in graph.node if n.name == "unstack_3").attr["axis"].i = 0
    (left,) = find_multiclass(GraphDefModel([graph.SerializeToString()]))
    assert "does not unstack the boxes of classes" in left.reason


def test_boxes_of_more_classes_than_scores_are_left_alone():
    reasons = [f.reason for op in ("V2", "V3") for f in find_multiclass(detector(op, classes=3, columns=4))]
    assert reasons == ["boxes of 4 classes, scores of 3"] * 2


# Any input of any node, changed to any tensor of the same dtype that does not depend on the node.


def changes(model: GraphDefModel, random: Random, count: int) -> list[tuple[str, int, str]]:
    """(node, which input, tensor), the tensor more often than not from the same kind of node."""
    index = model.index
    edges = [(node, place) for node in index.nodes for place in range(len(node.inputs))]
    picked = []
    for node, place in random.sample(edges, min(count, len(edges))):
        old = node.inputs[place]
        ops = {t: index.name_to_node_map[index.producer[t]].op for t in index.tensors if t != old}
        fitting = [t for t in ops if index.tensors[t].dtype == index.tensors[old].dtype]
        fitting = [t for t in fitting if node.name not in index.ancestors([index.producer[t]])]
        similar = [t for t in fitting if ops[t] == index.name_to_node_map[index.producer[old]].op]
        if fitting:
            picked.append((node.name, place, random.choice(similar if similar and random.random() < 0.7 else fitting)))
    return picked


def outcome(before: GraphDefModel, after: GraphDefModel, names: tuple[str, ...], number: int) -> str:
    """What a graph and its rewrite do with one feed: "equal", "differs", "refused" in words, or "fails" as it was."""
    boxes, scores = random_boxes(KINDS[number % len(KINDS)], 30, 1, 3, 0.1, np.random.default_rng(number))
    feed = {"boxes:0": boxes[None], "scores:0": scores[None], "window:0": np.float32([[0.1, 0.2, 0.7, 0.9]])}
    feed["extra:0"] = np.random.default_rng(number).random((1, 30, 4)).astype(np.float32)
    feed = {name: value for name, value in feed.items() if name in before.index.inputs}
    try:
        with TensorFlowSession(before.serialized(), optimize=False) as session:
            expected = session.run(feed, names)
    except (errors.OpError, ValueError, TypeError, FormatError, SectionRunError):
        return "fails"
    try:
        with TensorFlowSession(after.serialized(), optimize=False) as session:
            found = session.run(feed, names)
    except errors.InvalidArgumentError as error:
        return "refused" if "fused non-maximum suppression" in str(error) else "differs"
    same = all(a.tobytes() == b.tobytes() and a.shape == b.shape for a, b in zip(expected, found, strict=True))
    return "equal" if same else "differs"


def check_changes(options: dict[str, Any], seed: int, count: int) -> None:
    model = detector(classes=3, unrolled=1, **options)
    names = model.index.outputs
    fused = 0
    for node, place, tensor in changes(model, Random(seed), count):
        other = changed(model, {node: {place: tensor.removesuffix(":0")}})
        rewritten = rewrite(other, fuse_nms=True)
        if rewritten.rewrites:
            results = {outcome(other, rewritten, names, number) for number in range(4)}
            assert "differs" not in results, f"input {place} of {node}: {tensor}"
            fused += "equal" in results
    assert fused


@pytest.mark.parametrize("options", [V2, V3, V5], ids=["V2", "V3", "V5"])
def test_whatever_is_changed_the_graph_is_left_alone_or_equal(options):
    check_changes(options, 0, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "options", [V2, V3, V5, {"op": "V4"}, {"op": "V2", "window": "none"}, {"op": "V3", "early": ["clip", "scores"]}], ids=str
)
def test_each_input_is_changed_and_the_graph_is_left_alone_or_equal(options, seed):
    check_changes(options, seed, 10_000)
