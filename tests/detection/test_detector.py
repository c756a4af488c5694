"""The detector on a tiny model that finds what is white: boxes are known exactly."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import graphsplit as gs
from graphsplit.detection import open_source
from graphsplit.detection.detector import Detector
from graphsplit.errors import CutError, FeedError, FormatError, GraphSplitError, OptionError, PlacementError
from tests.detection.conftest import CPU
from tests.detection.spotter import white_box, write_spotter

IMAGE = white_box(48, 64, (10, 8, 30, 24))
MAIN = {"main": "/cpu:0"}


@pytest.fixture(scope="module")
def split(spotter):
    with Detector(spotter, ["white"], devices=CPU, outputs="heat") as detector:
        yield detector


def boxes(found):
    return np.round(found.xyxy).astype(int).tolist()


def boxes_of(detector):
    return boxes(detector.detect(IMAGE))


def test_an_image_gives_boxes_in_pixels_with_score_class_and_name(split):
    found = split.detect(IMAGE)
    assert type(found).__name__ == "Detections"
    assert boxes(found) == [[10, 8, 30, 24]]
    assert found.confidence.tolist() == pytest.approx([1.0])
    assert found.class_id.tolist() == [1]
    assert found.data["class_name"].tolist() == ["white"]
    assert found.mask is None


def test_arrays_pil_images_and_paths_are_the_same(split, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "x.png")
    grey = np.where(IMAGE[..., 0] == 255, 255, 0).astype(np.uint8)
    for image in (Image.fromarray(IMAGE), tmp_path / "x.png", str(tmp_path / "x.png"), grey):
        assert boxes(split.detect(image)) == [[10, 8, 30, 24]]
    with pytest.raises(FeedError, match="the image is float32"):
        split.detect(IMAGE.astype(np.float32))


def test_the_model_is_cut_where_it_was_told_and_whole_where_it_was_told(split, spotter):
    assert list(split.devices) == ["main", "post"]
    assert split.cut == "named"
    with Detector(spotter, devices=MAIN, split=False) as whole:
        assert whole.devices == {"main": "/cpu:0"}
        assert whole.cut == "whole, as one section"
        assert whole.notes == ()
        assert boxes(whole.detect(IMAGE)) == boxes(split.detect(IMAGE))
        assert whole.detect(IMAGE).data["class_name"].tolist() == ["1"], "no labels, no names"


def test_a_model_with_nothing_to_cut_off_runs_whole_and_says_so(spotter):
    with Detector(gs.load(spotter), devices=MAIN) as detector:
        assert list(detector.devices) == ["main"]
        (note,) = detector.notes
        assert note.startswith("the model runs whole, as one section: nothing to crop")


def test_a_model_that_reaches_outside_is_not_run_without_trust(tmp_path):
    import tensorflow as tf

    (tmp_path / "secret.txt").write_text("1")
    graph_def = tf.compat.v1.GraphDef.FromString(write_spotter(tmp_path / "m.pb").read_bytes())
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        boxes = graph.get_tensor_by_name("detection_boxes:0")
        number = tf.strings.to_number(tf.io.read_file(str(tmp_path / "secret.txt")))
        tf.identity(boxes * number, name="own/detection_boxes")
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(gs.TrustError, match=r"reaches outside itself \(ReadFile"):
        Detector(tmp_path / "m.pb", devices=MAIN)
    with Detector(tmp_path / "m.pb", devices=MAIN, trust=True) as detector:
        assert boxes_of(detector) == [[10, 8, 30, 24]]


def test_only_what_detections_are_read_from_is_computed(tmp_path):
    path = write_spotter(tmp_path / "m.pb", masks=True)
    with Detector(path, devices=MAIN) as detector:
        assert "detection_masks:0" in detector.parts.outputs
    with Detector(path, devices=MAIN, model_outputs="detection_boxes,detection_scores,detection_classes") as detector:
        assert detector.parts.outputs == ("detection_boxes:0", "detection_scores:0", "detection_classes:0")
        assert boxes(detector.detect(IMAGE))[0] == [10, 8, 30, 24]


def test_masks_are_pasted_into_the_picture(tmp_path):
    with Detector(write_spotter(tmp_path / "m.pb", masks=True), devices=MAIN) as detector:
        found = detector.detect(IMAGE)
    assert found.mask.shape == (1, 48, 64)
    rows, columns = np.nonzero(found.mask[0])
    assert (rows.min(), rows.max() < 24, columns.min() >= 10, columns.max() < 30) == (rows.min(), True, True, True)
    assert found.mask[0, 16, 20]
    assert not found.mask[0, 8, 10], "the corner of the box is outside of the disc"


def test_parts_a_folder_and_its_manifest_are_taken_too(spotter, tmp_path):
    parts = gs.split(gs.load(spotter), outputs="heat", shapes=False)
    folder = gs.save(parts, tmp_path / "out")
    for model in (parts, folder, folder / "split.json"):
        with Detector(model, devices=CPU) as detector:
            assert boxes(detector.detect(IMAGE)) == [[10, 8, 30, 24]]
            assert detector.cut == "as it was split"
        with Detector(model, devices=MAIN, split=False) as detector:
            assert list(detector.devices) == ["main"]
            assert boxes(detector.detect(IMAGE)) == [[10, 8, 30, 24]]


def test_the_whole_of_a_split_must_be_the_file_that_was_split(spotter, tmp_path):
    moved = tmp_path / "m.pb"
    moved.write_bytes(spotter.read_bytes())
    folder = gs.save(gs.split(gs.load(moved), outputs="heat", shapes=False), tmp_path / "out")
    moved.write_bytes(spotter.read_bytes() + b"\x22\x02\x08\x01")
    with pytest.raises(FormatError, match="not the file that was split"):
        Detector(folder, split=False)
    moved.unlink()
    with pytest.raises(FormatError, match=r"the whole model is not there .*pass the model instead of its split"):
        Detector(folder, split=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"outputs": "heat", "split": False}, CutError, "outputs says where to cut, but the model is to run whole"),
        ({"outputs": "haet"}, gs.TensorNotFoundError, "no tensor named 'haet'; did you mean 'heat'"),
        ({"preset": "ssd_2018"}, CutError, "does not match this graph"),
        ({"model_outputs": "heat"}, FormatError, "none of its outputs is known .*there are heat:0"),
        ({"labels": "nowhere.txt"}, FormatError, r"nowhere\.txt: cannot be read"),
        ({"devices": {"mian": "/cpu:0"}}, PlacementError, "no section 'mian'; there are main"),
        ({"threshold": 1.5}, ValueError, r"threshold must be a number from 0 to 1, not 1\.5"),
    ],
)
def test_what_cannot_be_is_told_with_its_reason(spotter, options, error, message):
    with pytest.raises(error, match=message):
        Detector(spotter, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"otuputs": "heat"}, r"^Detector\(\) got an unexpected keyword argument 'otuputs'; did you mean 'outputs'\?$"),
        ({"treshold": 0.1}, r"'treshold'; did you mean 'threshold'\?"),
        ({"thread": 1}, r"'thread'; did you mean 'threads'\?"),
        ({"xyz": 1}, r"'xyz'; there are affinity, autocrop, cluster, config, crop_file, delegates, devices"),
    ],
)
def test_a_misspelt_option_is_an_error_that_names_the_nearest(options, message):
    with pytest.raises(OptionError, match=message):
        Detector("nowhere.pb", **options)


def test_every_option_reaches_the_cut_or_the_pipeline(spotter):
    with Detector(spotter, devices=CPU, outputs="heat", repair="border", threads=1, strict=True) as detector:
        assert boxes_of(detector) == [[10, 8, 30, 24]]
    with pytest.raises(PlacementError, match="/gpu:7"):
        Detector(spotter, devices={"main": "/gpu:7"}, strict=True)
    with pytest.raises(PlacementError, match="delegate"):
        Detector(spotter, devices=MAIN, delegates={"main": "libx.so"})


def test_a_policy_that_does_not_exist_fails_at_the_call(split):
    with pytest.raises(OptionError, match="policy is one of block, latest, not 'lates'"):
        split.stream([IMAGE], policy="lates")


def test_its_repr_is_short_and_never_raises(spotter):
    assert repr(Detector.__new__(Detector)) == "Detector(not open)"
    detector = Detector(spotter, ["white", "grey"], devices=CPU, outputs="heat")
    assert repr(detector) == "Detector(main on /cpu:0 → post on /cpu:0; cut: named; 2 classes)"
    detector.close()
    assert repr(detector) == "Detector(main on /cpu:0 → post on /cpu:0; cut: named; 2 classes; closed)"
    with Detector(spotter, devices=MAIN) as detector:
        assert repr(detector).startswith("Detector(main on /cpu:0; cut: nothing to crop")
        assert repr(detector).endswith("unnamed classes)")
        assert len(repr(detector)) < 200


def test_a_frame_names_its_source_and_what_cannot_be_read_is_reported_if_asked(split, tmp_path):
    for name in ("a.png", "c.png"):
        Image.fromarray(IMAGE).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"damaged")
    notices = []
    frames = list(split.stream(tmp_path, report=notices.append))
    assert [(f.source, f.number) for f in frames] == [(f"{tmp_path}/a.png", 0), (f"{tmp_path}/c.png", 2)]
    assert [n.source for n in notices] == [f"{tmp_path}/b.png"]
    with pytest.raises(FormatError, match=r"b\.png: not an image"):
        list(split.stream(tmp_path))
    (frame,) = split.stream([tmp_path / "c.png"])
    assert frame.source == f"{tmp_path}/c.png"
    (frame,) = split.stream([IMAGE])
    assert frame.source == ""


def test_a_split_and_a_cut_contradict_each_other(spotter):
    parts = gs.split(gs.load(spotter), outputs="heat", shapes=False)
    with pytest.raises(CutError, match="a split and outputs both say where to cut"):
        Detector(parts, outputs="heat")


def test_a_model_that_is_no_detector_is_refused_with_its_outputs(tmp_path):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.identity(tf.compat.v1.placeholder(tf.uint8, [None, 8, 8, 3], name="image"), name="logits")
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(FormatError, match="none of its outputs is known to be boxes, scores and classes; there are logits:0"):
        Detector(tmp_path / "m.pb")


def test_a_map_of_labels_is_segmented_and_large_pictures_are_made_smaller(tmp_path):
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.uint8, [1, None, None, 3], name="ImageTensor")
        tf.cast(image[..., 0] > 200, tf.int64, name="labels")
        tf.identity(15 * graph.get_tensor_by_name("labels:0"), name="SemanticPredictions")
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with Detector(tmp_path / "m.pb", {15: "person"}, devices=MAIN) as detector:
        (frame,) = detector.stream([white_box(600, 1026, (200, 100, 400, 300))])
    assert frame.regions
    assert frame.detections.data["class_name"].tolist() == ["person"]
    assert frame.detections.mask.shape == (1, 600, 1026)
    assert np.abs(frame.detections.xyxy - [200, 100, 400, 300]).max() <= 4
    assert frame.annotated.shape == (600, 1026, 3)


def test_a_video_gives_every_frame_in_order_with_times_and_latency(split, moving):
    frames = list(split.stream(moving))
    assert [f.number for f in frames] == list(range(24))
    assert frames[6].time_s == pytest.approx(0.5)
    assert all(f.latency_ms > 0 for f in frames)
    for i, frame in enumerate(frames[4:20], 4):
        assert np.abs(frame.detections.xyxy - [2 * i, 8, 2 * i + 16, 24]).max() <= 2, "MJPG is lossy"
        assert frame.image.shape == (48, 64, 3)
    statistics = split.pipeline.statistics.summary()
    assert (statistics.frames, statistics.dropped) == (24, 0), "the warm-up does not count"


def test_any_iterable_of_pictures_is_a_stream_of_any_sizes(split):
    images = (white_box(20 + i, 40, (i, 3, i + 5, 10)) for i in range(6))
    frames = list(split.stream(images))
    assert [boxes(f.detections)[0] for f in frames] == [[i, 3, i + 5, 10] for i in range(6)]


@pytest.mark.parametrize("policy", ["block", "latest"])
def test_a_buffer_that_is_reused_for_every_picture_changes_no_frame(split, policy):
    def camera():
        buffer = np.empty_like(IMAGE)
        for i in range(6):
            buffer[:] = white_box(48, 64, (i, 8, i + 20, 24))
            yield buffer

    frames = list(split.stream(camera(), policy=policy))
    assert frames[-1].number == 5
    for frame in frames:
        where = [frame.number, 8, frame.number + 20, 24]
        assert boxes(frame.detections) == [where]
        np.testing.assert_array_equal(frame.image, white_box(48, 64, tuple(where)))


def test_one_picture_is_a_stream_of_one_and_a_batch_one_of_many(split):
    for picture in (IMAGE, IMAGE[..., 0], Image.fromarray(IMAGE)):
        (frame,) = split.stream(picture)
        assert frame.image.shape == (48, 64, 3)
    assert [boxes(f.detections)[0] for f in split.stream(np.stack([IMAGE, IMAGE]))] == [[10, 8, 30, 24]] * 2


def test_no_more_pictures_are_asked_for_than_wanted(split):
    asked = []

    def images():
        for i in range(100):
            asked.append(i)
            yield IMAGE

    assert len(list(split.stream(images(), max_frames=5))) == 5
    assert asked == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="max_frames must be at least 1, not 0"):
        split.stream(images(), max_frames=0)


def test_the_newest_wins_for_what_is_live_and_each_answer_knows_its_picture(split, moving):
    source = replace(open_source(moving), live=True)
    frames = list(split.stream(source))
    numbers = [f.number for f in frames]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 23
    assert split.pipeline.statistics.dropped == 24 - len(frames)
    for frame in frames:
        if 4 <= frame.number < 20:
            assert abs(frame.detections.xyxy[0, 0] - 2 * frame.number) <= 2, "drops do not shift pictures against answers"


def test_a_source_that_is_not_there_is_told_before_anything_runs(split):
    with pytest.raises(FormatError, match=r"nowhere\.mp4: no such file"):
        split.stream("nowhere.mp4")


def test_an_error_of_the_source_reaches_the_caller_and_the_detector_goes_on(split):
    def images():
        yield IMAGE
        yield "nowhere.png"

    with pytest.raises(FormatError, match=r"nowhere\.png: no such file"):
        list(split.stream(images()))
    assert len(split.detect(IMAGE)) == 1


def test_a_consumer_that_stops_early_leaves_nothing_behind(split, moving):
    stream = split.stream(moving)
    next(stream)
    stream.close()
    assert len(split.detect(IMAGE)) == 1


def section_threads():
    """Without the threads that read sources: one of an earlier stream may be about to end."""
    return {
        t
        for t in threading.enumerate()
        if t.name.startswith("graphsplit-") and t.name not in ("graphsplit-source", "graphsplit-child")
    }


def test_a_closed_detector_says_so_and_no_thread_is_left(spotter):
    before = section_threads()
    detector = Detector(spotter, devices=MAIN)
    detector.close()
    detector.close()
    with pytest.raises(GraphSplitError, match="the pipeline is closed"):
        detector.detect(IMAGE)
    forgotten = Detector(spotter, devices=MAIN)
    assert section_threads() > before
    del forgotten
    gc.collect()
    assert section_threads() == before


def test_a_device_that_is_not_there_is_told_and_with_strict_refused(spotter):
    with pytest.warns(UserWarning, match=r"/gpu:7 is not available: section 'main' runs on /cpu:0"):
        detector = Detector(spotter, devices={"main": "/gpu:7"})
    assert detector.devices == {"main": "/cpu:0"}
    detector.close()
    with pytest.raises(PlacementError, match="device /gpu:7 of section 'main' is not available"):
        Detector(spotter, devices={"main": "/gpu:7"}, strict=True)


def test_ninety_classes_seen_at_the_border_are_coco(tmp_path):
    """image ─▶ scores [?, 5, 90] ─▶ post: class 17 of the first box"""
    import tensorflow as tf

    def write(classes):
        with tf.Graph().as_default() as graph:
            image = tf.compat.v1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")
            some = tf.reduce_sum(tf.cast(image, tf.float32)) * 0
            scores = tf.identity(tf.one_hot([[16, 0, 0, 0, 0]], classes) + some, name="Postprocessor/convert_scores")
            tf.reduce_max(scores, 2, name="detection_scores")
            tf.cast(1 + tf.argmax(scores, 2), tf.float32, name="detection_classes")
            tf.identity(tf.constant([[[0.0, 0, 1, 1]] * 5]) + some, name="detection_boxes")
        (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
        return tmp_path / "m.pb"

    for options in ({"outputs": "Postprocessor/convert_scores", "devices": CPU}, {"split": False, "devices": MAIN}):
        for classes, name in ((90, "cat"), (91, "cat"), (20, "17")):
            with Detector(write(classes), **options) as detector:
                assert detector.detect(IMAGE).data["class_name"][0] == name
                assert detector.names.get(17, "17") == name


def test_without_supervision_or_opencv_the_extra_is_named(spotter, monkeypatch):
    import sys

    for module, name in (("supervision", "supervision"), ("cv2", "OpenCV")):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module, None)
            with pytest.raises(gs.MissingExtraError, match=rf"{name}.* is not installed: pip install 'graphsplit\[detect\]'"):
                Detector(spotter)
