"""Images, folders, videos, cameras: one iterator."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from graphsplit.detection import sources
from graphsplit.detection.sources import open_source
from graphsplit.errors import FormatError
from tests.detection.spotter import white_box


@pytest.fixture
def folder(tmp_path):
    """b.png, a/2.jpg, a/10.PNG, and things that are no pictures"""
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
        ((number, time, found),) = list(source)
        assert (number, time) == (0, 0.0)
        assert found.tolist() == image.tolist()


def test_a_picture_is_known_by_its_content_too(tmp_path):
    Image.fromarray(white_box(10, 20, (2, 3, 5, 6))).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "download")
    assert open_source(tmp_path / "download").kind == "image"


def test_a_folder_gives_its_pictures_sorted_with_all_folders_in_it(folder):
    source = open_source(folder)
    assert (source.kind, source.count) == ("folder", 3)
    assert source.files == ("a/10.PNG", "a/2.jpg", "b.png")
    assert [(p.number, p.image.shape[0]) for p in source] == [(0, 6), (1, 5), (2, 4)]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"no images in this folder \(it is empty\); images are png, jpg"):
        open_source(tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"there is film\.mp4"):
        open_source(tmp_path)


def test_a_damaged_picture_in_a_folder_is_named(folder):
    (folder / "a" / "5.png").write_bytes(b"\x89PNG")
    with pytest.raises(FormatError, match=r"5\.png: not a picture"):
        list(open_source(folder))


def test_a_video_gives_rgb_frames_with_their_times(moving):
    source = open_source(moving)
    assert (source.kind, source.size, source.fps, source.count, source.live) == ("video", (64, 48), 12.0, 24, False)
    for _ in range(2):  # it can be read again
        frames = list(source)
        assert [f.number for f in frames] == list(range(24))
        assert [f.time_s for f in frames] == pytest.approx([i / 12 for i in range(24)])
    red, _, blue = frames[0].image[40, 60]
    assert blue > red + 30, "BGR became RGB, once"
    assert source.note == ""


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
    """Stands for ``cv2.VideoCapture``: a number of frames, then nothing."""

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
    made = type("Made", (Camera,), {})
    monkeypatch.setattr(cv2, "VideoCapture", made)
    return made


def test_a_camera_is_live_and_read_once(camera):
    source = open_source("camera:1")
    assert (source.kind, source.live, source.count, source.fps, source.size) == ("camera", True, None, None, (8, 8))
    frames = list(source)
    assert [f.number for f in frames] == [0, 1, 2]
    assert frames[0].time_s <= frames[1].time_s <= frames[2].time_s
    assert source.note == "camera:1 gave no more pictures after 3"
    with pytest.raises(FormatError, match="camera:1: was read already; open it again"):
        list(source)


def test_a_camera_that_is_not_there_says_how_to_find_those_that_are(camera, monkeypatch):
    camera.opened = False
    for platform, how in (
        ("linux", "ls /dev/video"),
        ("darwin", "system_profiler"),
        ("win32", "device manager"),
        ("x", "settings"),
    ):
        monkeypatch.setattr(sources.sys, "platform", platform)
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
    with pytest.raises(FormatError, match="rtsp://host/s: this stream cannot be opened") as caught:
        open_source("rtsp://admin:secret@host/s")
    assert "secret" not in str(caught.value)


def test_a_video_that_ends_early_is_no_error_but_told(camera, moving):
    camera.stated, camera.fps = 5, 10
    source = open_source(moving)
    assert [f.time_s for f in source] == pytest.approx([8.0 / 1000] * 3), "as the video states it"
    assert source.note == "moving.avi ended early: 3 of 5 pictures could be read"


def test_a_source_without_a_single_picture_is_an_error(camera, moving):
    camera.frames = 0
    for name in (str(moving), "camera:0"):
        with pytest.raises(FormatError, match="not one picture could be read"):
            list(open_source(name))


def test_files_that_are_no_sources_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"nowhere\.mp4: no such file or folder"):
        open_source(tmp_path / "nowhere.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(FormatError, match="the file is empty"):
        open_source(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(FormatError, match=r"text\.mp4: neither a picture nor a video that OpenCV reads"):
        open_source(tmp_path / "text.mp4")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(FormatError, match=r"broken\.jpg: not a picture"):
        open_source(tmp_path / "broken.jpg")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="a pipe or a device is never opened"):
            open_source(tmp_path / "pipe")
