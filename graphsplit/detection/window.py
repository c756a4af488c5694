"""A window that shows frames as they come, if there is a display and OpenCV was built with windows."""

from __future__ import annotations

import os
import sys

from graphsplit.detection.extras import opencv
from graphsplit.detection.frame import Frame
from graphsplit.errors import GraphSplitError

__all__ = ["Window"]

_KEYS = {ord("q"), ord("Q"), 27}  # Escape


class Window:
    """A window of OpenCV, closed by q, Escape or its button.

    Args:
        title: Its title.

    Raises:
        GraphSplitError: without a display, or with an OpenCV that was built without windows; says what to do.
    """

    def __init__(self, title: str) -> None:
        cv2 = opencv()
        self._title = title
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise GraphSplitError("a window needs a display, and DISPLAY is not set; save the annotated frames to a file instead")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise GraphSplitError(
                "a window needs an OpenCV with windows, and this one has none (opencv-python-headless): pip uninstall "
                "opencv-python-headless, then pip install opencv-python; or save the annotated frames to a file"
            ) from error
        self._sized = False

    def show(self, frame: Frame) -> bool:
        """Show a frame. Returns False once the user has closed the window."""
        cv2 = opencv()
        if not self._sized:
            height, width = frame.image.shape[:2]
            scale = max(1, 480 // max(height, 1))
            cv2.resizeWindow(self._title, width * scale, height * scale)
            self._sized = True
        cv2.imshow(self._title, frame.drawn)
        return self._open(1)

    def wait(self) -> None:
        """Wait until the user closes the window; for a single image."""
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
