"""Presets know a family by who feeds whom, never by names alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest

from graphsplit.errors import CutError, FormatError, TensorNotFoundError
from graphsplit.formats import load
from graphsplit.formats.graphdef.roles import ROLES
from graphsplit.graph.index import Function, GraphIndex, Node, TensorSpec
from graphsplit.planning.cuts import Cut
from graphsplit.planning.plan import Plan
from graphsplit.planning.planner import plan_sections
from graphsplit.planning.presets import explain, get, match, presets, read_presets, targets_for
from graphsplit.planning.presets.conditions import alternatives
from tests.shared import shared_model

NMS = "Postprocessor/BatchMultiClassNonMaxSuppression"


def graph(text: str, *, prefix: str = "", **extra: object) -> GraphIndex:
    """An index from lines `name: Op input input …`; an input may be written with its port."""
    nodes = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(":")
        op, *reads = rest.split()
        kind = {"Const": "const", "Placeholder": "input"}.get(op, "op")
        inputs = tuple(prefix + (r if ":" in r else f"{r}:0") for r in reads)
        ports = 2 if op == "TopKV2" else 1
        outputs = tuple(f"{prefix}{name}:{i}" for i in range(ports))
        nodes.append(Node(prefix + name, op, inputs, outputs, kind=kind, role=ROLES.get(op, "")))
    tensors = {t: TensorSpec(t) for n in nodes for t in n.outputs}
    read = {t for n in nodes for t in n.inputs}
    return GraphIndex(
        tuple(nodes),
        MappingProxyType(tensors),
        tuple(t for n in nodes for t in n.outputs if n.kind == "input"),
        tuple(t for t in tensors if t not in read),
        **extra,  # type: ignore[arg-type]
    )


# No tensor of these graphs has a shape or a dtype: nothing may depend on the number of anchors or classes.
#
#            image ─▶ Conv ─┬─▶ boxes ─▶ ExpandDims* ─┐
#                           └─▶ logits ─▶ …  scores ──┴─▶ suppression ─▶ detections
HEAD = """
image: Placeholder
w: Const
conv: Conv2D image w
Squeeze: Squeeze conv
concat_1: ConcatV2 conv w
Postprocessor/begin: Const
Postprocessor/Decode: Mul Squeeze w
"""

TAIL = f"""
{NMS}/Shape: Shape {{boxes}}
{NMS}/map/Scatter: TensorArrayScatterV3 {{boxes}}
{NMS}/map/Scatter_1: TensorArrayScatterV3 {{scores}}
{NMS}/map/NonMaxSuppressionV3: NonMaxSuppressionV3 {NMS}/map/Scatter {NMS}/map/Scatter_1 {{window}}
detection_boxes: Identity {NMS}/map/NonMaxSuppressionV3
"""

SSD_2017_06 = (
    HEAD
    + """
Postprocessor/Slice: Slice concat_1 Postprocessor/begin
Postprocessor/{Op}: {Op} Postprocessor/Slice
Postprocessor/ExpandDims: ExpandDims Postprocessor/Decode w
"""
    + TAIL.format(boxes="Postprocessor/ExpandDims", scores="Postprocessor/{Op}", window="w")
)

SSD_2017_11 = (
    HEAD
    + """
Postprocessor/Slice: Slice concat_1 Postprocessor/begin
Postprocessor/scale_logits: RealDiv Postprocessor/Slice w
Postprocessor/convert_scores: {Op} Postprocessor/scale_logits
Postprocessor/ExpandDims: ExpandDims w w
Postprocessor/ExpandDims_1: ExpandDims Postprocessor/Decode w
"""
    + TAIL.format(boxes="Postprocessor/ExpandDims_1", scores="Postprocessor/convert_scores", window="w")
)

SSD_2018 = (
    HEAD
    + """
