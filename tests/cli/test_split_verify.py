"""graphsplit plan, split and verify, as their users meet them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphsplit.formats.graphdef.model import GraphDefModel

SECTION_KEYS = {"name", "file", "sha256", "format", "device", "inputs", "outputs"}


def test_split_writes_two_files_and_a_manifest_that_verify_proves_again(call, detector, tmp_path):
    answer = call("split", detector, "--at", "scores", "-o", tmp_path / "out")
    assert answer.status == 0, answer.err
    assert "proven: 2 outputs equal bit for bit in 2 runs" in answer.out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["detector_main.pb", "detector_post.pb", "split.json"]
    again = call("verify", tmp_path / "out")
    assert again.status == 0, again.err
    assert "2 outputs equal bit for bit" in again.out


def test_json_is_alone_on_stdout_and_has_the_keys_that_others_read(call, detector, tmp_path):
    answer = call("split", detector, "--at", "scores", "-o", tmp_path, "--json")
    assert answer.status == 0
    assert answer.json["verified"] is True
    assert answer.json["manifest"] == str(tmp_path / "split.json")
    assert [s["name"] for s in answer.json["sections"]] == ["main", "post"]
    assert answer.json["added"] == [
        {"tensor": a["tensor"], "section": "post", "consumer": a["consumer"], "reason": a["reason"]} for a in answer.json["added"]
    ]
    assert answer.json["added"]
    manifest = json.loads((tmp_path / "split.json").read_text())
    assert set(manifest["sections"][0]) == SECTION_KEYS
    assert manifest["sections"][0]["device"] == "/gpu:0"
    assert manifest["sections"][1]["device"] == "/cpu:0"
    assert manifest["source"]["format"] == "graphdef"
    verified = call("verify", tmp_path, "--json")
    assert verified.json["equal"] is True
    assert verified.json["max_abs_error"] == 0
    assert {"tensor", "dtype", "shape", "max_abs_error", "max_rel_error"} <= set(verified.json["outputs"][0])


def test_without_verification_verified_is_null_and_no_shape_is_inferred(call, detector, tmp_path):
    answer = call("split", detector, "--at", "scores", "-o", tmp_path, "--json", "--no-verify", "--no-shapes")
    assert answer.status == 0
    assert answer.json["verified"] is None
    assert answer.json["sections"][0]["outputs"][0]["shape"] is None
    assert answer.json["sections"][0]["inputs"][0]["shape"] == [None, 8, 8, 3]


def test_plan_writes_nothing_and_says_what_was_added_for_whom(call, detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call("plan", detector, "--at", "scores", "--json")
    assert answer.status == 0
    assert [s["name"] for s in answer.json["sections"]] == ["main", "post"]
    assert "file" not in answer.json["sections"][0]
    assert answer.json["sections"][0]["outputs"][0] == {
        "tensor": "scores:0",
        "name": "scores:0",
        "dtype": "float32",
        "shape": [None, 64],
    }
    assert list(tmp_path.iterdir()) == []
    text = call("plan", detector, "--at", "scores").out
    assert "Added to the border" in text
    assert "main and post both read it" in text


def test_three_way_and_n_way_cuts_are_named_as_promised(call, detector, tmp_path):
    three = call("split", detector, "--inputs", "Cast", "--outputs", "scores", "-o", tmp_path / "three", "--json")
    assert [s["name"] for s in three.json["sections"]] == ["pre", "main", "post"]
    assert (tmp_path / "three" / "detector_pre.pb").is_file()
    many = call("split", detector, "--outputs", "Cast", "--outputs", "scores", "-o", tmp_path / "many", "--json")
    assert [s["name"] for s in many.json["sections"]] == ["part_0", "part_1", "part_2"]
    assert call("verify", tmp_path / "many").status == 0


def test_a_crop_file_names_the_cut(call, detector, tmp_path):
    crop = tmp_path / "crop.json"
    crop.write_text('{"0": {"output": "scores"}, "1": {"output": "x"}}')
    answer = call("plan", detector, "--crop-file", crop)
    assert answer.status == 0
    assert "has 2 entries; entry 0 is used" in answer.out
    assert call("plan", detector, "--model_in_out", crop).status == 0


def test_pruned_outputs_take_what_only_they_needed_with_them(call, detector, tmp_path):
    answer = call("split", detector, "--at", "scores", "--model-outputs", "best", "-o", tmp_path, "--json")
    assert answer.status == 0
    assert json.loads((tmp_path / "split.json").read_text())["outputs"] == ["best:0"]
    assert answer.json["added"] == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--at", "skores"], "no tensor named 'skores'; did you mean 'scores'?"),
        (["--preset", "ssd_2081"], "'ssd_2081'"),
        (["--at", "scores", "--preset", "ssd_2018"], "both say where to cut"),
        (["--at", "image_tensor"], "nothing is left for section 'main'"),
        (["--at", "scores", "--device", "middle=/cpu:0"], "no section 'middle'; there are main, post"),
        (["--crop-file", "nowhere.json"], "nowhere.json: cannot be read: No such file or directory"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_nothing_is_written(call, detector, tmp_path, args, message):
    answer = call("split", detector, *args, "-o", tmp_path / "out")
    assert answer.status == 1
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("graphsplit: ")
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_an_error_and_wrong_usage_is_another(call, tmp_path):
    answer = call("split", tmp_path / "no.pb", "--at", "x", "-o", tmp_path / "out")
    assert (answer.status, "no such file or folder" in answer.err) == (1, True)
    assert call("split").status == 2
    assert call("split", "x.pb", "-o", "y", "--repair", "magic").status == 2
    assert call("sprlit").status == 2


def test_existing_files_are_named_and_replaced_only_when_asked(call, detector, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert call("split", detector, "--at", "scores", "-o", tmp_path, "--no-verify").status == 0
    answer = call("split", detector, "--at", "scores", "-o", tmp_path, "--no-verify")
    assert answer.status == 1
    assert "detector_main.pb" in answer.err
    assert "--overwrite" in answer.err
    assert call("split", detector, "--at", "scores", "-o", tmp_path, "--no-verify", "--overwrite").status == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_sections_that_differ_are_not_written_and_the_way_around_is_told(call, detector, tmp_path, monkeypatch):
    section = GraphDefModel.section

    def broken(self: GraphDefModel, *args):
        made, names = section(self, *args)
        graph_def = made.graph_def
        for node in graph_def.node:
            if node.name == "post/top/k":  # the best 5 become the best 4
                node.attr["value"].tensor.int_val[:] = [4]
        return GraphDefModel([graph_def.SerializeToString()]), names

    monkeypatch.setattr(GraphDefModel, "section", broken)
    answer = call("split", detector, "--at", "scores", "-o", tmp_path / "out")
    assert answer.status == 3
    assert "best:0 has shape [1, 4] instead of [1, 5], from section 'post' on" in answer.err
    assert "nothing was written" in answer.err
    assert "--no-verify" in answer.err
    assert not (tmp_path / "out").exists()


def test_verify_tells_a_damaged_section_and_another_whole(call, detector, tmp_path):
    out = tmp_path / "out"
    assert call("split", detector, "--at", "scores", "-o", out, "--no-verify").status == 0
    other = tmp_path / "other.pb"
    other.write_bytes(detector.read_bytes() + b"\x22\x02\x08\x01")
    answer = call("verify", out, "--model", other)
    assert answer.status == 1
    assert "not the file that was split" in answer.err
    data = bytearray((out / "detector_post.pb").read_bytes())
    data[-1] ^= 1
    (out / "detector_post.pb").write_bytes(data)
    answer = call("verify", out)
    assert answer.status == 1
    assert "is not the file that was written" in answer.err


def test_verify_says_where_the_whole_should_be_when_it_moved(call, detector, tmp_path):
    moved = tmp_path / "moved.pb"
    shutil.copy(detector, moved)
    assert call("split", moved, "--at", "scores", "-o", tmp_path / "out", "--no-verify").status == 0
    moved.unlink()
    answer = call("verify", tmp_path / "out")
    assert answer.status == 1
    assert "the whole model is not there" in answer.err
    assert "--model" in answer.err
    assert call("verify", tmp_path / "out", "--model", detector).status == 0


def test_verify_runs_on_given_pictures(call, detector, tmp_path):
    from PIL import Image

    assert call("split", detector, "--at", "scores", "-o", tmp_path / "out", "--no-verify").status == 0
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (30, 20, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    answer = call("verify", tmp_path / "out", "--image", tmp_path / "a.png", "--json")
    assert answer.status == 0, answer.err
    assert answer.json["runs"] == 2
    assert answer.json["feeds"][0] == "image_tensor:0 uint8[1, 8, 8, 3]"
    answer = call("verify", tmp_path / "out", "--image", Path(__file__))
    assert answer.status == 1
    assert "not a picture" in answer.err


def test_a_model_that_reaches_outside_is_cut_but_never_run_without_trust(call, tmp_path):
    import tensorflow as tf

    secret = tmp_path / "secret.txt"
    secret.write_text("1")
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        number = tf.strings.to_number(tf.io.read_file(str(secret)), name="number")
        tf.identity(tf.nn.relu(x, name="mid") + number, name="y")
    model = tmp_path / "m.pb"
    model.write_bytes(graph.as_graph_def().SerializeToString())
    answer = call("split", model, "--at", "mid", "-o", tmp_path / "out")
    assert answer.status == 1
    assert "ReadFile" in answer.err
    assert "--trust" in answer.err
    assert call("split", model, "--at", "mid", "-o", tmp_path / "out", "--no-verify").status == 0
    assert call("verify", tmp_path / "out").status == 1
    assert call("verify", tmp_path / "out", "--trust").status == 0
    assert call("show", model, "--json").json["reaches_outside"] == ["ReadFile"]


def test_without_a_preset_and_a_name_the_cut_is_searched(call, detector, tmp_path):
    """After the convolution only TopKV2 is known to belong on a host; what is between the two may be refused by a compiler."""
    answer = call("split", detector, "-o", tmp_path / "out", "--json")
    assert answer.status == 0, answer.err
    assert answer.json["cut"].startswith(
        "automatic cut: main ends right after the last layer of each head, before TopKV2 (post/top)"
    )
    assert answer.json["sections"][0]["outputs"][0]["tensor"] == "net/conv:0"
    assert answer.json["verified"] is True
    same = call("plan", detector, "--autocrop", "--json")
    assert same.json["sections"][0]["outputs"] == answer.json["sections"][0]["outputs"]


def test_where_nothing_is_worth_cutting_there_is_one_section_equal_to_the_whole(call, detector, tmp_path):
    answer = call("split", detector, "--model-outputs", "size", "-o", tmp_path / "out", "--json")
    assert answer.status == 0, answer.err
    assert "nothing to crop" in answer.json["cut"]
    assert [s["name"] for s in answer.json["sections"]] == ["main"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["detector_main.pb", "split.json"]
    shown = call("plan", detector, "--model-outputs", "size")
    assert shown.out.startswith(f"{detector} not cut: nothing to crop")
    assert call("plan", detector, "--autocrop").out.startswith(f"{detector} cut at: automatic cut")


def test_a_table_of_ones_own_is_laid_over_the_built_in_one(call, detector, tmp_path):
    table = tmp_path / "mine.json"
    table.write_text('{"Sigmoid": "host"}')
    answer = call("plan", detector, "--autocrop", "--affinity", table, "--json")
    assert answer.status == 0, answer.err
    assert "Sigmoid (scores)" in answer.json["cut"]
    # Its shape is read behind the cut, too: one tensor instead of two.
    assert answer.json["sections"][0]["outputs"][0]["tensor"] == "net/conv:0"


def test_a_reader_that_has_seen_enough_is_no_error(detector):
    """graphsplit plan … | true"""
    command = [sys.executable, "-m", "graphsplit", "plan", detector, "--at", "scores"]
    with subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
