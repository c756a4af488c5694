"""An archive with good and bad files in it, and its rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.cli import conftest as cli
from tests.detection import conftest as detection
from tests.detection.spotter import white_box

call, spotter, moving = cli.call, detection.spotter, detection.moving


def rows(folder):
    """All rows of a folder, in the order of its parts."""
    parts = sorted(p for p in folder.glob("*.jsonl") if p.name != "rejects.jsonl")
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def rejects(folder):
    return {r["source"]: r["reason"] for r in map(json.loads, (folder / "rejects.jsonl").read_text().splitlines())}


def frames(found):
    return [(row["source"].rpartition("/")[2], row["frame"]) for row in found]


@pytest.fixture(scope="session")
def short(moving, tmp_path_factory):
    """The first half of the bytes of a video whose header states 24 frames."""
    path = tmp_path_factory.mktemp("short") / "short.avi"
    content = moving.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.fixture
def archive(tmp_path, moving, short):
    """a.png  b.png (not an image)  deep/c.png  empty.jpg  moving.avi (24 frames)  short.avi (ends early)  .hidden.png"""
    folder = tmp_path / "archive"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(white_box(48, 64, (16, 12, 32, 24))).save(folder / "a.png")
    (folder / "b.png").write_text("no picture")
    Image.fromarray(white_box(30, 40, (10, 6, 20, 24))).save(folder / "deep" / "c.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / ".hidden.png").write_text("not looked at")
    (folder / "moving.avi").write_bytes(moving.read_bytes())
    (folder / "short.avi").write_bytes(short.read_bytes())
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Twelve pictures of different sizes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(white_box(40 + i, 60 + 2 * i, (i, 4, 20 + i, 24))).save(folder / f"{i:02}.png")
    assert len({np.asarray(Image.open(p)).shape for p in folder.iterdir()}) == 12
    return folder
