"""The libraries of the extra `detect`, imported when they are first needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from graphsplit.errors import GraphSplitError, MissingExtraError

__all__ = ["opencv", "quiet_opencv", "supervision"]


_SILENT = 0  # OpenCV's LOG_LEVEL_SILENT


def opencv() -> ModuleType:
    """Import ``cv2``.

    Raises:
        MissingExtraError: if it is not installed.
        GraphSplitError: if it is installed but cannot be loaded.
    """
    return _import("cv2", "OpenCV (cv2)")


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's log on stderr, if OpenCV is installed.

    FFmpeg's log can only be silenced before its first use, by the environment variable OPENCV_FFMPEG_LOGLEVEL.
    """
    try:
        cv2 = opencv()
        logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved it
        before = cv2.getLogLevel() if logging is cv2 else logging.getLogLevel()
        logging.setLogLevel(_SILENT)
    except (GraphSplitError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        logging.setLogLevel(before)


def supervision() -> ModuleType:
    """Import ``supervision``.

    Raises:
        MissingExtraError: if it is not installed.
        GraphSplitError: if it is installed but cannot be loaded.
    """
    return _import("supervision", "supervision")


def _import(module: str, what: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise GraphSplitError(f"{what} needs {error.name}, which is not installed: pip install {error.name}") from error
        raise MissingExtraError(what, extra="detect") from error
    except ImportError as error:  # libGL.so.1 and the like
        raise GraphSplitError(f"{what} is installed but cannot be loaded: {error}") from error
