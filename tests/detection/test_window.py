"""The window, with a fake of OpenCV's windows."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from graphsplit.detection.window import Window
from graphsplit.errors import GraphSplitError
from tests.detection.test_sinks import frame

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def screen(monkeypatch):
    """Calls of OpenCV's windows; `keys` are what the user types, `visible` whether the window is still open."""

    class Screen:
        def __init__(self):
            self.calls, self.keys, self.visible = [], [], 1.0

    display = Screen()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *a: display.calls.append(("open", a[0])))
    monkeypatch.setattr(cv2, "resizeWindow", lambda *a: display.calls.append(("size", a[1:])))
    monkeypatch.setattr(cv2, "imshow", lambda title, image: display.calls.append(("show", image.shape)))
    monkeypatch.setattr(cv2, "waitKey", lambda ms: display.keys.pop(0) if display.keys else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *a: display.visible)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: display.calls.append(("close",)))
    return display


def test_frames_are_shown_and_small_ones_larger(screen):
    window = Window("x")
    assert window.show(frame(0))
    assert window.show(frame(1))
    window.close()
    assert screen.calls == [("open", "x"), ("size", (640, 480)), ("show", (48, 64, 3)), ("show", (48, 64, 3)), ("close",)]


@pytest.mark.parametrize("key", [ord("q"), ord("Q"), 27, 0x100000 + ord("q")])
def test_q_and_escape_end_it(screen, key):
    screen.keys = [key]
    assert not Window("x").show(frame())


def test_other_keys_do_not_and_its_button_does(screen):
    window = Window("x")
    screen.keys = [ord("x")]
    assert window.show(frame())
    screen.visible = 0.0
    assert not window.show(frame())
    window.wait()


def test_without_a_display_it_says_so(screen, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(GraphSplitError, match="a window needs a display, and DISPLAY is not set; save"):
        Window("x")


def test_an_opencv_without_windows_says_which_one_has_them(screen, monkeypatch):
    def fail(*args):
        raise cv2.error("The function is not implemented.")

    monkeypatch.setattr(cv2, "namedWindow", fail)
    with pytest.raises(GraphSplitError, match=r"opencv-python-headless\): pip uninstall .* then pip install opencv-python"):
        Window("x")


def test_a_frame_gives_its_drawing_as_rgb_too():
    shown = frame()
    assert np.array_equal(shown.annotated[..., ::-1], shown.drawn)
