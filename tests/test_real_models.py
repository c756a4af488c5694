"""Real and realistic detectors: cut, run in sections, and equal to the whole bit for bit.

The models lie beside the repository; where they are not, these tests are skipped.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cache

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.formats import GraphDefModel
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.feeds import image_feeds, picture
from graphsplit.runtimes.tensorflow import TensorFlowSession
from graphsplit.verification.compare import compare
from graphsplit.verification.equivalence import run_parts
from graphsplit.verification.report import Report
from tests.shared import shared_media, shared_model

FOUR = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
ENCODINGS, WINDOW = "Postprocessor/ExpandDims_1:0", "Postprocessor/stack_1:0"
IN_2017, IN_2018 = "Postprocessor/convert_scores:0", "Postprocessor/Slice:0"

# Model → the tensors at which its preset cuts, with their shapes. S anchors: 1917 of a 300×300 image, 5118 of 512×512.
PRESET_CUTS = {
    "tiny_ssd_mobilenet_v1_2017": {IN_2017: (None, 1917, 3), ENCODINGS: (None, 1917, 1, 4)},
    "tiny_ssd_mobilenet_v1_2018": {IN_2018: (None, 1917, 3), ENCODINGS: (None, 1917, 1, 4), WINDOW: (None, 4)},
    "ssd_mobilenet_v1_face_2017": {IN_2017: (None, 5118, 2), ENCODINGS: (None, 5118, 1, 4)},
    "ssd_mobilenet_v1_face_2018": {IN_2018: (None, 5118, 2), ENCODINGS: (None, 5118, 1, 4), WINDOW: (None, 4)},
    "ssd_mobilenet_v1_coco_2017": {IN_2017: (None, 1917, 90), ENCODINGS: (None, 1917, 1, 4)},
    "ssd_mobilenet_v1_coco_2018": {IN_2018: (None, 1917, 90), ENCODINGS: (None, 1917, 1, 4), WINDOW: (None, 4)},
    "faster_rcnn_inception_v2_coco_2018": {
        "Preprocessor/map/TensorArrayStack_1/TensorArrayGatherV3:0": (None, 3),
        "BatchMultiClassNonMaxSuppression/map/TensorArrayStack_4/TensorArrayGatherV3:0": (None,),
        "all_refined_box_encodings:0": (None, 90, 4),
        "all_class_predictions_with_background:0": (None, 91),
        "map_2/TensorArrayStack/TensorArrayGatherV3:0": (None, 100, 4),
    },
}  # fmt: skip
# Where both the scores and the slice without the background class are read after the border, the scores alone cross.
BOTH_READ = ["ssd_mobilenet_v1_face_2018", "ssd_mobilenet_v1_coco_2018"]
CENTERNET_HEADS = ["tower_0/CenternetHead/centernet_cls_output/BiasAdd", "tower_0/CenternetHead/centernet_wh_output/BiasAdd"]
TINY = ["tiny_ssd_mobilenet_v1_2017", "tiny_ssd_mobilenet_v1_2018"]
FACES = ["ssd_mobilenet_v1_face_2017", "ssd_mobilenet_v1_face_2018"]
SSD_2018 = ["tiny_ssd_mobilenet_v1_2018", "ssd_mobilenet_v1_face_2018", "ssd_mobilenet_v1_coco_2018"]
SLOW = {"ssd_mobilenet_v1_coco_2017", "faster_rcnn_inception_v2_coco_2018"}


def named(*names: str) -> list[object]:
    """Parameters of a test, those that take long marked as such."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


@cache
def load(name: str) -> GraphDefModel:
    return gs.load(shared_model(f"{name}.pb"))


def assert_bit_equal(report: Report, runs: int) -> None:
    report.check()
    assert report.equal
    assert report.runs == runs
    assert report.max_abs_error == 0.0
    assert all(o.max_rel_error == 0.0 for o in report.outputs)


def one_picture(height: int, width: int, batch: int = 1) -> dict[str, np.ndarray]:
    return {"image_tensor:0": np.stack([picture(height, width, seed=s) for s in range(batch)])}


# Where the presets cut


