"""Trained models on pictures whose content is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

import graphsplit as gs
from graphsplit.cli import run
from graphsplit.detection.detector import Detector
from tests.detection.conftest import CPU
from tests.shared import shared_media, shared_model

cv2 = pytest.importorskip("cv2")
pytest.importorskip("supervision")

FACE = [181, 73, 264, 175]  # xmin, ymin, xmax, ymax in astronaut.png
MAIN = {"main": "/cpu:0"}


@pytest.mark.parametrize("year", ["2017", "2018"])
def test_a_face_is_found_split_and_whole_alike(year):
    model = shared_model(f"ssd_mobilenet_v1_face_{year}.pb")
    picture = shared_media("astronaut.png")
    with Detector(model, {1: "face"}, devices=CPU) as split, Detector(model, {1: "face"}, devices=MAIN, split=False) as whole:
        assert (list(split.devices), list(whole.devices)) == (["main", "post"], ["main"])
        found, expected = split.detect(picture), whole.detect(picture)
    assert np.abs(found.xyxy - [FACE]).max() <= 2
    assert found.confidence[0] == pytest.approx(0.965, abs=0.005)
    assert found.data["class_name"].tolist() == ["face"]
    for key in ("xyxy", "confidence", "class_id"):
        assert getattr(found, key) == pytest.approx(getattr(expected, key), abs=1e-3)


def test_nothing_is_found_where_there_is_no_face():
    with Detector(shared_model("ssd_mobilenet_v1_face_2018.pb"), devices=CPU) as detector:
        assert len(detector.detect(shared_media("coffee.png"))) == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_video_of_a_face_gives_an_answer_for_every_frame(tmp_path):
    model, video = shared_model("ssd_mobilenet_v1_face_2018.pb"), shared_media("carphone_pristine.mp4")
    (tmp_path / "face.txt").write_text("face\n")
    lines, saved = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    options = ["--threshold", "0.3", "--labels", tmp_path / "face.txt", "--jsonl", lines, "--save", saved]
    assert run([str(a) for a in ("detect", model, video, *options)]) == 0
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [f["frame"] for f in found] == list(range(120))
    assert sum(bool(f["boxes"]) for f in found) >= 100
    assert all(score >= 0.3 for f in found for score in f["scores"])
    assert found[30]["time_s"] == pytest.approx(30 * 1001 / 30000, abs=1e-3)
    capture = cv2.VideoCapture(str(saved))
    size = [capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_COUNT)]
    assert size == [176, 144, 120]
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, abs=0.01)
    capture.release()
    assert run([str(a) for a in ("detect", model, video, "--no-split", "--threshold", "0.3", "--jsonl", tmp_path / "w.jsonl")]) == 0
    whole = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    for one, other in zip(found, whole, strict=True):
        assert one["classes"] == other["classes"]
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-3)
        assert np.asarray(one["boxes"]) == pytest.approx(np.asarray(other["boxes"]), abs=1e-3)


def test_a_savedmodel_and_a_graphdef_of_it_are_the_same(tmp_path):
    """The API's exporter for TensorFlow 2 leaves outputs Identity, Identity_1, …"""
    import tensorflow as tf

    class Exported(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8, name="input_tensor")])
        def serve(self, image):
            some = tf.cast(tf.reduce_max(image), tf.float32) / 255
            return {
                "detection_anchor_indices": tf.zeros([1, 2]) + some,
                "detection_boxes": tf.constant([[[0.25, 0, 0.5, 1], [0, 0, 1, 1.0]]]) * some,
                "detection_classes": tf.constant([[3.0, 7.0]]) * some,
                "detection_multiclass_scores": tf.zeros([1, 2, 4]) + some,
                "detection_scores": tf.constant([[0.875, 0.625]]) * some,
                "num_detections": tf.constant([2.0]) * some,
                "raw_detection_boxes": tf.zeros([1, 9, 4]) + some,
                "raw_detection_scores": tf.zeros([1, 9, 4]) + some,
            }

    module = Exported()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.serve)
    with Detector(tmp_path / "m", devices=MAIN) as detector:
        found = detector.detect(np.full((40, 80, 3), 255, np.uint8))
    assert found.xyxy.tolist() == [[0, 10, 80, 20], [0, 0, 80, 40]]
    assert found.confidence.tolist() == [0.875, 0.625]
    assert found.class_id.tolist() == [3, 7]


@pytest.mark.parametrize(("picture", "name", "score"), [("coffee.png", "cup", 0.457), ("astronaut.png", "person", 0.608)])
def test_centernet_sees_what_is_there_and_names_it(picture, name, score):
    """The input is float 0 … 255; rows are xmin, ymin, xmax, ymax in pixels of 512×512, score, class counted from 0."""
    model = shared_model("centernet_mobilenet_v3.pb")
    with Detector(model, threshold=0.3, devices=CPU) as split, Detector(model, threshold=0.3, devices=MAIN, split=False) as whole:
        assert split.cut.startswith("preset centernet")
        found, expected = (d.detect(shared_media(picture)) for d in (split, whole))
    assert found.data["class_name"][0] == name
    assert found.confidence[0] == pytest.approx(score, abs=0.02)
    assert expected.data["class_name"].tolist() == found.data["class_name"].tolist()
    assert found.xyxy == pytest.approx(expected.xyxy, abs=0.01)
    if name == "cup":
        assert np.abs(found.xyxy[0] - [166, 21, 411, 256]).max() < 5


@pytest.mark.slow
def test_mask_rcnn_gives_a_mask_for_each_box():
    with Detector(shared_model("mask_rcnn_inception_v2_coco_2018.pb"), threshold=0.0, devices=MAIN) as detector:
        assert "lie on both sides of the second suppression" in detector.notes[0]
        (frame,) = detector.stream([shared_media("chelsea.png")])
    found = frame.detections
    assert len(found) > 0
    assert found.mask.shape == (len(found), 300, 451)
    assert found.mask.dtype == bool
    assert found.data["class_name"][0] != str(found.class_id[0]), "90 classes: named as COCO's"
    assert frame.drawn.shape == (300, 451, 3)


@pytest.mark.slow
def test_faster_rcnn_is_split_at_its_second_stage():
    with Detector(shared_model("faster_rcnn_inception_v2_coco_2018.pb"), threshold=0.0, devices=CPU) as split:
        assert list(split.devices) == ["main", "post"]
        found = split.detect(shared_media("chelsea.png"))
    with Detector(shared_model("faster_rcnn_inception_v2_coco_2018.pb"), threshold=0.0, devices=MAIN, split=False) as whole:
        expected = whole.detect(shared_media("chelsea.png"))
    assert found.xyxy == pytest.approx(expected.xyxy, abs=0.01)
    assert found.data["class_name"].tolist() == expected.data["class_name"].tolist()


def test_the_detector_is_exported():
    assert gs.Detector is Detector
