"""The commands on .tflite files, built ones and real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.shared import shared_model

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import Built, chain, everything


@pytest.fixture
def built(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(everything().bytes())
    return path


def test_show_lists_what_is_in_the_file(call, built):
    found = call("show", built, "--json").json
    assert found["format"] == "tflite"
    assert found["inputs"] == [{"tensor": "x", "dtype": "float32", "shape": [1, 4]}]
    assert found["outputs"] == [{"tensor": "y", "dtype": "float32", "shape": [1, 4]}]
    assert found["ops"]["FULLY_CONNECTED"] == 2
    assert found["reaches_outside"] == []
    answer = call("show", built, "--node", "fc_1")
    assert answer.status == 0, answer.err
    assert "FULLY_CONNECTED" in answer.out


def test_plan_split_and_verify_agree(call, built, tmp_path):
    planned = call("plan", built, "--at", "tensor_9", "--json")
    assert planned.status == 0, planned.err
    answer = call("split", built, "--at", "tensor_9", "-o", tmp_path / "out", "--json")
    assert answer.status == 0, answer.err
    assert answer.json["verified"] is True
    manifest = json.loads((tmp_path / "out" / "split.json").read_text())
    assert [s["file"] for s in manifest["sections"]] == ["m_main.tflite", "m_post.tflite"]
    assert {s["format"] for s in manifest["sections"]} == {manifest["source"]["format"]} == {"tflite"}
    assert manifest["sections"][0]["outputs"] == planned.json["sections"][0]["outputs"]
    assert manifest["sections"][0]["outputs"] == [{"tensor": "tensor_9", "name": "tensor_9", "dtype": "float32", "shape": [1, 4]}]
    verified = call("verify", tmp_path / "out", "--json", "--runs", 3)
    assert verified.json["equal"] is True
    assert verified.json["max_abs_error"] == 0
    assert verified.json["runs"] == 3


def test_many_parts_and_a_start_behind_the_input(call, built, tmp_path):
    many = call("split", built, "--at", "fc", "--at", "tensor_7", "--at", "i", "-o", tmp_path / "many", "--json")
    assert [s["name"] for s in many.json["sections"]] == ["part_0", "part_1", "part_2", "part_3"]
    three = call("split", built, "--inputs", "fc", "--at", "i", "-o", tmp_path / "three", "--json")
    assert [s["name"] for s in three.json["sections"]] == ["pre", "main", "post"]
    assert three.json["verified"] is True


def test_a_section_that_computes_something_else_is_seen(call, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(chain().bytes())
    assert call("split", path, "--at", "t0", "-o", tmp_path / "out").status == 0
    other = chain()
    other.model.buffers[1].data = other.model.buffers[2].data
    path.write_bytes(other.bytes())
    manifest = tmp_path / "out" / "split.json"
    content = json.loads(manifest.read_text())
    import hashlib

    content["source"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))
    answer = call("verify", tmp_path / "out")
    assert answer.status == 3, answer.out + answer.err


def test_bench_measures_sections_of_tflite(call, built):
    answer = call("bench", built, "--at", "tensor_9", "--frames", 20, "--json")
    assert answer.status == 0, answer.err
    assert list(answer.json["sections"]) == ["main", "post"]
    assert answer.json["whole"]["fps"] > 0


def test_what_cannot_be_cut_says_why_and_writes_nothing(call, tmp_path):
    path, out = tmp_path / "m.tflite", tmp_path / "out"
    custom = Built()
    x, y = custom.main.tensor("x", [1]), custom.main.tensor("y", [1])
    a = custom.main.relu(x, "a")
    custom.main.op("Mine", [a], [y], custom=b"")
    custom.main.ends([x], [y])
    path.write_bytes(custom.bytes())
    answer = call("split", path, "--at", "a", "-o", out)
    assert answer.status == 1
    assert "runs custom ops (y (Mine)), code from outside of this file; split --no-verify runs nothing; --trust runs" in answer.err
    assert not out.exists()
    answer = call("split", path, "--at", "a", "-o", out, "--no-verify")
    assert answer.status == 0, answer.err
    assert call("show", path, "--json").json["reaches_outside"] == ["y"]


@pytest.mark.parametrize(
    "change", [lambda c: c[: len(c) // 2], lambda c: c[:12], lambda c: c[:-3] + b"", lambda c: c[:8] + b"\xff" * 64]
)
def test_damaged_files_are_one_line_and_status_one(call, built, tmp_path, change):
    built.write_bytes(change(built.read_bytes()))
    for command in (["show"], ["suggest"], ["plan", "--at", "i"], ["split", "--at", "i", "-o", tmp_path / "out"]):
        answer = call(command[0], built, *command[1:])
        assert answer.status == 1
        assert answer.out == ""
        assert len(answer.err.strip().splitlines()) == 1
        assert "a damaged TFLite file" in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["ssd_mobilenet_v1_face.tflite", "tiny_ssd_mobilenet_v1.tflite"])
def test_a_real_detector_is_suggested_split_and_verified(call, name, tmp_path):
    path = shared_model(name)
    found = call("suggest", path, "--json").json
    assert found["cuts"][0]["source"] == "preset"
    assert [o["tensor"] for o in found["cuts"][0]["outputs"]] == ["Squeeze1", "convert_scores"]
    assert all(o["bytes"] > 0 for o in found["cuts"][0]["outputs"])
    assert call("show", path, "--json").json["reaches_outside"] == []
    answer = call("split", path, "-o", tmp_path / "out", "--json")
    assert answer.status == 0, answer.err
    assert answer.json["verified"] is True
    assert call("verify", tmp_path / "out", "--json").json["equal"] is True


@pytest.mark.parametrize("name", ["face_detection_short_range.tflite", "face_detection_full_range_sparse.tflite"])
def test_where_nothing_is_worth_cutting_one_section_is_the_whole(call, name, tmp_path):
    path = shared_model(name)
    found = call("suggest", path, "--json").json
    assert found["cuts"] == []
    assert found["reason"]
    answer = call("split", path, "-o", tmp_path / "out", "--json")
    assert answer.status == 0, answer.err
    assert [s["name"] for s in answer.json["sections"]] == ["main"]
    assert answer.json["verified"] is True