@pytest.mark.parametrize("name", named(*PRESET_CUTS))
def test_at_its_presets_targets_a_model_is_bit_equal_to_its_sections(name):
    model = load(name)
    parts = gs.split(model)
    wanted = PRESET_CUTS[name]
    assert [p.name for p in parts] == ["main", "post"]
    if name in BOTH_READ:
        with_background = {IN_2017: (None, wanted[IN_2018][1], wanted[IN_2018][2] + 1)}
        wanted = {ENCODINGS: wanted[ENCODINGS], WINDOW: wanted[WINDOW], **with_background}
    assert {p.tensor: p.shape for p in parts.keep.outputs[: len(wanted)]} == wanted
    assert [p.tensor for p in parts.keep.inputs] == ["image_tensor:0"]
    assert parts.added == ()
    assert set(parts.borders) == set(wanted)
    report = gs.verify(model, parts)
    assert_bit_equal(report, runs=2)
    assert [o.tensor for o in report.outputs] == list(model.index.outputs)
    assert report.feeds[1].startswith("image_tensor:0 uint8[2, ")


@pytest.mark.parametrize("name", BOTH_READ)
def test_a_named_tensor_crosses_beside_what_it_is_a_part_of(name):
    plan = gs.plan(load(name), outputs=list(PRESET_CUTS[name]))
    (added,) = plan.added
    assert (added.tensor, added.section, added.reason) == (IN_2017, "post", "main and post both read it")
    assert set(plan.borders) == {*PRESET_CUTS[name], IN_2017}


@pytest.mark.parametrize("name", ["tiny_ssd_mobilenet_v1_2018", "ssd_mobilenet_v1_face_2018"])
def test_what_reads_feature_maps_for_their_shapes_alone_is_computed_in_main(name):
    model = load(name)
    (heads,) = [c for c in gs.suggest(model) if c.name == "heads"]
    ends = [spec.name for spec in heads.outputs]
    assert len(ends) == 12
    parts = gs.split(model, outputs=ends)
    sizes = {p.tensor: TensorSpec(p.tensor, p.dtype, p.shape).frame().nbytes for p in parts.keep.outputs}
    assert sum(sizes[t] for t in parts.borders if t not in ends) < 100
    assert re.search(r"BoxPredictor_0/Shape.* are computed in main: 56 B cross instead of .* [KM]B", parts.plan.notes[0])
    assert_bit_equal(gs.verify(model, parts, one_picture(200, 320, batch=2)), runs=1)


@pytest.mark.parametrize("name", SSD_2018)
def test_with_the_four_classic_outputs_the_scores_with_background_do_not_cross(name):
    model = load(name)
    parts = gs.split(model, model_outputs=FOUR)
    assert parts.added == ()
    assert parts.replicated == ()
    assert parts.borders == tuple(PRESET_CUTS[name])
    assert IN_2017 not in {p.tensor for p in parts.remove.inputs}
    assert parts.outputs == tuple(f"{n}:0" for n in FOUR)
    if "coco" not in name:  # the same graph but for its size
        assert_bit_equal(gs.verify(model, parts, one_picture(200, 320)), runs=1)


def test_on_a_photograph_sections_equal_the_whole_too():
    model = load("ssd_mobilenet_v1_face_2018")
    feeds = image_feeds(model, [shared_media("astronaut.png")])
    assert [f["image_tensor:0"].shape for f in feeds] == [(1, 512, 512, 3), (2, 512, 512, 3)]
    assert_bit_equal(gs.verify(model, gs.split(model), feeds), runs=2)


# How borders are repaired


@pytest.mark.parametrize("repair", ["border", "replicate"])
@pytest.mark.parametrize("name", TINY)
def test_however_a_border_is_repaired_the_sections_equal_the_whole(name, repair):
    """One target only: boxes, image size and raw outputs all cross unnamed."""
    model = load(name)
    target = next(iter(PRESET_CUTS[name]))
    parts = gs.split(model, outputs=target, repair=repair)
    crossing = {a.tensor for a in parts.added}
    assert crossing
    assert set(parts.borders) == {target, *crossing}
    if repair == "border":
        assert parts.replicated == ()
    else:
        assert parts.plan.notes, "what moved is told"
    assert_bit_equal(gs.verify(model, parts, one_picture(300, 300, batch=2)), runs=1)


