"""Which outputs are boxes, scores and classes, and their decoding into pixels."""

from __future__ import annotations

import numpy as np
import pytest

from graphsplit.detection.decoding import decode, name_classes, paste
from graphsplit.detection.layouts import Layout, recognise, settled
from graphsplit.errors import FormatError, GraphSplitError

API = ("detection_boxes:0", "detection_scores:0", "detection_classes:0", "num_detections:0")


def test_the_names_of_the_api_are_found_among_others_and_under_a_prefix():
    found = recognise([*API, "raw_detection_boxes:0", "raw_detection_scores:0", "detection_multiclass_scores:0"])
    assert found.tensors == API
    assert found.first == 1
    assert recognise([f"import/{t}" for t in API]).boxes == "import/detection_boxes:0"
    assert recognise([*API, "detection_masks:0"]).masks == "detection_masks:0"


def test_short_names_of_tensorrt_exports_are_known():
    found = recognise(["boxes:0", "scores:0", "classes:0"])
    assert found == Layout(boxes="boxes:0", scores="scores:0", classes="classes:0")


def test_tflites_op_gives_boxes_classes_scores_and_number_and_counts_from_zero():
    op = "TFLite_Detection_PostProcess"
    found = recognise([op, f"{op}:1", f"{op}:2", f"{op}:3"])
    assert found == Layout(boxes=op, classes=f"{op}:1", scores=f"{op}:2", count=f"{op}:3", first=0)
    assert recognise([f"{op}:{i}" for i in range(4)]).boxes == f"{op}:0"


def test_savedmodels_of_tensorflow_2_lose_their_names_but_not_their_order():
    names = ["Identity:0", *(f"Identity_{i}:0" for i in range(1, 8))]
    found = recognise(names)
    assert (found.boxes, found.classes, found.scores, found.count) == (
        "Identity_1:0",
        "Identity_2:0",
        "Identity_4:0",
        "Identity_5:0",
    )
    found = recognise(names[:4])
    assert (found.boxes, found.classes, found.scores, found.count) == tuple(names[:4])


def test_deeplab_and_centernet_have_one_output():
    assert recognise(["SemanticPredictions:0"]) == Layout(segmentation="SemanticPredictions:0")
    assert recognise(["tower_0/detections:0"]) == Layout(packed="tower_0/detections:0", first=0)


def test_keys_say_more_than_names():
    outputs = ["Identity:0", "Identity_1:0", "Identity_2:0", "Identity_3:0"]
    keys = dict(zip(("detection_scores", "detection_boxes", "detection_classes", "num_detections"), outputs, strict=True))
    found = recognise(outputs, keys)
    assert (found.scores, found.boxes, found.classes, found.count, found.guesses) == (*outputs, ())
    assert recognise([*outputs[:3]], {k: t for k, t in keys.items() if t in outputs[:3]}).count == ""
    short = {"boxes": outputs[3], "scores": outputs[1], "classes": outputs[0], "something": outputs[2]}
    assert recognise(outputs, short).boxes == outputs[3]
    assert recognise(list(API), {"boxes": API[1], "gone": "x:0"}).boxes == API[0], "one key is not enough"


ORDERS = {
    "the API's": ("boxes", "classes", "scores", "count"),
    "google/automl's": ("boxes", "scores", "classes", "count"),
    "another": ("count", "scores", "boxes", "classes"),
}
NAMES = ["Identity:0", "Identity_1:0", "Identity_2:0", "Identity_3:0"]


def found_in(order, *, scores=(0.9, 0.4, 0.0), classes=(3, 1, 0), count=2, boxes=None, dtype=np.float32):
    """The values of four outputs in some order, and what `settled` makes of them."""
    names = NAMES
    values = {
        "boxes": np.zeros((1, 3, 4), np.float32) if boxes is None else boxes,
        "scores": np.array([scores], np.float32),
        "classes": np.array([classes], dtype),
        "count": np.array([count], np.float32),
    }
    layout = recognise(names)
    found = settled(layout, {n: values[role] for n, role in zip(names, order, strict=True)})
    return found, dict(zip(order, names, strict=True))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
