"""A window that shows frames as they come, where there is a display and OpenCV can draw windows."""

from __future__ import annotations

import os
import sys

from graphsplit.detection.extras import opencv
from graphsplit.detection.frame import Frame
from graphsplit.errors import GraphSplitError

__all__ = ["Window"]

_KEYS = {ord("q"), ord("Q"), 27}  # Escape


class Window:
    """A window of OpenCV's. It is closed by q, Escape, or its own button.

    Raises GraphSplitError that says what to do where there is no display, or where OpenCV was built without windows.
    """

    def __init__(self, title: str) -> None:
        cv2 = opencv()
        self._title = title
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise GraphSplitError(
                "--show needs a display, and there is none (DISPLAY is not set); --save writes what it would show"
            )
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise GraphSplitError(
                "--show needs an OpenCV that draws windows, and this one was built without (opencv-python-headless): pip uninstall "
                "opencv-python-headless, then pip install opencv-python; or --save what would be shown"
            ) from error
        self._sized = False

    def show(self, frame: Frame) -> bool:
        """Show a frame. False when the user closed the window."""
        cv2 = opencv()
        if not self._sized:
            height, width = frame.image.shape[:2]
            scale = max(1, 480 // max(height, 1))
            cv2.resizeWindow(self._title, width * scale, height * scale)
            self._sized = True
        cv2.imshow(self._title, frame.drawn)
        return self._open(1)

    def wait(self) -> None:
        """Stay until the user closes the window; for a single picture."""
        while self._open(50):
            pass

    def close(self) -> None:
        """Close the window."""
        opencv().destroyAllWindows()

    def _open(self, milliseconds: int) -> bool:
        cv2 = opencv()
        if cv2.waitKey(milliseconds) & 0xFF in _KEYS:
            return False
        return bool(cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1)