def test_a_border_that_would_need_repair_is_refused_when_asked_to():
    model = load("tiny_ssd_mobilenet_v1_2018")
    with pytest.raises(
        gs.CutError, match=r"'concat_1:0' crosses from 'main' to 'post' without having been named: 'raw_detection_scores'"
    ):
        gs.plan(model, repair="error")
    assert gs.plan(model, model_outputs=FOUR, repair="error").added == ()


# Named cuts


def test_centernet_is_cut_at_its_two_head_convolutions():
    model = load("centernet_mobilenet_v3")
    parts = gs.split(model, outputs=CENTERNET_HEADS, repair="error")
    assert [(p.tensor, p.shape) for p in parts.keep.outputs] == [
        (f"{CENTERNET_HEADS[0]}:0", (1, 128, 128, 80)),
        (f"{CENTERNET_HEADS[1]}:0", (1, 128, 128, 4)),
    ]
    ops = {n.op for n in parts.remove.model.index.nodes}
    assert "TopKV2" in ops
    assert not ops & {"Conv2D", "DepthwiseConv2dNative", "_FusedConv2D"}
    report = gs.verify(model, parts, runs=2)
    assert_bit_equal(report, runs=2)
    assert report.feeds[0] == "tower_0/images:0 float32[1, 512, 512, 3]", "its batch is not free"


# What the second suppression of the Mask R-CNN reads. Its mask head comes after it and reads more.
SECOND_STAGE = [
    "Reshape_8",
    "Reshape_9",
    "ToFloat_3",
    "BatchMultiClassNonMaxSuppression/map/TensorArrayStack_4/TensorArrayGatherV3",
]
MASK_HEAD_READS = {
    "ArgMax:0": "ExpandDims_7",  # itself of Reshape_5, which is 91 times as large
    "Preprocessor/map/TensorArrayStack_1/TensorArrayGatherV3:0": "map_3/TensorArrayUnstack_1/Shape",
    "FirstStageFeatureExtractor/InceptionV2/InceptionV2/Mixed_4e/concat:0": "CropAndResize_1/CropAndResize",
}


def test_a_mask_rcnn_has_no_fixed_cut_and_says_what_to_do():
    with pytest.raises(gs.CutError, match=r"preset 'mask_rcnn' matches, but has no fixed cut: .*; name the tensors to cut at"):
        gs.plan(load("mask_rcnn_inception_v2_coco_2018"), preset="mask_rcnn")


def test_a_mask_rcnn_cut_before_its_second_suppression_is_repaired_and_every_repair_reported():
    plan = gs.plan(load("mask_rcnn_inception_v2_coco_2018"), outputs=SECOND_STAGE)
    assert {a.tensor: a.consumer for a in plan.added} == MASK_HEAD_READS
    reasons = {a.tensor: a.reason for a in plan.added}
    assert reasons.pop("ArgMax:0") == "main computes it so that fewer bytes cross"
    assert set(reasons.values()) == {"main and post both read it"}
    assert set(plan.borders) == {*(f"{t}:0" for t in SECOND_STAGE), *MASK_HEAD_READS}
    # The mask head shares its weights with the box head: constants are copied, and so are the Identity nodes behind them.
    assert len(plan.replicated) == 95
    assert all(n.startswith("SecondStageFeatureExtractor/") and n.endswith("/read") for n in plan.replicated)
    with pytest.raises(gs.CutError, match="crosses from 'main' to 'post' without having been named"):
        gs.plan(load("mask_rcnn_inception_v2_coco_2018"), outputs=SECOND_STAGE, repair="error")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_mask_rcnn_in_sections_is_bit_equal_to_the_whole():
    model = load("mask_rcnn_inception_v2_coco_2018")
    report = gs.verify(model, gs.split(model, outputs=SECOND_STAGE))
    assert_bit_equal(report, runs=2)
    assert "detection_masks:0" in {o.tensor for o in report.outputs}


@pytest.mark.parametrize("name", TINY)
def test_three_sections_give_what_the_whole_gives(name):
    """pre holds the resizer, main the network, post the suppression."""
    model = load(name)
    parts = gs.split(model, inputs="Preprocessor/sub", outputs=list(PRESET_CUTS[name]))
    assert [p.name for p in parts] == ["pre", "main", "post"]
    assert "ResizeBilinear" in {n.op for n in parts["pre"].model.index.nodes}
    assert not {n.op for n in parts["pre"].model.index.nodes} & {"Conv2D", "NonMaxSuppressionV3"}
    assert "Conv2D" not in {n.op for n in parts["post"].model.index.nodes}
    assert_bit_equal(gs.verify(model, parts, one_picture(240, 180, batch=2)), runs=1)