def test_values_decide_where_neither_keys_nor_names_do(order, dtype):
    found, names = found_in(order, dtype=dtype)
    assert all(getattr(found, role) == names[role] for role in order)


def test_what_comes_after_the_detections_is_not_looked_at():
    found, names = found_in(ORDERS["google/automl's"], scores=(0.5, 7.5, -3), classes=(2, 0.5, np.nan), count=1)
    assert found.classes == names["classes"]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_without_a_detection_there_is_nothing_to_decide(order):
    assert found_in(order, count=0)[0] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": (1, 1, 0), "classes": (0, 1, 0)}, "cannot be told apart by their values"),
        ({"scores": (1.5, 0.4, 0)}, "are not boxes, classes, scores and a count"),
        ({"classes": (0.25, 1, 0)}, "are not boxes"),
        ({"classes": (-2, 1, 0), "scores": (0.5, 2, 0)}, "are not boxes"),
        ({"scores": (np.nan, 0.4, 0)}, "are not boxes"),
        ({"count": 4}, "are not boxes"),
        ({"count": 1.5}, "are not boxes"),
        ({"boxes": np.zeros((1, 3, 5), np.float32)}, "are not boxes"),
        ({"boxes": np.zeros((1, 2, 4), np.float32)}, "are not boxes"),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_outputs_that_do_not_fit_are_refused(order, changes, message):
    with pytest.raises(GraphSplitError, match=message) as caught:
        found_in(order, **changes)
    assert "detection_boxes, detection_classes, detection_scores and num_detections" in str(caught.value)


def test_one_that_is_the_same_either_way_is_no_ambiguity():
    found, _ = found_in(ORDERS["the API's"], scores=(1, 1, 0), classes=(1, 1, 0))
    assert found is not None


@pytest.mark.parametrize("outputs", [["logits:0", "mask:0"], [*API[:2]], ["a/detections:0", "b:0"], [], ["Identity:0"] * 5])
def test_outputs_that_are_not_known_are_listed(outputs):
    listed = ", ".join(outputs) or "none"
    with pytest.raises(FormatError, match=f"none of its outputs is known to be boxes, scores and classes; there are {listed}"):
        recognise(outputs)


def answer(**changes):
    values = {
        "detection_boxes:0": np.array([[[0.25, 0.5, 0.75, 1.0], [0, 0, 1, 1], [0.1, 0.1, 0.2, 0.2]]], np.float32),
        "detection_scores:0": np.array([[0.9, 0.5, 0.8]], np.float32),
        "detection_classes:0": np.array([[1.0, 2.0, 3.0]], np.float32),
        "num_detections:0": np.array([2.0], np.float32),
    }
    return values | changes


def test_boxes_become_pixels_and_padding_is_left_out():
    found = decode(answer(), recognise(API), image=(100, 200), fed=(300, 300), threshold=0.0)
    assert found.xyxy.tolist() == [[100, 25, 200, 75], [0, 0, 200, 100]]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.5])
    assert found.class_id.tolist() == [1, 2]
    assert found.mask is None


def test_scores_at_the_threshold_are_kept_and_those_below_are_not():
    layout = recognise(API)
    assert len(decode(answer(), layout, image=(10, 10), fed=(10, 10), threshold=0.5)) == 2
    assert len(decode(answer(), layout, image=(10, 10), fed=(10, 10), threshold=0.500001)) == 1
    none = decode(answer(), layout, image=(10, 10), fed=(10, 10), threshold=1.0)
    assert (none.xyxy.shape, none.confidence.shape, none.class_id.shape) == ((0, 4), (0,), (0,))
    assert name_classes(none, {}).data["class_name"].tolist() == []


