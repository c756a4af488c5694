"""graphsplit export, as its users meet it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.cli import export as command
from graphsplit.demo import data as demo_data
from graphsplit.exports import targets
from tests.test_exports import planted


def test_a_section_of_a_folder_becomes_a_saved_model_and_the_answer_has_its_keys(call, detector, tmp_path):
    assert call("split", detector, "--at", "scores", "-o", tmp_path / "split").status == 0
    answer = call("export", tmp_path / "split", "--section", "main", "--to", "saved_model", "-o", tmp_path / "main", "--json")
    assert answer.status == 0, answer.err
    found = answer.json
    assert [found[k] for k in ("file", "to", "section", "signature")] == [
        str(tmp_path / "main"), "saved_model", "main", "serving_default",
    ]  # fmt: skip
    assert (found["equal"], found["max_abs_error"], found["runs"]) == (True, 0.0, 2)
    assert found["inputs"] == [
        {"tensor": "image_tensor:0", "key": "image_tensor", "name": "image_tensor", "dtype": "uint8", "shape": [None, 8, 8, 3]}
    ]
    assert found["outputs"][0] == {
        "tensor": "scores:0", "key": "scores", "name": "scores", "dtype": "float32", "shape": [None, 64],
        "equal": True, "max_abs_error": 0.0, "max_rel_error": 0.0,
    }  # fmt: skip
    signature = tf.saved_model.load(str(tmp_path / "main")).signatures["serving_default"]
    assert set(signature.structured_outputs) == {o["key"] for o in found["outputs"]}


def test_without_a_section_everything_is_exported(call, detector, tmp_path):
    assert call("split", detector, "--at", "scores", "-o", tmp_path / "split").status == 0
    for source, name in ((detector, "one"), (tmp_path / "split", "two"), (tmp_path / "split" / "split.json", "three")):
        found = call("export", source, "--to", "saved_model", "-o", tmp_path / name, "--json").json
        assert (found["section"], found["equal"]) == (None, True)
        assert [o["tensor"] for o in found["outputs"]] == ["best:0", "size:0"]


def test_the_table_tells_keys_and_differences(call, detector, tmp_path):
    answer = call("export", detector, "--to", "saved_model", "-o", tmp_path / "out")
    assert answer.status == 0
    assert "compared with the whole: 2 outputs equal bit for bit in 2 runs" in answer.out
    assert answer.out.rstrip().endswith(f"wrote {tmp_path / 'out'}")
    assert answer.err == ""
    unproven = call("export", detector, "--to", "saved_model", "-o", tmp_path / "other", "--no-verify")
    assert "not compared" in unproven.out


def test_a_difference_gives_status_3_and_no_file(call, detector, tmp_path, monkeypatch):
    real = targets.TARGETS["saved_model"]
    monkeypatch.setattr(targets, "TARGETS", {"saved_model": targets.Target(planted(real.write), real.open, real.own)})
    answer = call("export", detector, "--to", "saved_model", "-o", tmp_path / "out")
    assert (answer.status, answer.out) == (3, "")
    assert "graphsplit: verification differs: the export differs: 1 of 2 outputs differ; best:0 differs by up to" in answer.err
    assert list(tmp_path.iterdir()) == []
    assert call("export", detector, "--to", "saved_model", "-o", tmp_path / "out", "--atol", "1e9").status == 0


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["--section", "tail"], 1, "no section 'tail'; there are main, post"),
        (["--folder", "new"], 1, "--folder needs --to tflite and --section"),
        (["--rtol", "-1"], 2, "is not a number from 0"),
        (["--to", "coreml"], 2, "invalid choice: 'coreml'"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_written(call, tmp_path, args, status, said):
    answer = call("export", demo_data.model(), "--to", "saved_model", "-o", tmp_path / "out", *args)
    assert answer.status == status
    assert said in answer.err
    assert status == 2 or len(answer.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_anything_is(call, detector, tmp_path):
    assert call("split", detector, "--at", "scores", "-o", tmp_path / "split").status == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("precious")
    convert = ["export", tmp_path / "split", "--section", "main", "--to", "tflite", "-o", tmp_path / "main.tflite", "--folder"]
    for folder, said in (("full", "is not empty"), ("split", "is where the model itself is"), ("full/notes", "is a file")):
        answer = call(*convert, tmp_path / folder)
        assert answer.status == 1
        assert said in answer.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "split"]


def test_the_choices_are_the_targets_that_there_are():
    assert tuple(targets.TARGETS) == command._TARGETS


def test_the_split_is_written_again_with_the_converted_section(tmp_path):
    """In a process of its own, as from a shell: split, export, bench's way to run it."""
    pytest.importorskip("ai_edge_litert")
    graphsplit = [sys.executable, "-m", "graphsplit"]
    export = ["export", demo_data.model(), "--section", "main", "--to", "tflite", "-o", tmp_path / "main.tflite"]
    done = subprocess.run([*graphsplit, *export, "--folder", tmp_path / "mixed"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "replaced first (batch_preprocess)" in done.stdout
    assert {p.name: p.format for p in gs.load_parts(tmp_path / "mixed")} == {"main": "tflite", "post": "graphdef"}
    assert (tmp_path / "mixed" / "shapes_ssd_main.tflite").read_bytes() == (tmp_path / "main.tflite").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["main.tflite", "mixed"]


def test_the_command_tells_models_and_what_was_not_run(call, detector, tmp_path):
    pytest.importorskip("tritonclient.grpc")
    answer = call("export", detector, "--to", "triton", "-o", tmp_path / "repo")
    assert answer.status == 0, answer.err
    assert "KIND_GPU" in answer.out
    assert f"tritonserver --model-repository={tmp_path / 'repo'}" in answer.out
    assert "Triton itself was not run" in answer.out
    shutil.rmtree(tmp_path / "repo")
    found = call("export", detector, "--to", "triton", "-o", tmp_path / "repo", "--json").json
    assert [m["kind"] for m in found["models"]][-1] is None
    assert (found["equal"], len(found["models"])) == (True, 3)