# Any other cut


@pytest.mark.parametrize("name", TINY)
def test_ten_tensors_picked_at_random_are_cuts_as_good_as_any(name):
    model = load(name)
    index = model.index
    needed = index.ancestors(index.producer[t] for t in index.outputs)
    legal = [t for n in index.nodes if n.kind == "op" and n.name in needed for t in n.outputs if t not in index.captive]
    read = [t for t in legal if t in index.consumers]
    assert len(read) > 500
    feeds = one_picture(60, 90)
    with session(model) as whole:
        expected = whole.run(feeds, index.outputs)
    for number, cut in enumerate(random.Random(name).sample(read, 10)):
        parts = gs.split(model, outputs=cut, shapes=number % 2 == 0)
        with ExitStack() as opened:
            found = run_parts(parts, feeds, {p.name: opened.enter_context(session(p.model)) for p in parts})
        for tensor, value in zip(index.outputs, expected, strict=True):
            report = compare(tensor, value, found[tensor])
            assert report.equal, (cut, report)


def session(model: GraphDefModel) -> TensorFlowSession:
    return TensorFlowSession(model.serialized(), optimize=False)


def loops() -> Iterable[tuple[str, str]]:
    """Model and loop: the resizer's, the suppressions', and those between the stages."""
    for name in (*TINY, *FACES, "ssd_mobilenet_v1_coco_2018"):
        yield name, "Preprocessor/map/while/while_context"
        yield name, "Postprocessor/BatchMultiClassNonMaxSuppression/map/while/while_context"
    for name in ("faster_rcnn_inception_v2_coco_2018", "mask_rcnn_inception_v2_coco_2018"):
        yield name, "map/while/while_context"
        yield (
            name,
            "BatchMultiClassNonMaxSuppression_1/map/while/while_context"
            if "mask" in name
            else ("SecondStagePostprocessor/BatchMultiClassNonMaxSuppression/map/while/while_context"),
        )


@pytest.mark.parametrize(("name", "loop"), list(loops()))
def test_a_cut_inside_a_loop_is_refused_with_the_loop_and_its_nearest_borders(name, loop):
    index = load(name).index
    inside = [t for n in index.groups[loop].nodes for t in index.name_to_node_map[n].outputs]
    inside = [t for t in inside if t in index.captive and t not in index.handles]
    for tensor in random.Random(loop).sample(inside, 3):
        with pytest.raises(gs.CutError, match=f"{tensor!r} lies inside the loop '{loop}', which must stay whole") as caught:
            gs.plan(load(name), outputs=tensor)
        assert "the nearest legal borders are [" in str(caught.value)
        assert caught.value.cut == (tensor,)


# The trained detector


@pytest.mark.parametrize("name", FACES)
def test_the_face_detector_in_placed_halves_finds_the_face(name):
    model = load(name)
    (feeds, _) = image_feeds(model, [shared_media("astronaut.png")])
    config = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
    placed = gs.place(gs.split(model), {"main": "/cpu:0", "post": "/cpu:1"}, config=config)
    found = placed.run(feeds)
    assert found["num_detections:0"].shape == (1,)
    assert found["detection_scores:0"][0, 0] == pytest.approx(0.965, abs=0.005)
    assert found["detection_scores:0"][0, 1] < 0.3, "there is one face in it"
    assert found["detection_classes:0"][0, 0] == 1
    ymin, xmin, ymax, xmax = found["detection_boxes:0"][0, 0] * 512
    assert [ymin, xmin, ymax, xmax] == pytest.approx([73, 181, 175, 264], abs=2)


def test_a_split_of_a_real_model_survives_the_way_over_the_disk(tmp_path):
    model = load("tiny_ssd_mobilenet_v1_2018")
    parts = gs.load_parts(gs.save(gs.split(model), tmp_path / "out"))
    assert_bit_equal(gs.verify(model, parts, one_picture(300, 300)), runs=1)
