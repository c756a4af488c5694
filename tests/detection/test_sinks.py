"""What is written where: whole or not at all, and never over existing files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from graphsplit.detection.frame import Frame
from graphsplit.detection.saving import check_place, saver
from graphsplit.detection.sinks import JsonLines, VideoFile, record
from graphsplit.detection.sources import open_source, open_sources
from graphsplit.errors import FormatError, OverwriteError
from tests.detection.spotter import white_box

cv2 = pytest.importorskip("cv2")
sv = pytest.importorskip("supervision")


def frame(number=0, height=48, width=64, boxes=((16, 12, 48, 36),), scores=(0.7,), **options):
    detections = sv.Detections(
        xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
        confidence=np.asarray(scores, np.float32),
        class_id=np.ones(len(boxes), int),
        data={"class_name": np.asarray(["cat"] * len(boxes))},
    )
    return Frame(number, number / 10, np.full((height, width, 3), 90, np.uint8), detections, 12.34567, **options)


@pytest.fixture
def image(tmp_path):
    Image.fromarray(white_box(48, 64, (10, 8, 30, 24))).save(tmp_path / "x.png")
    return open_source(tmp_path / "x.png")


def test_a_record_has_these_keys_and_boxes_are_normalised_with_y_first():
    assert record(frame(3)) == {
        "source": "",
        "frame": 3,
        "time_s": 0.3,
        "boxes": [[0.25, 0.25, 0.75, 0.75]],
        "scores": [0.7],
        "classes": [1],
        "labels": ["cat"],
        "latency_ms": 12.346,
    }
    assert record(frame(boxes=(), scores=()))["boxes"] == []
    json.dumps(record(frame()))


def test_a_score_at_the_threshold_is_not_written_as_one_below():
    for score in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert record(frame(scores=[np.float32(score)]))["scores"] == [score]


def test_json_lines_take_their_name_when_they_are_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = JsonLines(path)
    lines.write(frame(0))
    lines.write(frame(1))
    assert not path.exists()
    lines.keep()
    lines.drop()  # what is kept is not dropped any more
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 1]
    assert list(tmp_path.iterdir()) == [path]
    lines = JsonLines(tmp_path / "b.jsonl")
    lines.write(frame(0))
    lines.drop()
    assert list(tmp_path.iterdir()) == [path]


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    fps = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, fps


@pytest.mark.parametrize("ending", ["mp4", "avi", "mov", "mkv"])
def test_a_video_has_the_size_rate_and_length_of_its_source(tmp_path, ending):
    video = VideoFile(tmp_path / f"a.{ending}", fps=30000 / 1001)
    for i in range(12):
        video.write(frame(i))
    assert not video.path.exists()
    video.keep()
    frames, fps = read_video(video.path)
    assert (len(frames), frames[0].shape) == (12, (48, 64, 3))
    assert fps == pytest.approx(29.97, abs=0.01)
    assert list(tmp_path.iterdir()) == [video.path]


def test_what_was_dropped_is_filled_in_so_that_time_goes_by_as_it_did(tmp_path):
    video = VideoFile(tmp_path / "a.avi", fps=None)
    for number in (2, 3, 7):
        video.write(frame(number))
    video.write(frame(8, height=96, width=128))  # a stream that changes its size
    video.keep()
    frames, fps = read_video(video.path)
    assert (len(frames), fps, frames[-1].shape) == (9, 30, (48, 64, 3))


def test_a_video_without_a_picture_is_refused_and_one_that_is_not_kept_leaves_nothing(tmp_path):
    video = VideoFile(tmp_path / "a.mp4", fps=10)
    with pytest.raises(FormatError, match="there was no frame to write"):
        video.keep()
    video.write(frame(0))
    video.drop()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_opencv_cannot_write_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda self: False, raising=False)

    class Closed:
        def __init__(self, *args):
            pass

        def isOpened(self):
            return False

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoWriter", Closed)
    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *code: 0, raising=False)
    with pytest.raises(FormatError, match=r"OpenCV cannot write this video; try another file name extension, such as \.avi"):
        VideoFile(tmp_path / "a.mp4", fps=10).write(frame(0))


def test_a_picture_is_saved_annotated_with_its_own_colours(image, tmp_path):
    sink = saver(image, tmp_path / "out.png", overwrite=False)
    sink.write(frame())
    sink.keep()
    saved = np.asarray(Image.open(tmp_path / "out.png"))
    assert saved.shape == (48, 64, 3)
    assert saved[40, 3].tolist() == [90, 90, 90]
    red, green, _ = map(int, saved[36, 30])  # on the line of the box: supervision's second colour is red
    assert red > green + 100


def test_in_a_folder_that_is_there_a_picture_keeps_its_name(image, tmp_path):
    (tmp_path / "out").mkdir()
    assert saver(image, tmp_path / "out", overwrite=False).path == tmp_path / "out" / "x.png"


def test_a_folder_of_pictures_is_saved_under_the_same_names(tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("b.png", "a/c.jpg"):
        Image.fromarray(white_box(48, 64, (10, 8, 30, 24))).save(tmp_path / "in" / name)
    source = open_source(tmp_path / "in")
    sink = saver(source, tmp_path / "out", overwrite=False)
    for i in range(2):
        sink.write(frame(i))
    assert not (tmp_path / "out").exists()
    sink.keep()
    sink.drop()
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == ["a/c.jpg", "b.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    with pytest.raises(OverwriteError, match=r"c\.jpg, .*b\.png exist already; overwrite=True replaces them"):
        saver(source, tmp_path / "out", overwrite=False)
    sink = saver(source, tmp_path / "out", overwrite=True)
    sink.write(frame(0))
    sink.drop()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    with pytest.raises(OverwriteError, match="is the source itself; name another place"):
        saver(source, tmp_path / "in", overwrite=True)


def test_several_sources_are_saved_under_their_names_in_a_folder(moving, tmp_path):
    """x.png and in/a/c.png and moving.avi and a text → out/x.png, out/in/a/c.png, out/moving.avi"""
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("x.png", "in/a/c.png"):
        Image.fromarray(white_box(48, 64, (10, 8, 30, 24))).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a video")
    source = open_sources([tmp_path / "x.png", tmp_path / "in", moving, tmp_path / "notes.txt"])
    sink = saver(source, tmp_path / "out", overwrite=False)
    for name in ("x.png", "in/a/c.png"):
        sink.write(frame(source=str(tmp_path / name)))
    sink.write(frame(0, source=str(moving)))
    sink.write(frame(1, source=str(moving)))
    assert not [p for p in (tmp_path / "out").rglob("*.*") if not p.name.startswith(".") and ".tmp" not in str(p)]
    sink.keep()
    sink.drop()
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert written == ["in/a/c.png", "moving.avi", "x.png"]
    assert len(read_video(tmp_path / "out" / "moving.avi")) == 2
    with pytest.raises(OverwriteError, match=r"x\.png exists already; overwrite=True"):
        saver(source, tmp_path / "out", overwrite=False)


def test_of_several_sources_that_were_not_kept_nothing_is_left(image, moving, tmp_path):
    source = open_sources([tmp_path / "x.png", moving])
    sink = saver(source, tmp_path / "out", overwrite=False)
    sink.write(frame(source=str(tmp_path / "x.png")))
    sink.write(frame(source=str(moving)))
    sink.drop()
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_two_sources_of_one_name_and_the_sources_themselves_are_not_overwritten(image, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.png").write_bytes((tmp_path / "x.png").read_bytes())
    with pytest.raises(OverwriteError, match=r"x\.png and .*b/x\.png would both be saved as .*out/x\.png"):
        saver(open_sources([tmp_path / "x.png", tmp_path / "b" / "x.png"]), tmp_path / "out", overwrite=True)
    (tmp_path / "y.png").write_bytes((tmp_path / "x.png").read_bytes())
    with pytest.raises(OverwriteError, match=r"x\.png is the source itself; name another place"):
        saver(open_sources([tmp_path / "b" / "x.png", tmp_path / "x.png"]), tmp_path, overwrite=True)
    with pytest.raises(OverwriteError, match=r"y\.png is the source"):
        check_place(open_sources([tmp_path / "x.png", tmp_path / "y.png"]), tmp_path / "y.png", overwrite=True)


def test_a_single_picture_in_a_folder_is_enough_for_a_new_folder(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(white_box(48, 64, (10, 8, 30, 24))).save(tmp_path / "in" / "x.png")
    sink = saver(open_source(tmp_path / "in"), tmp_path / "out", overwrite=False)
    sink.write(frame())
    sink.keep()
    assert (tmp_path / "out" / "x.png").is_file()


def test_places_that_cannot_be_are_refused(image, moving, tmp_path):
    (tmp_path / "there.png").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    video = open_source(moving)
    with pytest.raises(OverwriteError, match=r"there\.png exists already; overwrite=True replaces it"):
        saver(image, tmp_path / "there.png", overwrite=False)
    saver(image, tmp_path / "there.png", overwrite=True)
    with pytest.raises(OverwriteError, match=r"x\.png is the source"):
        saver(image, tmp_path / "x.png", overwrite=True)
    with pytest.raises(OverwriteError, match=r"x\.png is the source"):
        saver(image, tmp_path, overwrite=True)
    with pytest.raises(FormatError, match=r"an image is written as \.png, \.jpg or another format of OpenCV, not \.xyz"):
        saver(image, tmp_path / "a.xyz", overwrite=False)
    with pytest.raises(FormatError, match="not a name without extension"):
        saver(image, tmp_path / "a", overwrite=False)
    with pytest.raises(FormatError, match=r"a video is written as \.mp4, .*not \.png"):
        saver(video, tmp_path / "a.png", overwrite=False)
    with pytest.raises(FormatError, match=r"there is no folder .*nowhere; create it first"):
        saver(video, tmp_path / "nowhere" / "a.mp4", overwrite=False)
    with pytest.raises(OverwriteError, match="is a folder; name a file"):
        check_place(video, tmp_path, overwrite=True)
    folder = open_source(tmp_path)
    with pytest.raises(OverwriteError, match="is a file; name a folder"):
        saver(folder, tmp_path / "file", overwrite=True)


def test_pictures_that_opencv_does_not_write_are_named_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(white_box(48, 64, (10, 8, 30, 24))).save(tmp_path / "in" / "x.png")
    monkeypatch.setattr(cv2, "haveImageWriter", lambda path: False)
    with pytest.raises(FormatError, match=r"x\.png: OpenCV reads this image format but does not write it; move the file elsewhere"):
        saver(open_source(tmp_path / "in"), tmp_path / "out", overwrite=False)
