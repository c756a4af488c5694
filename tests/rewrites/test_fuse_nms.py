"""One op for the suppression of all classes: found in every vintage, equal bit by bit, left alone where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import errors

from graphsplit.demo import data as demo_data
from graphsplit.formats import GraphDefModel, load
from graphsplit.formats.graphdef.edit import NodeWriter, edited
from graphsplit.rewrites import fused_nms, registry, rewrite, tensor_ops
from graphsplit.rewrites.fused_nms import write_fused
from graphsplit.rewrites.matching import Unfit
from graphsplit.rewrites.multiclass import MulticlassNms, find_multiclass
from graphsplit.rewrites.proof import verify_rewrite
from graphsplit.rewrites.samples import KINDS, nms_samples, random_boxes
from graphsplit.runtimes.tensorflow import TensorFlowSession
from tests.rewrites.detectors import compared, detector
from tests.shared import shared_model

MODEL = Path(str(demo_data.model()))

VINTAGES = {
    "2017, filtered and clipped first": {"op": "V2"},
    "2017, constant window": {"op": "V2", "window": "unit"},
    "2017, not clipped": {"op": "V2", "window": "none"},
    "2018": {"op": "V3"},
    "2018, constant window": {"op": "V3", "window": "unit"},
    "2019, padded op that does not pad": {"op": "V4"},
    "2019, with scores": {"op": "V5"},
    "something carried along": {"op": "V5", "carried": "rows"},
    "a box for each class": {"op": "V3", "per_class_boxes": True},
    "a box for each class, 2017": {"op": "V2", "per_class_boxes": True},
    "two images without a loop": {"op": "V3", "unrolled": 2},
    "one image without a loop, 2017": {"op": "V2", "unrolled": 1},
    "classes from 1": {"op": "V3", "first": 1.0},
    "a window from outside of the loop": {"op": "V3", "window": "captured"},
    "a window from outside of the loop, 2017": {"op": "V2", "window": "captured"},
    "two classes": {"op": "V3", "classes": 2},
    "threshold 0": {"op": "V3", "threshold": 0.0},
    "scores filtered, then clipped, before the suppression": {"op": "V3", "early": ["scores", "clip"]},
    "clipped, then scores filtered, before the suppression": {"op": "V3", "early": ["clip", "scores"]},
    "only clipped before the suppression": {"op": "V3", "early": ["clip"]},
}  # fmt: skip


def the_only(model) -> MulticlassNms:
    found = list(find_multiclass(model))
    assert len({type(f) for f in found}) == 1, found
    return found[0]


def feeds_of(model, anchors: int):
    """Random feeds for a detector of `tests.rewrites.detectors`, every kind of boxes in turn."""
    found = the_only(model)
    specs = {s.name: s for s in model.inputs}
    fixed = specs["boxes:0"].shape[0]

    def feeds(number: int):
        rng = np.random.default_rng(number)
        batch = fixed or (1, 3)[number % 2]
        q = found.classes if found.per_class_boxes else 1
        images = [
            random_boxes(KINDS[(number + i) % len(KINDS)], anchors, q, found.classes, found.threshold, rng) for i in range(batch)
        ]
        feed = {"boxes:0": np.stack([m[0] for m in images]), "scores:0": np.stack([m[1] for m in images])}
        if "window:0" in specs:
            feed["window:0"] = (
                np.float32([0.1, 0.2, 0.7, 0.9])
                if len(specs["window:0"].shape) == 1
                else np.tile(np.float32([[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9]][number % 3 == 0]), (batch, 1))
            )
        if "extra:0" in specs:
            feed["extra:0"] = rng.random((batch, anchors, *specs["extra:0"].shape[2:])).astype(np.float32)
        return feed

    return feeds


@pytest.mark.parametrize("vintage", VINTAGES)
def test_every_vintage_is_fused_and_gives_the_same_bits(vintage):
    model = detector(**VINTAGES[vintage])
    rewritten = rewrite(model, fuse_nms=True)
    assert rewritten.rewrites
    assert not rewritten.left_alone
    assert not [n for n in rewritten.index.nodes if n.op.startswith("NonMaxSuppression")]
    assert {n.op for n in rewritten.index.nodes} >= {"CombinedNonMaxSuppression"}
    assert rewritten.index.outputs == model.index.outputs
    assert rewritten.index.inputs == model.index.inputs
    assert compared(model, rewritten, feeds_of(model, 40), 2 * len(KINDS)) == 0


def test_parameters_are_read_from_the_graph():
    options = {
        "op": "V5",
        "classes": 3,
        "iou": 0.25,
        "threshold": 0.125,
        "per_class": 7,
        "total": 9,
        "first": 1.0,
        "carried": "rows",
    }
    summary = the_only(detector(**options)).summary()
    assert summary == {
        "op": "NonMaxSuppressionV5", "classes": 3, "first_class": 1.0, "iou_threshold": 0.25, "score_threshold": 0.125,
        "max_per_class": 7, "max_total": 9, "boxes": "shared by all classes", "clip": "after", "carried": 1,
    }  # fmt: skip
    early = the_only(detector("V2", per_class_boxes=True))
    assert early.clips_first
    assert early.per_class_boxes
    assert the_only(detector("V2", window="none")).window is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"op": "V5", "sigma": 0.5}, "soft suppression"),
        ({"op": "V4", "pad": True}, "each class is padded"),
        ({"op": "V5", "pad": True}, "each class is padded"),
        ({"op": "V3", "carried": "masks", "per_class_boxes": True}, "masks or other values of each class"),
        ({"op": "V3", "classes": 1}, "one class"),
        ({"op": "V3", "threshold": -0.5}, "scores that are negative"),
    ],
)
def test_what_cannot_be_proven_is_left_alone_with_the_reason(options, reason):
    model = detector(**options)
    rewritten = rewrite(model, fuse_nms=True)
    assert not rewritten.rewrites
    assert {entry["name"] for entry in rewritten.left_alone} == {"fuse_nms"}
    assert reason in rewritten.left_alone[0]["reason"]
    assert [n.name for n in rewritten.index.nodes if n.op.startswith("NonMaxSuppression")]


# scores ─ Greater ─ filter ─┐                       what was done to each class before the suppression in 2017:
#                  boxes ────┴─ clip ─ area ─ filter ─ NMS      one clip, after one filter at most


@pytest.mark.parametrize(
    ("early", "reason"),
    [
        (["scores", "bare clip"], "is a ConcatV2 instead of a Unpack"),
        (["bare clip"], "is a ConcatV2 instead of a Unpack"),
        (["bare clip", "scores"], "compares with something other than zero"),
        (["scores", "scores", "clip"], "filtered more than once before or after they are clipped"),
        (["scores", "clip", "scores"], "filtered more than once before or after they are clipped"),
        (["scores", "scores", "scores", "clip"], "filtered more than once before or after they are clipped"),
        (["clip", "inner clip"], "clipped twice before the suppression"),
        (["inner clip", "clip"], "clipped twice before the suppression"),
        (["scores", "clip", "inner clip"], "clipped twice before the suppression"),
        (["clip", "inner clip", "scores"], "filtered more than once before or after they are clipped"),
    ],
    ids=lambda options: ", then ".join(options) if isinstance(options, list) else "",
)
def test_a_clip_of_each_class_comes_after_one_filter_or_the_graph_is_left_alone(early, reason):
    rewritten = rewrite(detector("V3", early=early), fuse_nms=True)
    assert not rewritten.rewrites
    assert rewritten.left_alone
    assert all(reason in entry["reason"] for entry in rewritten.left_alone), rewritten.left_alone
    assert len([n for n in rewritten.index.nodes if n.op == "NonMaxSuppressionV3"]) == 4


@pytest.mark.parametrize(
    "ids",
    [[0, 2, 1, 3], [3, 2, 1, 0], [0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 4], [1, 3, 5, 7], [0, 0, 0, 0], [0, 1, 2, 2.5]],
    ids=lambda ids: " ".join(map(str, ids)),
)
@pytest.mark.parametrize("op", ["V2", "V3"])
def test_classes_whose_ids_do_not_count_up_by_one_are_left_alone(op, ids):
    model = detector(op, ids=ids)
    rewritten = rewrite(model, fuse_nms=True)
    assert not rewritten.rewrites
    assert [entry["reason"].partition(" ")[2] for entry in rewritten.left_alone] == ["joins class ids that do not count up by one"]
    assert len([n for n in rewritten.index.nodes if n.op == f"NonMaxSuppression{op}"]) == 4


def test_a_threshold_that_is_computed_is_left_alone():
    model = detector()
    graph = model.graph_def
    for node in graph.node:
        if node.op == "NonMaxSuppressionV3":
            node.input[4] = node.input[1]
    found = list(find_multiclass(type(model)([graph.SerializeToString()])))
    assert [f.reason for f in found] == ["the score threshold is not a constant (and 3 more)"]


def test_classes_of_other_parameters_are_left_alone():
    model = detector()
    graph = model.graph_def
    ops = [n for n in graph.node if n.op == "NonMaxSuppressionV3"]
    odd = graph.node.add()
    odd.CopyFrom(next(n for n in graph.node if n.name == ops[0].input[3]))
    odd.name = "odd"
    odd.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.float32(0.9)))
    ops[2].input[3] = "odd"
    found = the_only(type(model)([graph.SerializeToString()]))
    assert isinstance(found, Unfit)
    assert found.reason == "class 2 has other parameters than class 0"


@pytest.mark.parametrize("options", [{"op": "V3"}, {"op": "V2", "window": "captured"}, {"op": "V5", "carried": "rows"}])
def test_random_tensors_for_the_proof_are_fed_outside_of_the_loop(options):
    model = detector(**options)
    rewritten = rewrite(model, fuse_nms=True)
    proof = verify_rewrite(rewritten, feeds_of(model, 20)(0), samples=2 * len(KINDS))
    assert proof.equal, proof.summary()
    assert [s.samples for s in proof.samples] == [2 * len(KINDS)]
    fed = nms_samples(model, the_only(model)).feeds(1)
    assert sorted(fed) == sorted(s.name for s in model.inputs)


def test_lists_that_others_read_as_well_are_left_alone():
    graph = detector(unrolled=1).graph_def
    joined = the_only(detector(unrolled=1)).joined[1].removesuffix(":0")
    graph.node.add(name="more", op="Neg", input=[joined]).attr["T"].type = 1
    found = the_only(GraphDefModel([graph.SerializeToString()]))
    assert "is read by 'more' (Neg), too" in found.reason
    output = the_only(GraphDefModel([detector(unrolled=1).serialized()], output_names=[f"{joined}:0"]))
    assert "is an output of the model" in output.reason


def test_a_suppression_in_a_function_is_left_alone():
    def body(boxes, scores):
        return tf.raw_ops.NonMaxSuppressionV3(boxes=boxes, scores=scores, max_output_size=3, iou_threshold=0.5, score_threshold=0.1)

    inner = tf.function(body, autograph=False)
    concrete = tf.function(lambda b, s: inner(b, s) + 0).get_concrete_function(tf.TensorSpec([5, 4]), tf.TensorSpec([5]))
    found = list(find_multiclass(GraphDefModel([concrete.graph.as_graph_def().SerializeToString()])))
    assert len(found) == 1
    assert "function" in found[0].reason


# what decides which branch runs


def both_branches(model, feeds, count: int) -> set[int]:
    """Which branch gave the result: 1 the best candidates, 0 all of them."""
    found = the_only(model)
    write = NodeWriter("new", model.reader.by_name)
    rewritten = write_fused(write, found)
    new = edited(model, added=write.nodes, rewired=rewritten)
    merges = [f"{n.name}:1" for n in new.index.nodes if n.op == "Merge"]
    with TensorFlowSession(new.serialized()) as session:
        return {int(v) for number in range(count) for v in session.run(feeds(number), merges)}


def test_both_branches_are_taken_and_give_the_same_bits(monkeypatch):
    monkeypatch.setattr("graphsplit.rewrites.fused_nms._ANCHORS", 12)
    monkeypatch.setattr("graphsplit.rewrites.fused_nms._CANDIDATES", 24)
    for options in ({"op": "V3"}, {"op": "V2"}, {"op": "V5", "per_class_boxes": True}):
        model = detector(unrolled=1, total=5, **options)
        feeds = feeds_of(model, 60)
        assert both_branches(model, feeds, 3 * len(KINDS)) == {0, 1}
        assert compared(model, rewrite(model, fuse_nms=True), feeds, 6 * len(KINDS)) == 0


@pytest.mark.parametrize("planted", ["anchors", "ties", "threshold", "iou"])
def test_the_comparison_sees_planted_differences(planted, monkeypatch):
    model = detector(unrolled=1, total=5)
    feeds = feeds_of(model, 60)
    write = fused_nms.write_fused
    if planted == "anchors":  # the best candidates alone, though they may not fill the result
        monkeypatch.setattr(fused_nms, "_ANCHORS", 5)
        all_ = fused_nms._best
        monkeypatch.setattr(fused_nms, "_best", lambda m, *rest: (all_(m, *rest)[0], m.write.const(True, "bool")))
    elif planted == "ties":  # equal scores in the order of the anchors found best
        monkeypatch.setattr(tensor_ops.TensorOps, "top", lambda m, x, k, dtype="float32": _unstable(m, x, k, dtype))
    changed = {
        "threshold": lambda f: replace(f, threshold=0.3),
        "iou": lambda f: replace(f, iou=0.05),
    }.get(planted, lambda f: f)
    monkeypatch.setattr(registry, "write_fused", lambda w, f: write(w, changed(f)))
    assert compared(model, rewrite(model, fuse_nms=True), feeds, 2 * len(KINDS)) > 0


def _unstable(m, x, k, dtype):
    """The best k, of equal ones the last first."""
    backwards = m.write("ReverseV2", x, m.const([0]), T=dtype, Tidx="int32")
    values = m.write("TopKV2", backwards, k, T=dtype)
    size = m.write("Size", x, T=dtype, out_type="int32")
    last = m.two("Sub", size, m.const(1))
    return values, m.two("Sub", last, f"{values.removesuffix(':0')}:1")


def test_boxes_that_are_not_finite_are_refused_in_words():
    model = detector(unrolled=1)
    rewritten = rewrite(model, fuse_nms=True)
    feeds = feeds_of(model, 20)(0)
    for odd in (np.nan, np.inf, 2e18):
        feeds["boxes:0"] = feeds["boxes:0"].copy()
        feeds["boxes:0"][0, 3, 0, 1] = odd
        with (
            TensorFlowSession(rewritten.serialized()) as session,
            pytest.raises(errors.InvalidArgumentError, match="not finite"),
        ):
            session.run(feeds, rewritten.index.outputs)


@pytest.mark.parametrize("anchors", [0, 1, 3])
def test_few_boxes_and_none(anchors):
    for options in ({"op": "V3"}, {"op": "V2"}):
        model = detector(**options)
        assert compared(model, rewrite(model, fuse_nms=True), feeds_of(model, anchors), len(KINDS)) == 0


# at the borders of real models


def test_the_shipped_detector_is_equal_on_500_random_borders():
    model = load(MODEL)
    rewritten = rewrite(model, fuse_nms=True)
    assert len(rewritten.rewrites) == 1
    samples = nms_samples(model, the_only(model))
    assert all(t.startswith("Postprocessor") for t in samples.feeds(0))
    names = samples.fetches
    with TensorFlowSession(model.serialized()) as one, TensorFlowSession(rewritten.serialized()) as two:
        for number in range(504):
            feeds = samples.feeds(number)
            for a, b in zip(one.run(feeds, names), two.run(feeds, names), strict=True):
                assert a.tobytes() == b.tobytes(), number


FAMILIES = {
    "tiny_ssd_mobilenet_v1_2017.pb": 3,
    "tiny_ssd_mobilenet_v1_2018.pb": 3,
    "ssd_mobilenet_v1_face_2017.pb": 2,
    "ssd_mobilenet_v1_face_2018.pb": 2,
    "ssd_mobilenet_v1_coco_2017.pb": 90,
    "ssd_mobilenet_v1_coco_2018.pb": 90,
    "faster_rcnn_inception_v2_coco_2018.pb": 90,
    "mask_rcnn_inception_v2_coco_2018.pb": 90,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_shared_models_are_read(name):
    model = load(shared_model(name))
    found = [f for f in find_multiclass(model) if isinstance(f, MulticlassNms)]
    assert [f.classes for f in found] == [FAMILIES[name]]
    assert found[0].per_class_boxes == ("rcnn" in name)
    left = [f.reason for f in find_multiclass(model) if isinstance(f, Unfit)]
    assert left == (["one class: it is a single op already"] if "rcnn" in name else [])


def test_nodes_of_the_90_class_model_shrink_to_a_third():
    model = load(shared_model("ssd_mobilenet_v1_coco_2018.pb"))
    rewritten = rewrite(model, fuse_nms=True)
    assert len(model.index.nodes) == 7146
    assert len(rewritten.index.nodes) < 2500


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_shared_models_are_equal_on_pictures_and_500_random_borders(name):
    from graphsplit.rewrites.proof import verify_rewrite

    rewritten = rewrite(load(shared_model(name)), fuse_nms=True, batch_preprocess=True)
    report = verify_rewrite(rewritten, samples=504 if "rcnn" not in name else 54)
    assert report.equal, report.summary()
    assert report.whole.ties == 0


def test_finding_needs_no_tensorflow():
    rewritten = f"gs.rewrite(gs.load({str(MODEL)!r}), fuse_nms=True)"
    code = f"import sys, graphsplit as gs; assert {rewritten}.rewrites; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
