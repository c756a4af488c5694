"""Images, folders, videos, cameras: one iterator."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from graphsplit.detection import captures
from graphsplit.detection.pictures import Notice, reason_of
from graphsplit.detection.sources import open_source, open_sources
from graphsplit.errors import FormatError
from tests.detection.spotter import white_box


@pytest.fixture
def folder(tmp_path):
    """b.png, a/2.jpg, a/10.PNG, and files that are not images"""
    (tmp_path / "a").mkdir()
    (tmp_path / ".hidden").mkdir()
    for i, name in enumerate(("b.png", "a/2.jpg", "a/10.PNG", ".hidden/c.png", "a/._2.png")):
        Image.fromarray(np.full((4 + i, 6, 3), 10 * i, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def test_an_image_is_one_rgb_picture(tmp_path):
    image = white_box(10, 20, (2, 3, 5, 6))
    Image.fromarray(image).save(tmp_path / "x.png")
    source = open_source(tmp_path / "x.png")
    assert (source.kind, source.count, source.size, source.live) == ("image", 1, (20, 10), False)
    for _ in range(2):
        ((number, time, found, name),) = list(source)
        assert (number, time, name) == (0, 0.0, str(tmp_path / "x.png"))
        assert found.tolist() == image.tolist()


def test_a_picture_is_known_by_its_content_too(tmp_path):
    Image.fromarray(white_box(10, 20, (2, 3, 5, 6))).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "download")
    assert open_source(tmp_path / "download").kind == "image"


def test_a_folder_gives_its_pictures_sorted_with_all_folders_in_it(folder):
    source = open_source(folder)
    assert (source.kind, source.count) == ("folder", 3)
    assert source.files == ("a/10.PNG", "a/2.jpg", "b.png")
    pictures = list(source)
    assert [(p.number, p.image.shape[0]) for p in pictures] == [(0, 6), (1, 5), (2, 4)]
    assert [p.source for p in pictures] == [f"{folder}/{name}" for name in source.files]


def test_names_of_sources_are_as_they_were_passed_but_normalised(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [p.source for p in open_source("./a/")] == ["a/10.PNG", "a/2.jpg"]
    assert [p.source for p in open_source(".")] == ["a/10.PNG", "a/2.jpg", "b.png"]
    assert next(iter(open_source("a/../b.png"))).source == "b.png"


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"no images in this folder \(it is empty\); images are png, jpg"):
        open_source(tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"it holds film\.mp4"):
        open_source(tmp_path)


def test_a_damaged_picture_in_a_folder_is_named(folder):
    (folder / "a" / "5.png").write_bytes(b"\x89PNG")
    with pytest.raises(FormatError, match=r"5\.png: not an image"):
        list(open_source(folder))
    notices = []
    assert [p.number for p in open_source(folder).read(notices.append)] == [0, 1, 3], "numbers are those of `files`"
    reason = "not an image that OpenCV can read, or a damaged one"
    assert notices == [Notice(f"{folder}/a/5.png", reason, True)]


def test_several_sources_are_read_in_order_and_each_counts_its_own(folder, moving):
    source = open_sources([moving, folder / "a", folder / "b.png", moving, folder / "a" / ".." / "b.png"])
    assert (source.kind, source.count, source.live, source.name) == ("several", 27, False, "3 sources")
    for _ in range(2):
        pictures = [(p.source, p.number) for p in source]
        assert pictures[:24] == [(str(moving), i) for i in range(24)]
        assert pictures[24:] == [(f"{folder}/a/10.PNG", 0), (f"{folder}/a/2.jpg", 1), (f"{folder}/b.png", 0)]
    assert open_sources([folder / "b.png"]).kind == "image"
    assert open_sources([folder / "b.png", folder / "b.png"]).kind == "image"


def test_of_several_sources_those_that_cannot_be_read_are_reported_in_their_turn(folder, tmp_path):
    (folder / "broken.png").write_bytes(b"\x89PNG")
    (folder / "empty.mp4").touch()
    source = open_sources([folder / name for name in ("broken.png", "notes.txt", "a", "empty.mp4")])
    notices = []
    assert len(list(source.read(notices.append))) == 2
    assert [(n.source.removeprefix(f"{folder}/"), n.reason.split(",")[0], n.rejected) for n in notices] == [
        ("broken.png", "not an image that OpenCV can read", True),
        ("notes.txt", "neither an image nor a video that OpenCV can read", True),
        ("empty.mp4", "the file is empty", True),
    ]
    with pytest.raises(FormatError, match=r"broken\.png: not an image"):
        list(source)


def test_several_sources_are_files_that_exist(folder):
    with pytest.raises(FormatError, match=r"nowhere\.png: no such file or folder"):
        open_sources([folder, "nowhere.png"])
    for live in ("camera:0", "rtsp://host/s"):
        with pytest.raises(FormatError, match=f"{live}: a camera or a stream must be the only source"):
            open_sources([folder, live])
    with pytest.raises(FormatError, match="must be the only source") as caught:
        open_sources([folder, "rtsp://admin:secret@host/s"])
    assert "secret" not in str(caught.value)


def test_of_several_videos_only_one_is_open(folder, moving, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    real, opened = cv2.VideoCapture, []

    class Capture:
        def __init__(self, what):
            self.real = real(what)
            opened.append(self)

        def __getattr__(self, name):
            return getattr(self.real, name)

        def release(self):
            opened.remove(self)
            self.real.release()

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    (folder / "other.avi").write_bytes(moving.read_bytes())
    source = open_sources([moving, folder / "other.avi"])
    assert opened == []
    assert {len(opened) for _ in source} == {1}
    assert opened == []


def test_an_empty_name_is_not_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for open_ in (open_source, lambda text: open_sources([text]), lambda text: open_sources([text, "b.png"])):
        with pytest.raises(FormatError, match=r"^'' is not a source; name an image"):
            open_("")


def test_a_reason_is_one_line_without_the_path():
    assert reason_of(FormatError("no\n frames", path="a: b.avi")) == "no frames"
    assert reason_of(OSError()) == "OSError"


def test_a_video_gives_rgb_frames_with_their_times(moving):
    source = open_source(moving)
    assert (source.kind, source.size, source.fps, source.count, source.live) == ("video", (64, 48), 12.0, 24, False)
    for _ in range(2):  # it can be read again
        notices = []
        frames = list(source.read(notices.append))
        assert notices == []
        assert [f.number for f in frames] == list(range(24))
        assert {f.source for f in frames} == {str(moving)}
        assert [f.time_s for f in frames] == pytest.approx([i / 12 for i in range(24)])
    red, _, blue = frames[0].image[40, 60]
    assert blue > red + 30, "BGR became RGB, once"


def test_a_reader_that_stops_early_releases_the_video(moving, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    released = []

    real = cv2.VideoCapture

    class Capture:
        def __init__(self, what):
            self.real = real(what)

        def __getattr__(self, name):
            return getattr(self.real, name)

        def release(self):
            released.append(1)
            self.real.release()

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    pictures = iter(open_source(moving))
    next(pictures)
    pictures.close()
    assert released == [1]
    with open_source(moving):
        pass
    assert released == [1, 1]


class Camera:
    """A fake ``cv2.VideoCapture``: a number of frames, then nothing."""

    opened, frames, stated, fps = True, 3, 0, 0

    def __init__(self, what):
        self.what, self.left, self.released = what, self.frames, False

    def isOpened(self):
        return self.opened

    def get(self, what):
        import cv2

        return {cv2.CAP_PROP_FRAME_COUNT: self.stated, cv2.CAP_PROP_FPS: self.fps}.get(what, 8.0)

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((8, 8, 3), 7, np.uint8)

    def release(self):
        self.released = True


@pytest.fixture
def camera(monkeypatch):
    cv2 = pytest.importorskip("cv2")
    fresh = type("Fresh", (Camera,), {})  # its attributes may be changed
    monkeypatch.setattr(cv2, "VideoCapture", fresh)
    return fresh


def test_a_camera_is_live_and_read_once(camera):
    source = open_source("camera:1")
    assert (source.kind, source.live, source.count, source.fps, source.size) == ("camera", True, None, None, (8, 8))
    notices = []
    frames = list(source.read(notices.append))
    assert [f.number for f in frames] == [0, 1, 2]
    assert frames[0].time_s <= frames[1].time_s <= frames[2].time_s
    assert notices == [Notice("camera:1", "ended after 3 frames", False)]
    with pytest.raises(FormatError, match="camera:1: already read; open it again"):
        list(source)


def test_a_camera_that_is_not_there_says_how_to_find_those_that_are(camera, monkeypatch):
    camera.opened = False
    for platform, how in (
        ("linux", "ls /dev/video"),
        ("darwin", "system_profiler"),
        ("win32", "device manager"),
        ("x", "settings"),
    ):
        monkeypatch.setattr(captures.sys, "platform", platform)
        with pytest.raises(FormatError, match=rf"camera:7: no such camera, or it is in use; .*{how}"):
            open_source("camera:7")
    with pytest.raises(FormatError, match=r"camera:x: a camera is camera:0, camera:1"):
        open_source("camera:x")


def test_a_stream_is_live_and_its_password_is_not_told(camera):
    source = open_source("rtsp://admin:secret@host/stream")
    assert (source.kind, source.live, source.name) == ("stream", True, "rtsp://host/stream")
    camera.stated = 100  # a film at an address waits for its reader
    assert not open_source("http://host/film.mp4").live
    camera.opened = False
    with pytest.raises(FormatError, match="rtsp://host/s: cannot open this stream") as caught:
        open_source("rtsp://admin:secret@host/s")
    assert "secret" not in str(caught.value)


def test_a_video_that_ends_early_is_not_an_error_but_reported(camera, moving):
    camera.stated, camera.fps = 5, 10
    source = open_source(moving)
    notices = []
    assert [f.time_s for f in source.read(notices.append)] == pytest.approx([8.0 / 1000] * 3), "as the video states it"
    assert notices == [Notice(str(moving), "ended early: 3 of 5 frames could be read", False)]


def test_a_source_without_a_single_picture_is_an_error(camera, moving):
    camera.frames = 0
    for name in (str(moving), "camera:0"):
        with pytest.raises(FormatError, match="no frame could be read"):
            list(open_source(name))


def test_files_that_are_no_sources_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"nowhere\.mp4: no such file or folder"):
        open_source(tmp_path / "nowhere.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(FormatError, match="the file is empty"):
        open_source(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(FormatError, match=r"text\.mp4: neither an image nor a video that OpenCV can read"):
        open_source(tmp_path / "text.mp4")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(FormatError, match=r"broken\.jpg: not an image"):
        open_source(tmp_path / "broken.jpg")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="pipes and devices are not opened"):
            open_source(tmp_path / "pipe")