Postprocessor/scale_logits: RealDiv concat_1 w
Postprocessor/convert_scores: {Op} Postprocessor/scale_logits
Postprocessor/raw_box_scores: Identity Postprocessor/convert_scores
Postprocessor/Slice: Slice Postprocessor/raw_box_scores Postprocessor/begin
Postprocessor/ExpandDims: ExpandDims w w
Postprocessor/ExpandDims_1: ExpandDims Postprocessor/Decode w
size: Shape {window}
Postprocessor/stack_1: Pack size
"""
    + TAIL.format(boxes="Postprocessor/ExpandDims_1", scores="Postprocessor/Slice", window="Postprocessor/stack_1")
)

FASTER_RCNN = """
image: Placeholder
w: Const
features: Conv2D image w
sizes: Shape image
rpn: Conv2D features w
BatchMultiClassNonMaxSuppression/map/NonMaxSuppressionV3: NonMaxSuppressionV3 rpn
BatchMultiClassNonMaxSuppression/map/TensorArrayStack_4/TensorArrayGatherV3: TensorArrayGatherV3 rpn
CropAndResize/CropAndResize: CropAndResize features BatchMultiClassNonMaxSuppression/map/NonMaxSuppressionV3
head: Conv2D CropAndResize/CropAndResize w
{box_encodings}: Squeeze head
{class_predictions}: Squeeze head
SecondStagePostprocessor/Reshape: Reshape {box_encodings} w
SecondStagePostprocessor/Reshape_1: Reshape {class_predictions} w
SecondStagePostprocessor/Decode: Mul SecondStagePostprocessor/Reshape BatchMultiClassNonMaxSuppression/map/NonMaxSuppressionV3
SecondStagePostprocessor/Reshape_4: Reshape SecondStagePostprocessor/Decode w
SecondStagePostprocessor/convert_scores: Softmax SecondStagePostprocessor/Reshape_1
SecondStagePostprocessor/Slice: Slice SecondStagePostprocessor/convert_scores w
SecondStagePostprocessor/stack_1: Pack sizes
SecondStagePostprocessor/{nms}/map/Shape: Shape SecondStagePostprocessor/Reshape_4
SecondStagePostprocessor/{nms}/map/strided_slice: StridedSlice SecondStagePostprocessor/{nms}/map/Shape
SecondStagePostprocessor/{nms}/map/Scatter: TensorArrayScatterV3 SecondStagePostprocessor/Reshape_4
SecondStagePostprocessor/{nms}/map/Scatter_1: TensorArrayScatterV3 SecondStagePostprocessor/Slice
SecondStagePostprocessor/{nms}/map/Scatter_4: TensorArrayScatterV3 {nms}/map/TensorArrayStack_4/TensorArrayGatherV3
SecondStagePostprocessor/{nms}/map/NonMaxSuppressionV3: NonMaxSuppressionV3 SecondStagePostprocessor/{nms}/map/Scatter_1
detection_boxes: Identity SecondStagePostprocessor/{nms}/map/NonMaxSuppressionV3
"""

MASK_RCNN = """
image: Placeholder
w: Const
features: Conv2D image w
BatchMultiClassNonMaxSuppression/map/NonMaxSuppressionV3: NonMaxSuppressionV3 features
CropAndResize/CropAndResize: CropAndResize features BatchMultiClassNonMaxSuppression/map/NonMaxSuppressionV3
head: Conv2D CropAndResize/CropAndResize w
BatchMultiClassNonMaxSuppression_1/map/NonMaxSuppressionV3: NonMaxSuppressionV3 head
CropAndResize_1/CropAndResize: CropAndResize features BatchMultiClassNonMaxSuppression_1/map/NonMaxSuppressionV3
detection_masks: Conv2D CropAndResize_1/CropAndResize w
"""

DEEPLAB = """
ImageTensor: Placeholder
w: Const
logits: Conv2D ImageTensor w
ResizeBilinear: ResizeBilinear logits w
ArgMax: ArgMax ResizeBilinear w
Slice: Slice ArgMax w
SemanticPredictions: Identity Slice
"""

CENTERNET = """
image: Placeholder
w: Const
stem/conv: Conv2D image w
stem: BiasAdd stem/conv w
heat/conv: Conv2D stem w
heat: BiasAdd heat/conv w
wh/conv: Conv2D stem w
wh: BiasAdd wh/conv w
Sigmoid: Sigmoid heat
MaxPool: MaxPool Sigmoid
Equal: Equal Sigmoid MaxPool
Mul: Mul Sigmoid Equal
size: Shape stem
TopKV2: TopKV2 Mul w
Gather: GatherV2 wh TopKV2:1 w
boxes: Mul Gather size
"""

FASTER_2019 = {"box_encodings": "all_refined_box_encodings", "class_predictions": "all_class_predictions_with_background"}
FASTER_2018 = {"box_encodings": "Squeeze_2", "class_predictions": "Squeeze_3"}


def ssd(text: str, op: str = "Sigmoid", window: str = "image", **more: str) -> GraphIndex:
    return graph(text.format(Op=op, window=window), **more)


def faster(**names: str) -> GraphIndex:
    return graph(FASTER_RCNN.format(nms="BatchMultiClassNonMaxSuppression", **names))


def named(index: GraphIndex) -> str | None:
    found = match(index)
    return None if found is None else found.preset.name


# Each vintage


@pytest.mark.parametrize("op", ["Sigmoid", "Softmax", "Identity"])
def test_june_2017_is_known_by_a_score_function_of_slice_that_enters_the_suppression(op: str) -> None:
    found = targets_for(ssd(SSD_2017_06, op))
    assert found.preset.name == "ssd_2017_06"
    assert found.targets == (f"Postprocessor/{op}:0", "Postprocessor/ExpandDims:0")


@pytest.mark.parametrize("op", ["Sigmoid", "Softmax", "Identity"])
def test_november_2017_is_known_by_convert_scores_of_slice(op: str) -> None:
    found = targets_for(ssd(SSD_2017_11, op))
    assert found.preset.name == "ssd_2017_11"
    assert found.targets == ("Postprocessor/convert_scores:0", "Postprocessor/ExpandDims_1:0")


@pytest.mark.parametrize("op", ["Sigmoid", "Softmax", "Identity"])
def test_2018_is_known_by_slice_of_convert_scores_and_a_clip_window(op: str) -> None:
    found = targets_for(ssd(SSD_2018, op))
    assert found.preset.name == "ssd_2018"
    assert found.targets == ("Postprocessor/Slice:0", "Postprocessor/ExpandDims_1:0", "Postprocessor/stack_1:0")


@pytest.mark.parametrize("window", ["Postprocessor/stack_1", "w"])
def test_2018_with_a_clip_window_that_no_input_reaches_is_the_tensorrt_style(window: str) -> None:
    text = SSD_2018 if window == "Postprocessor/stack_1" else SSD_2018.replace("Postprocessor/stack_1: Pack size\n", "")
    found = targets_for(ssd(text.replace("Scatter_1 Postprocessor/stack_1", f"Scatter_1 {window}"), window="w"))
    assert found.preset.name == "ssd_trt"
    assert found.targets == ("Postprocessor/Slice:0", "Postprocessor/ExpandDims_1:0")


def test_a_softmax_that_reshapes_before_and_after_is_a_score_function() -> None:
    # Early TensorFlow 1: the softmax of a tensor of rank 3 is Reshape, Softmax, Reshape; the last has the name.
    text = SSD_2017_11.format(Op="Reshape").replace(
        "convert_scores: Reshape Postprocessor/scale_logits",
        "convert_scores: Reshape Postprocessor/Softmax\nPostprocessor/Softmax: Softmax Postprocessor/Reshape_9\n"
        "Postprocessor/Reshape_9: Reshape Postprocessor/scale_logits w",
    )
    assert named(graph(text)) == "ssd_2017_11"


def test_a_suppression_inside_a_function_is_found() -> None:
    text = SSD_2017_11.format(Op="Sigmoid").replace("NonMaxSuppressionV3: NonMaxSuppressionV3", "while: StatelessWhile")
    text = text.replace("map/NonMaxSuppressionV3", "map/while")
    assert named(graph(text)) is None
    index = graph(
        text,
        functions={"body": Function("body", ("Add",), ("inner",)), "inner": Function("inner", ("NonMaxSuppressionV5",), ())},
        calls={f"{NMS}/map/while": ("body",)},
    )
    assert named(index) == "ssd_2017_11"


@pytest.mark.parametrize("box_encodings", ["all_refined_box_encodings", "Squeeze_2", "whatever"])
def test_faster_rcnn_is_cut_at_what_enters_the_second_postprocessing_whatever_it_is_called(box_encodings: str) -> None:
    found = targets_for(faster(box_encodings=box_encodings, class_predictions="all_class_predictions_with_background"))
    assert found.preset.name == "faster_rcnn"
    assert found.targets == (
        "sizes:0",
        "BatchMultiClassNonMaxSuppression/map/NonMaxSuppressionV3:0",
        "BatchMultiClassNonMaxSuppression/map/TensorArrayStack_4/TensorArrayGatherV3:0",
        f"{box_encodings}:0",
        "all_class_predictions_with_background:0",
    )


def test_the_older_cut_of_faster_rcnn_can_be_asked_for_where_its_tensors_are() -> None:
    index = faster(**FASTER_2018)
    assert named(index) == "faster_rcnn"
    found = targets_for(index, "faster_rcnn_2018")
    assert found.targets == tuple(f"{t}:0" for t in get("faster_rcnn_2018").targets)
    with pytest.raises(
        CutError, match=r"reads \[all_refined_box_encodings \(Squeeze\)\], not Squeeze_2.*preset=.faster_rcnn. matches"
    ):
        targets_for(faster(**FASTER_2019), "faster_rcnn_2018")


def test_mask_rcnn_is_a_family_without_a_cut() -> None:
    index = graph(MASK_RCNN)
    found = match(index)
    assert found is not None
    assert (found.preset.family, found.targets) == ("mask_rcnn", ())
    with pytest.raises(CutError, match=r"'mask_rcnn' matches, but has no fixed cut: .*to the CPU.*outputs="):
        targets_for(index)
    with pytest.raises(CutError, match="no fixed cut"):
        targets_for(index, "mask_rcnn")


def test_deeplab_is_a_family_without_a_cut() -> None:
    found = match(graph(DEEPLAB))
    assert found is not None
    assert (found.preset.family, found.targets) == ("deeplab", ())
    assert named(graph(DEEPLAB.replace("ResizeBilinear", "Mean"))) is None


def test_centernet_is_cut_behind_the_last_convolution_of_each_head() -> None:
    # `size` reaches the stem, but only for its shape: the stem is no head.
    found = targets_for(graph(CENTERNET))
    assert (found.preset.name, found.targets) == ("centernet", ("heat:0", "wh:0"))


def test_a_centernet_of_the_tflite_converter_is_cut_behind_the_same_convolutions() -> None:
    text = """
        image: Placeholder
        w: Const
        stem: CONV_2D image w
        heat: CONV_2D stem w
        wh: CONV_2D stem w
        sigmoid: LOGISTIC heat
        pool: MAX_POOL_2D sigmoid
        peak: EQUAL sigmoid pool
        mask: CAST peak
        left: MUL sigmoid mask
        flat: RESHAPE left w
        top: TOPK_V2 flat w
        sizes: GATHER_ND wh top
        """
    found = targets_for(graph(text))
    assert (found.preset.name, found.preset.family, found.targets) == ("centernet_tflite", "centernet", ("heat:0", "wh:0"))
    assert named(graph(text.replace("EQUAL sigmoid pool", "EQUAL sigmoid stem"))) is None


def test_an_ssd_for_tflite_is_cut_at_what_enters_the_custom_op() -> None:
    found = targets_for(
        graph("""
            image: Placeholder
            anchors: Const
            conv: Conv2D image
            boxes: Reshape conv
            scores: LOGISTIC conv
            out: TFLite_Detection_PostProcess boxes scores anchors
        """)
    )
    assert (found.preset.name, found.targets) == ("ssd_tflite", ("boxes:0", "scores:0"))


# Trap: the same names with their meaning swapped


def test_a_vintage_never_matches_a_graph_of_another_one() -> None:
    graphs = {
        "ssd_2017_06": ssd(SSD_2017_06),
        "ssd_2017_11": ssd(SSD_2017_11),
        "ssd_2018": ssd(SSD_2018),
        "ssd_trt": ssd(SSD_2018, window="w"),
        "faster_rcnn": faster(**FASTER_2019),
        "mask_rcnn": graph(MASK_RCNN),
        "deeplab_v3": graph(DEEPLAB),
        "centernet": graph(CENTERNET),
    }
    for name, index in graphs.items():
        assert [p.name for p, fulfilled, _ in explain(index) if fulfilled] == [name]


def test_the_reason_names_the_condition_that_failed_and_the_value() -> None:
    reasons = {p.name: reason for p, _, reason in explain(ssd(SSD_2018))}
    assert "Postprocessor/scale_logits (RealDiv)], not Postprocessor/Slice" in reasons["ssd_2017_11"]
    assert "Postprocessor/stack_1 (Pack) is there" in reasons["ssd_trt"]
    assert "there is no SecondStagePostprocessor/Slice" in reasons["faster_rcnn"]
    reasons = {p.name: reason for p, _, reason in explain(ssd(SSD_2017_11))}
    assert "Postprocessor/Slice (Slice) reads [concat_1 (ConcatV2)], not Postprocessor/convert_scores" in reasons["ssd_2018"]
    assert reasons["ssd_2017_11"].startswith("Postprocessor/convert_scores is computed from Postprocessor/Slice")


def test_a_named_preset_on_another_vintage_says_why_not_and_which_one_fits() -> None:
    with pytest.raises(CutError, match=r"'ssd_2017_11' does not match .* not Postprocessor/Slice.*; preset=.ssd_2018. matches"):
        targets_for(ssd(SSD_2018), "ssd_2017_11")
    with pytest.raises(
        CutError, match=r"'ssd_2018' does not match .*; preset=.mask_rcnn. matches, but has no fixed cut: .*outputs="
    ):
        targets_for(graph(MASK_RCNN), "ssd_2018")
    with pytest.raises(
        CutError, match=r"'ssd_2018' does not match .* there is no Postprocessor/Slice; no preset matches: .*outputs="
    ):
        targets_for(graph("image: Placeholder\nout: Relu image"), "ssd_2018")


# Names without structure


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        # scores made from something else
        (SSD_2017_11, "convert_scores: {Op} Postprocessor/scale_logits", "convert_scores: {Op} concat_1"),
        (SSD_2018, "Slice: Slice Postprocessor/raw_box_scores", "Slice: Slice concat_1"),
        # or by another op on the way
        (SSD_2017_11, "RealDiv Postprocessor/Slice w", "Conv2D Postprocessor/Slice w"),
        (SSD_2018, "Postprocessor/Slice: Slice", "Postprocessor/Slice: Relu"),
        # boxes that are none
        (SSD_2018, "Postprocessor/ExpandDims_1: ExpandDims", "Postprocessor/ExpandDims_1: Relu"),
        # scores that do not enter the suppression
        (SSD_2017_11, "Scatter_1: TensorArrayScatterV3 Postprocessor/convert_scores", "Scatter_1: TensorArrayScatterV3 concat_1"),
        # a suppression that is none, or one of something else
        (SSD_2018, "NonMaxSuppressionV3: NonMaxSuppressionV3", "NonMaxSuppressionV3: Add"),
        (SSD_2018, f"V3 {NMS}/map/Scatter {NMS}/map/Scatter_1", "V3 w w"),
    ],
)
def test_names_alone_are_not_enough(text: str, old: str, new: str) -> None:
    assert named(ssd(text)) is not None
    assert text.count(old) == 1
    assert named(ssd(text.replace(old, new))) is None


def test_nodes_that_only_bear_the_names_do_not_match() -> None:
    text = "image: Placeholder\n" + "".join(
        f"{name}: Relu image\n"
        for name in (
            "Postprocessor/Slice Postprocessor/convert_scores Postprocessor/ExpandDims Postprocessor/ExpandDims_1 "
            f"Postprocessor/stack_1 Postprocessor/Sigmoid {NMS}/map/NonMaxSuppressionV3 SecondStagePostprocessor/Slice "
            "ImageTensor SemanticPredictions"
        ).split()
    )
    assert match(graph(text)) is None
    with pytest.raises(CutError, match=r"no preset matches this graph; .*outputs=….*autocrop=True"):
        targets_for(graph(text))


# Prefixes


@pytest.mark.parametrize("prefix", ["import/", "detector/", "a/b/"])
def test_a_graph_imported_under_a_prefix_matches(prefix: str) -> None:
    found = targets_for(graph(SSD_2018.format(Op="Sigmoid", window="image"), prefix=prefix))
    assert found.prefix == prefix
    assert found.targets == tuple(f"{prefix}{t}:0" for t in get("ssd_2018").targets)
    assert found.reason.endswith(f"(under '{prefix}')")
    for text in (MASK_RCNN, DEEPLAB, CENTERNET):
        assert named(graph(text, prefix=prefix)) == named(graph(text))


def test_parts_under_different_prefixes_do_not_make_a_family() -> None:
    text = SSD_2017_11.format(Op="Sigmoid").replace("Postprocessor/ExpandDims_1", "other/Postprocessor/ExpandDims_1")
    assert named(graph(text)) is None


def test_the_prefix_of_the_nearest_miss_is_explained() -> None:
    index = graph(SSD_2018.format(Op="Sigmoid", window="image"), prefix="import/")
    reason = next(reason for p, _, reason in explain(index) if p.name == "ssd_2017_11")
    assert "but import/Postprocessor/convert_scores (Sigmoid) reads [import/Postprocessor/scale_logits (RealDiv)]" in reason


# The data


def test_every_preset_is_complete() -> None:
    for preset in presets():
        assert preset.conditions
        assert preset.note
        assert preset.title
        assert preset.has_cut == (preset.family not in ("mask_rcnn", "deeplab"))
        assert (preset.cut == "no fixed cut") == (not preset.has_cut)
        assert preset.download is None or preset.download.format(name="x").endswith("/x.tar.gz")
        assert get(preset.name) is preset
    assert len({p.name for p in presets()}) == len(presets())


def test_an_unknown_preset_names_those_that_come_close_or_all() -> None:
    with pytest.raises(TensorNotFoundError, match="no preset named 'ssd_2019'; did you mean 'ssd_2018'"):
        get("ssd_2019")
    with pytest.raises(TensorNotFoundError, match=r"no preset named 'yolo'.*'centernet'") as caught:
        targets_for(ssd(SSD_2018), "yolo")
    assert caught.value.close == tuple(p.name for p in presets())


def test_alternatives_are_written_in_braces() -> None:
    assert alternatives("a") == ("a",)
    assert alternatives("a/{b,c}_{1,2}") == ("a/b_1", "a/b_2", "a/c_1", "a/c_2")


def test_a_preset_of_your_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    own = {"says": "my head feeds my decoder", "node": "head/out", "feeds": {"node": "decode/*"}}
    entry = {"name": "mine", "family": "mine", "title": "mine", "targets": ["head/out"], "conditions": [own]}
    path.write_text(json.dumps({"presets": [entry]}))
    mine = read_presets(path)
    index = graph("image: Placeholder\nnet/head/out: Conv2D image\nnet/decode/x: Relu net/head/out")
    assert targets_for(index, among=mine).targets == ("net/head/out:0",)
    assert targets_for(index, "mine", among=mine).reason == "my head feeds my decoder (under 'net/')"
    assert match(index) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "$.presets[0]: unknown key 'colour'"),
        ({"conditions": [{"says": "x", "raeds": "y"}]}, "$.presets[0].conditions[0]: unknown key 'raeds'"),
        ({"conditions": [{"node": "x"}]}, "$.presets[0].conditions[0].says: is missing"),
        ({"conditions": [{"says": "x"}]}, "$.presets[0].conditions[0]: a node that is not described at all"),
        ({"conditions": [{"says": "x", "node": "y", "absent": "no"}]}, "$.presets[0].conditions[0].absent: expected bool, got str"),
        ({"conditions": "x"}, "$.presets[0].conditions: expected array, got str"),
        ({"targets": {"names": []}}, "$.presets[0].targets: either 'entering' or 'last'"),
        (
            {"conditions": [{"says": "x", "node": "y", "reads": {}}]},
            "$.presets[0].conditions[0].reads: a node that is not described at all",
        ),
        ({"targets": {"last": "x", "entering": "y"}}, "$.presets[0].targets: either 'entering' or 'last'"),
        ({"targets": [1]}, "$.presets[0].targets[0]: expected str, got int"),
    ],
)
def test_a_wrong_preset_is_refused_with_what_is_wrong(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.json"
    entry = {"name": "mine", "family": "mine", "title": "mine", "conditions": [{"says": "x", "node": "y"}]}
    path.write_text(json.dumps({"presets": [entry | change]}))
    with pytest.raises(FormatError) as caught:
        read_presets(path)
    assert message in str(caught.value)


def test_two_presets_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    entry = {"name": "mine", "family": "mine", "title": "mine", "conditions": [{"says": "x", "node": "y"}]}
    path.write_text(json.dumps({"presets": [entry, entry]}))
    with pytest.raises(FormatError, match="two presets are named 'mine'"):
        read_presets(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "not JSON"), (b"\xff\xfe\xfa", "not JSON"), (b"[]", "not a file of presets: expected object, got array")],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_presets(path)
    with pytest.raises(FormatError, match="cannot be read"):
        read_presets(tmp_path / "none.json")


# Real graphs

SSD_2017_11_TARGETS = ("Postprocessor/convert_scores:0", "Postprocessor/ExpandDims_1:0")
SSD_2018_TARGETS = ("Postprocessor/Slice:0", "Postprocessor/ExpandDims_1:0", "Postprocessor/stack_1:0")
FASTER_RCNN_TARGETS = (
    "Preprocessor/map/TensorArrayStack_1/TensorArrayGatherV3:0",
    "BatchMultiClassNonMaxSuppression/map/TensorArrayStack_4/TensorArrayGatherV3:0",
    "all_refined_box_encodings:0",
    "all_class_predictions_with_background:0",
    "map_2/TensorArrayStack/TensorArrayGatherV3:0",
)
CENTERNET_TARGETS = (
    "tower_0/CenternetHead/centernet_cls_output/BiasAdd:0",
    "tower_0/CenternetHead/centernet_wh_output/BiasAdd:0",
)
FOUR = ("detection_boxes:0", "detection_scores:0", "detection_classes:0", "num_detections:0")

# model, preset, targets, what the raw outputs add to the border
REAL = [
    ("tiny_ssd_mobilenet_v1_2017.pb", "ssd_2017_11", SSD_2017_11_TARGETS, ("concat_1:0",)),
    ("tiny_ssd_mobilenet_v1_2018.pb", "ssd_2018", SSD_2018_TARGETS, ("concat_1:0",)),
    ("ssd_mobilenet_v1_face_2017.pb", "ssd_2017_11", SSD_2017_11_TARGETS, ("concat_1:0",)),
    ("ssd_mobilenet_v1_face_2018.pb", "ssd_2018", SSD_2018_TARGETS, ("Postprocessor/convert_scores:0",)),
    ("ssd_mobilenet_v1_coco_2017.pb", "ssd_2017_11", SSD_2017_11_TARGETS, ("concat_1:0",)),
    ("ssd_mobilenet_v1_coco_2018.pb", "ssd_2018", SSD_2018_TARGETS, ("Postprocessor/convert_scores:0",)),
    ("faster_rcnn_inception_v2_coco_2018.pb", "faster_rcnn", FASTER_RCNN_TARGETS, ()),
    ("centernet_mobilenet_v3.pb", "centernet", CENTERNET_TARGETS, ()),
]


def planned(index: GraphIndex, targets: tuple[str, ...], outputs: tuple[str, ...] | None = None) -> Plan:
    return plan_sections(index, [Cut("main", targets)], last="post", outputs=outputs, repair="border")


@pytest.mark.parametrize(("name", "preset", "targets", "raw"), REAL)
def test_a_real_graph_matches_its_family_only_and_nothing_unnamed_crosses(
    name: str, preset: str, targets: tuple[str, ...], raw: tuple[str, ...]
) -> None:
    index = load(shared_model(name)).index
    assert [p.name for p, fulfilled, _ in explain(index) if fulfilled] == [preset]
    found = targets_for(index)
    assert found.targets == targets
    assert found == targets_for(index, preset)

    whole = planned(index, targets)
    assert tuple(a.tensor for a in whole.added) == raw
    assert whole.replicated == ()
    assert set(whole.borders) == {*targets, *raw}
    assert [s.name for s in whole.sections] == ["main", "post"]
    if raw:
        four = planned(index, targets, FOUR)
        assert (four.added, four.replicated) == ((), ())
        assert set(four.borders) == set(targets)


def test_the_real_mask_rcnn_is_a_family_without_a_cut() -> None:
    index = load(shared_model("mask_rcnn_inception_v2_coco_2018.pb")).index
    assert [p.name for p, fulfilled, _ in explain(index) if fulfilled] == ["mask_rcnn"]
    with pytest.raises(CutError, match="no fixed cut"):
        targets_for(index)
