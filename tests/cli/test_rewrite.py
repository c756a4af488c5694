"""graphsplit rewrite, and --fuse-nms on split, verify, detect and bench, as their users meet them."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from PIL import Image

import graphsplit as gs
from graphsplit.demo import data as demo_data
from graphsplit.inference.feeds import picture as made_picture
from graphsplit.rewrites import registry
from tests.rewrites.detectors import detector as post_processing

MODEL = str(demo_data.model())


@pytest.fixture
def wrong_fuse(monkeypatch):
    """A rewrite that is not equivalent."""
    write = registry.write_fused
    monkeypatch.setattr(registry, "write_fused", lambda w, found: write(w, replace(found, iou=0.05)))


def test_rewrite_writes_a_proven_model_and_says_what_it_did(call, tmp_path):
    target = tmp_path / "fast.pb"
    answer = call("rewrite", MODEL, "-o", target, "--fuse-nms", "--batch-preprocess", "--json")
    assert answer.status == 0, answer.err
    found = answer.json
    assert [r["name"] for r in found["rewrites"]] == ["fuse_nms", "batch_preprocess"]
    assert found["rewrites"][0]["iou_threshold"] == pytest.approx(0.6)
    assert found["left_alone"] == []
    assert found["verified"] is True
    assert found["ties_reordered"] == 0
    assert found["samples"] > 20
    made = gs.load(target)
    assert len(made.index.nodes) == found["nodes"]["after"] < found["nodes"]["before"]
    assert made.index.outputs == gs.load(MODEL).index.outputs
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fast.pb"]


def test_the_same_input_gives_the_same_bytes(call, tmp_path):
    for name in ("a.pb", "b.pb"):
        assert call("rewrite", MODEL, "-o", tmp_path / name, "--fuse-nms", "--no-verify").status == 0
    assert (tmp_path / "a.pb").read_bytes() == (tmp_path / "b.pb").read_bytes()


def test_a_rewritten_model_is_still_known_by_its_family(call, tmp_path):
    assert call("rewrite", MODEL, "-o", tmp_path / "fast.pb", "--fuse-nms", "--no-verify").status == 0
    before, after = (call("plan", m, "--json", "--no-shapes").json for m in (MODEL, tmp_path / "fast.pb"))
    assert after["cut"] == before["cut"]
    assert "preset" in after["cut"]


def test_what_is_left_alone_is_told(call, tmp_path):
    model = tmp_path / "soft.pb"
    post_processing("V5", sigma=0.5).save(model)
    answer = call("rewrite", model, "-o", tmp_path / "out.pb", "--fuse-nms", "--no-verify")
    assert answer.status == 0
    assert "left alone (fuse_nms)" in answer.out
    assert "soft suppression" in answer.out
    assert "nothing was rewritten" in answer.out


def test_outputs_that_are_not_kept_are_pruned(call, tmp_path):
    answer = call("rewrite", MODEL, "-o", tmp_path / "o.pb", "--model-outputs", "num_detections", "--no-verify", "--json")
    assert answer.status == 0
    assert gs.load(tmp_path / "o.pb").index.outputs == ("num_detections:0",)
    wrong = call("rewrite", MODEL, "-o", tmp_path / "p.pb", "--model-outputs", "num_detection")
    assert wrong.status == 1
    assert "did you mean 'num_detections'" in wrong.err
    assert not (tmp_path / "p.pb").exists()


def test_a_rewrite_that_differs_is_not_written_and_ends_with_3(call, tmp_path, wrong_fuse):
    answer = call("rewrite", MODEL, "-o", tmp_path / "o.pb", "--fuse-nms")
    assert answer.status == 3
    assert "differ" in answer.err
    assert "--no-verify" in answer.err
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked_and_the_model_itself_never(call, tmp_path):
    target = tmp_path / "there.pb"
    target.write_bytes(b"mine")
    answer = call("rewrite", MODEL, "-o", target, "--fuse-nms", "--no-verify")
    assert answer.status == 1
    assert "--overwrite" in answer.err
    assert target.read_bytes() == b"mine"
    assert call("rewrite", MODEL, "-o", target, "--fuse-nms", "--no-verify", "--overwrite").status == 0
    assert target.read_bytes() != b"mine"
    before = target.read_bytes()
    itself = call("rewrite", target, "-o", target, "--fuse-nms", "--no-verify", "--overwrite")
    assert itself.status == 1
    assert "is the source itself" in itself.err
    assert target.read_bytes() == before
    assert call("rewrite", MODEL, "-o", tmp_path, "--no-verify").status == 1
    assert call("rewrite", MODEL, "-o", tmp_path / "no" / "o.pb", "--no-verify").status == 1


def test_a_model_that_reaches_outside_is_rewritten_but_not_run(call, tmp_path):
    graph = gs.load(MODEL).graph_def
    graph.node.add(name="file", op="ReadFile", input=["name"])
    name = graph.node.add(name="name", op="Const")
    name.attr["dtype"].type = 7
    name.attr["value"].tensor.dtype = 7
    name.attr["value"].tensor.string_val.append(b"/none")
    model = tmp_path / "reads.pb"
    model.write_bytes(graph.SerializeToString())
    refused = call("rewrite", model, "-o", tmp_path / "o.pb", "--fuse-nms")
    assert refused.status == 1
    assert "--trust" in refused.err
    assert not (tmp_path / "o.pb").exists()
    assert call("rewrite", model, "-o", tmp_path / "o.pb", "--fuse-nms", "--no-verify").status == 0


# on other commands


def test_a_split_with_fused_suppression_is_proven_against_the_whole_as_exported(call, tmp_path):
    answer = call("split", MODEL, "--fuse-nms", "-o", tmp_path / "s", "--json")
    assert answer.status == 0, answer.err
    assert [r["name"] for r in answer.json["rewrites"]] == ["fuse_nms"]
    assert any("fused" in note for note in answer.json["notes"])
    manifest = json.loads((tmp_path / "s" / "split.json").read_text())
    assert [r["name"] for r in manifest["rewrites"]] == ["fuse_nms"]
    assert manifest["source"]["sha256"] == gs.load(MODEL).sha256
    assert os.path.samefile(tmp_path / "s" / manifest["source"]["file"], MODEL)
    ops = {n.op for n in gs.load(tmp_path / "s" / manifest["sections"][-1]["file"]).index.nodes}
    assert "CombinedNonMaxSuppression" in ops
    assert "NonMaxSuppressionV3" not in ops
    again = call("verify", tmp_path / "s", "--json")
    assert again.status == 0, again.err
    assert again.json["equal"] is True
    assert again.json["ties_reordered"] == 0


def test_a_split_whose_fused_suppression_differs_is_not_written(call, tmp_path, wrong_fuse):
    answer = call("split", MODEL, "--fuse-nms", "-o", tmp_path / "s")
    assert answer.status == 3
    assert not (tmp_path / "s").exists()


def test_a_cut_inside_of_what_is_replaced_is_refused(call, tmp_path):
    model = tmp_path / "m.pb"
    whole = post_processing(unrolled=1)
    whole.save(model)
    inside = next(n.outputs[0] for n in whole.index.nodes if n.op == "NonMaxSuppressionV3")
    answer = call("split", model, "--at", inside, "--fuse-nms", "-o", tmp_path / "s", "--no-verify", "--no-shapes")
    assert answer.status == 1
    assert "is part of what the fused suppression replaces" in answer.err


def test_a_section_of_a_split_is_rewritten_like_a_model(call, tmp_path):
    assert call("split", MODEL, "-o", tmp_path / "s", "--no-verify").status == 0
    section = next((tmp_path / "s").glob("*_post.pb"))
    answer = call("rewrite", section, "-o", tmp_path / "post.pb", "--fuse-nms", "--json")
    assert answer.status == 0, answer.err
    assert [r["name"] for r in answer.json["rewrites"]] == ["fuse_nms"]


def test_detect_with_fused_suppression_finds_the_same(call, tmp_path):
    picture = tmp_path / "p.png"
    Image.fromarray(made_picture(160, 200, seed=1)).save(picture)
    found = []
    for more in ([], ["--fuse-nms"], ["--fuse-nms", "--no-split"]):
        out = tmp_path / f"{len(found)}.jsonl"
        answer = call("detect", MODEL, picture, "--jsonl", out, "--threshold", "0.01", "--json", *more)
        assert answer.status == 0, answer.err
        line = json.loads(out.read_text().splitlines()[0])
        found.append({k: line[k] for k in ("boxes", "scores", "classes")})
        assert any("fused" in note for note in answer.json["notes"]) == bool(more)
    assert found[0]["boxes"]
    assert found[0] == found[1] == found[2]


def test_a_split_that_was_made_is_fused_when_it_is_made(call, tmp_path):
    assert call("split", MODEL, "-o", tmp_path / "s", "--no-verify", "--no-shapes").status == 0
    for command in (["detect", tmp_path / "s", tmp_path], ["bench", tmp_path / "s"]):
        answer = call(*command, "--fuse-nms")
        assert answer.status == 1
        if command[0] == "bench":
            assert "fuse the suppression when splitting" in answer.err


@pytest.mark.slow
def test_bench_measures_whole_and_sections_with_fused_suppression(call):
    answer = call("bench", MODEL, "--fuse-nms", "--frames", "10", "--json")
    assert answer.status == 0, answer.err
    assert [r["name"] for r in answer.json["rewrites"]] == ["fuse_nms"]
