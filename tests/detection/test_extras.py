"""Libraries that are missing, and libraries that are broken, are not the same."""

from __future__ import annotations

import pytest

from graphsplit.detection import extras
from graphsplit.errors import GraphSplitError, MissingExtraError


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            ModuleNotFoundError("no", name="cv2"),
            MissingExtraError,
            r"OpenCV \(cv2\) is not installed: pip install 'graphsplit\[detect\]'",
        ),
        (ModuleNotFoundError("no", name="numpy.x"), GraphSplitError, r"OpenCV \(cv2\) needs numpy\.x, which is not installed"),
        (ImportError("libGL.so.1: no such file"), GraphSplitError, r"is installed but cannot be loaded: libGL\.so\.1"),
    ],
)
def test_what_is_wrong_is_told(monkeypatch, error, kind, message):
    def fail(name):
        raise error

    monkeypatch.setattr(extras, "import_module", fail)
    with pytest.raises(kind, match=message):
        extras.opencv()
