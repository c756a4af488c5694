"""graphsplit batch, as its users meet it: what it prints."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.detection import conftest
from tests.detection.spotter import white_box

pytest.importorskip("cv2")
pytest.importorskip("supervision")

spotter = conftest.spotter


def test_one_is_not_printed_as_several(call, spotter, tmp_path):
    Image.fromarray(white_box(48, 64, (16, 12, 32, 24))).save(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(b"not a picture")
    one, out = call("batch", spotter, tmp_path / "x.png", "-o", tmp_path / "one"), tmp_path / "two"
    assert one.status == 0, one.err
    assert f"\n1 source, 1 frame in 1 file of {tmp_path / 'one'}\n" in one.out
    assert "\nlocal: 1 frame in " in one.out
    two = call("batch", spotter, tmp_path / "x.png", tmp_path / "y.png", "-o", out)
    assert two.status == 4, two.err
    assert f"\n2 sources, 1 frame in 1 file of {out}\n" in two.out
    assert f"\n1 reject in {out / 'rejects.jsonl'}\n" in two.out
