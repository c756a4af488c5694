"""--feed and --shape, and what the manifest keeps of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.test_feeds import built, two_flags


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    return built(two_flags, v1=False).save(tmp_path / "flags.pb")


def test_what_was_fed_is_told_kept_and_repeated(call, flags, tmp_path):
    done = call("split", flags, "--outputs", "MatMul", "-o", tmp_path / "o", "--feed", "keep_prob=0.5", "--shape", "x=3,6")
    assert "fed: keep_prob:0 float32[] = 0.5, x:0 float32[3, 6], is_training:0 bool[] = False\n" in done.out
    kept = json.loads((tmp_path / "o" / "split.json").read_text())["feeds"]
    assert kept == {"x:0": {"shape": [3, 6]}, "is_training:0": False, "keep_prob:0": 0.5}
    again = call("verify", tmp_path / "o", "--json")
    assert json.loads(again.out)["feeds"] == ["is_training:0 bool[] = False, keep_prob:0 float32[] = 0.5, x:0 float32[3, 6]"]
    other = call("verify", tmp_path / "o", "--json", "--feed", "is_training=true")
    assert "is_training:0 bool[] = True" in other.json["feeds"][0]


def test_an_open_batch_stays_open(call, flags, tmp_path):
    call("split", flags, "--outputs", "MatMul", "-o", tmp_path / "o", "--shape", "x=?,6")
    assert json.loads((tmp_path / "o" / "split.json").read_text())["feeds"]["x:0"] == {"shape": [None, 6]}
    assert call("verify", tmp_path / "o", "--json").json["runs"] == 2


def test_files_are_fed(call, flags, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 6), np.float32))
    done = call("split", flags, "--outputs", "MatMul", "-o", tmp_path / "o", "--feed", f"x={tmp_path / 'x.npy'}")
    assert "x:0 float32[4, 6]" in done.out


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--feed", "keep_prb=1"], 1, "no input 'keep_prb'; did you mean keep_prob?"),
        (["--feed", "is_training=maybe"], 1, "'is_training:0' is bool, which 'maybe' is not"),
        (["--feed", "x=nosuch.npy"], 1, "nosuch.npy: cannot be read: No such file or directory"),
        (["--feed", "x"], 2, "'x' is not NAME=VALUE, as in keep_prob=1"),
        (["--shape", "x=3,a"], 2, "'a' in 'x=3,a' is not a size; a shape is NAME=1,3,224,224, ? where it is open"),
        (["--shape", "y=3"], 1, "no input 'y'; there are x:0, is_training:0, keep_prob:0"),
        (["--shape", "x=3,5"], 1, "with input shapes: [3,5], [6,6]"),
    ],
)
def test_wrong_values_are_one_line_and_nothing_is_written(call, flags, tmp_path, options, status, text):
    done = call("split", flags, "--outputs", "MatMul", "-o", tmp_path / "o", *options)
    assert (done.status, (tmp_path / "o").exists()) == (status, False)
    assert text in done.err
    assert "Traceback" not in done.err