def test_a_box_that_is_not_finite_is_no_detection():
    boxes = answer()["detection_boxes:0"].copy()
    boxes[0, 0, 2] = np.nan
    found = decode(answer(**{"detection_boxes:0": boxes}), recognise(API), image=(10, 10), fed=(10, 10), threshold=0.0)
    assert found.class_id.tolist() == [2]


def test_values_that_do_not_belong_together_are_refused():
    broken = answer(**{"detection_scores:0": np.zeros((1, 7), np.float32)})
    with pytest.raises(GraphSplitError, match=r"detection_boxes:0 has shape \[3, 4\], detection_scores:0 \[7\]"):
        decode(broken, recognise(API), image=(10, 10), fed=(10, 10), threshold=0.5)


def test_packed_rows_are_pixels_of_what_the_model_was_fed():
    rows = np.array([[[0, 0, 256, 512, 0.9, 41], [0, 0, 1, 1, 0.1, 0]]], np.float32)
    layout = recognise(["detections:0"])
    found = decode({"detections:0": rows}, layout, image=(300, 400), fed=(512, 512), threshold=0.5)
    assert found.xyxy.tolist() == [[0, 0, 200, 300]]
    assert found.class_id.tolist() == [41]
    with pytest.raises(GraphSplitError, match=r"shape \[1, 5, 7\]; expected \[1, N, 6\]"):
        decode({"detections:0": np.zeros((1, 5, 7))}, layout, image=(3, 4), fed=(5, 5), threshold=0.5)


def test_a_map_of_labels_becomes_a_mask_for_each_class_but_the_background():
    labels = np.zeros((1, 4, 8), np.int64)
    labels[0, 1:3, 2:4] = 15
    layout = recognise(["SemanticPredictions:0"])
    found = decode({layout.segmentation: labels}, layout, image=(8, 16), fed=(4, 8), threshold=0.5)
    assert found.class_id.tolist() == [15]
    assert found.mask.shape == (1, 8, 16)
    assert found.mask.sum() == 16
    assert found.xyxy.tolist() == [[4, 2, 8, 6]]
    assert found.confidence.tolist() == [1.0]
    assert len(decode({layout.segmentation: np.zeros((1, 4, 8))}, layout, image=(8, 16), fed=(4, 8), threshold=0.5)) == 0
    with pytest.raises(GraphSplitError, match=r"the segmentation map has shape \[4\]"):
        decode({layout.segmentation: np.zeros(4)}, layout, image=(8, 16), fed=(4, 8), threshold=0.5)


def test_masks_are_pasted_into_their_boxes_and_cut_off_at_the_picture():
    full, half = np.ones((5, 5)), np.zeros((5, 5))
    half[:, :2] = 1
    boxes = np.array([[2, 1, 6, 3], [-4, -4, 2, 2], [0, 0, 4, 4], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    pasted = paste(np.stack([full, full, half, full, full]), boxes, (6, 8))
    assert pasted.shape == (5, 6, 8)
    assert pasted.dtype == bool
    assert (pasted[0].sum(), pasted[0, 1:3, 2:6].all()) == (8, True)
    assert (pasted[1].sum(), pasted[1, :2, :2].all()) == (4, True)
    assert 0 < pasted[2, :4, :2].sum() <= 8
    assert not pasted[2, :, 2:].any()
    assert not pasted[3].any()
    assert pasted[4].sum() == 1, "a box without an inside is one pixel"


def test_a_box_far_larger_than_the_picture_takes_no_memory():
    pasted = paste(np.ones((1, 5, 5)), np.array([[-1e6, -1e6, 1e6, 1e6]], np.float32), (6, 8))
    assert pasted.all()


def test_classes_are_named_and_without_a_name_called_by_their_number():
    found = decode(answer(), recognise(API), image=(10, 10), fed=(10, 10), threshold=0.0)
    assert name_classes(found, {1: "cat"}).data["class_name"].tolist() == ["cat", "2"]
    assert "class_name" not in found.data, "the argument stays as it was"
