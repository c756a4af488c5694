"""Tensors of frames as columns of a batch: every bit comes back."""

from __future__ import annotations

import numpy as np
import pytest

from graphsplit.batching.packing import PackedPart, pack, unpack
from graphsplit.batching.work import Failed
from graphsplit.formats import load
from graphsplit.splitting.surgery import split
from tests.batching.conftest import spotter  # noqa: F401

VALUES = [
    np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3),
    np.asarray([np.nan, -0.0, 1e-45], np.float32),
    np.zeros((0, 4), np.float32),
    np.int64(7),
    np.asarray([[True, False]]),
    np.asarray(["ä".encode(), b"", b"\x00x"], dtype=object).reshape(3, 1),
    np.arange(6, dtype=np.int16).reshape(2, 3).T,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{np.asarray(v).dtype}{list(np.shape(v))}")
def test_a_tensor_comes_back_bit_by_bit(value):
    ((info, values),) = unpack(pack([({"frame": 3}, {"a:0": value, "unread": 1})], ["a:0"]))
    assert info == {"frame": 3}
    assert list(values) == ["a:0"]
    assert values["a:0"].dtype == np.asarray(value).dtype
    assert values["a:0"].shape == np.shape(value)
    assert values["a:0"].tolist() == np.asarray(value).tolist() or values["a:0"].tobytes() == np.asarray(value).tobytes()


def test_bfloat16_comes_back():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = np.asarray([1.5, -2], ml_dtypes.bfloat16)
    ((_, values),) = unpack(pack([({}, {"a": value})], ["a"]))
    assert values["a"].dtype == value.dtype
    assert values["a"].tobytes() == value.tobytes()


def test_frames_of_one_batch_have_sizes_of_their_own_and_may_have_failed():
    frames = [
        ({"frame": 0}, {"a": np.ones((2, 3))}),
        ({"frame": 1}, {"a": Failed("no")}),
        ({"end": 1}, {}),
        ({}, {"a": np.ones(5)}),
    ]
    found = unpack(pack(frames, ["a"]))
    assert [info for info, _ in found] == [info for info, _ in frames]
    assert found[0][1]["a"].shape == (2, 3)
    assert found[1][1] == {"a": Failed("no")}
    assert found[2][1] == {}
    assert found[3][1]["a"].shape == (5,)


def test_a_section_comes_back_as_it_was(spotter):  # noqa: F811
    part = split(load(spotter), outputs=["heat"])["main"]
    again = PackedPart.of(part, "/cpu:0").part()
    assert again.model.serialized() == part.model.serialized()
    assert (again.inputs, again.outputs, again.device) == (part.inputs, part.outputs, "/cpu:0")
