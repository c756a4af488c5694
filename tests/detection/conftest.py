"""The tiny detector, and a video for it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection.spotter import white_box, write_spotter

CPU = {"main": "/cpu:0", "post": "/cpu:0"}


@pytest.fixture(scope="session")
def spotter(tmp_path_factory):
    """The path of a model that finds what is white."""
    return write_spotter(tmp_path_factory.mktemp("spotter") / "spotter.pb")


@pytest.fixture(scope="session")
def moving(tmp_path_factory):
    """A video of 24 frames, 64×48 at 12 frames per second: a white box that moves 2 pixels per frame."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path_factory.mktemp("video") / "moving.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12, (64, 48))
    assert writer.isOpened()
    for i in range(24):
        writer.write(np.ascontiguousarray(white_box(48, 64, (2 * i, 8, 2 * i + 16, 24))[..., ::-1]))
    writer.release()
    return path
