"""The workbench without its page: plans, completion, proof and files."""

from __future__ import annotations

import json
import time

import pytest

import graphsplit as gs
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.viewer.cost import estimate
from graphsplit.viewer.explorer import graph_of, node_data, tensor_of
from graphsplit.viewer.jobs import Jobs
from graphsplit.viewer.session import Wanted, open_model
from graphsplit.viewer.workbench import Workbench
from tests.shared import shared_model
from tests.viewer.conftest import chain


@pytest.fixture
def bench(model, tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    made = Workbench(open_model(model, outputs="net/head"), folder)
    yield made
    made.close()


def cut(*ends, inputs=()):
    return {"cut": {"inputs": list(inputs), "ends": [list(ends)] if ends else []}}


def done(bench, job):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        answer = bench.job(job)
        if answer["done"]:
            return answer
        time.sleep(0.02)
    raise AssertionError("the job does not end")


# what is opened


def test_the_cut_that_was_asked_for_is_where_it_begins(model):
    opened = open_model(model, inputs="net/conv/a", outputs="net/head")
    assert opened.wanted == Wanted(("net/conv/a:0",), (("net/head:0",),))
    assert [s.name for s in opened.wanted.plan(model).sections] == ["pre", "main", "post"]


@pytest.mark.parametrize(
    "asked",
    [
        {"outputs": "net/head"},
        {"inputs": "net/conv/a", "outputs": "net/head"},
        {"outputs": [["net/conv/a"], ["net/head"]]},
    ],
)
def test_a_split_is_opened_at_its_own_cut(model, tmp_path, asked):
    parts = gs.split(model, **asked)
    gs.save(parts, tmp_path / "out")
    for opened in (open_model(parts), open_model(tmp_path / "out"), open_model(model, planned=parts.plan)):
        assert opened.wanted.plan(opened.model) == parts.plan


def test_a_split_and_a_cut_contradict_each_other(model):
    with pytest.raises(gs.CutError, match="a split and outputs both say where to cut"):
        open_model(gs.split(model, outputs="net/head"), outputs="net/conv/a")


def test_a_split_whose_model_is_gone_says_so(model, tmp_path):
    gs.save(gs.split(model, outputs="net/head"), tmp_path / "out")
    model.path.unlink()
    with pytest.raises(gs.FormatError, match="the whole model is not there"):
        open_model(tmp_path / "out")


def test_a_split_of_another_file_is_refused(model, tmp_path):
    gs.save(gs.split(model, outputs="net/head"), tmp_path / "out")
    chain(model.path, "net/conv/a", "net/head", "other")
    with pytest.raises(gs.FormatError, match="not the file that was split"):
        open_model(tmp_path / "out")


# plans


def test_a_plan_changes_with_the_cut(bench):
    one = bench.plan(cut("net/head"))
    other = bench.plan(cut("net/conv/a"))
    assert [b["tensor"] for b in one["borders"]] == ["net/head:0"]
    assert [b["tensor"] for b in other["borders"]] == ["net/conv/a:0"]
    assert one["plan"] != other["plan"]
    assert one["bytes"] == 16
    assert "net/head:0" in one["svg"]
    assert [s["name"] for s in bench.plan(cut())["sections"]] == ["main"]


def test_a_cut_that_cannot_be_made_says_why(bench):
    with pytest.raises(gs.TensorNotFoundError, match="did you mean 'net/head'"):
        bench.plan(cut("net/haed"))
    for wrong in ({}, {"cut": []}, cut(7), {"cut": {"inputs": "a"}}, {"cut": {"ends": "a"}}, {**cut("net/head"), "repair": "x"}):
        with pytest.raises(gs.GraphSplitError, match=r"a cut is|list of tensor names|list of lists|unknown repair"):
            bench.plan(wrong)


def test_old_plans_are_forgotten_and_unknown_numbers_refused(bench):
    first = bench.plan(cut("net/head"))["plan"]
    for _ in range(16):
        bench.plan(cut("net/head"))
    for number in (first, 1, 2**52):
        with pytest.raises(gs.GraphSplitError, match="not known any more"):
            bench.graph(number)


def test_completion_finds_parts_of_names_and_the_closest_first(bench):
    assert [t["tensor"] for t in bench.tensors("conv")["tensors"]] == ["net/conv/a:0", "net/conv/b:0"]
    assert [t["tensor"] for t in bench.tensors("POST out")["tensors"]] == ["post/out:0"]
    assert bench.tensors("nothing at all")["tensors"] == []


def test_suggestions_come_with_reasons(demo_model, tmp_path):
    bench = Workbench(open_model(demo_model), tmp_path)
    found = done(bench, bench.state()["study"])
    bench.close()
    assert found["cuts"][0]["source"] == "preset"
    assert all(c["reason"] and c["outputs"] for c in found["cuts"])
    assert max(bench._costs.values()) > 1_000_000


def test_a_proof_runs_and_tells(bench):
    answer = done(bench, bench.verify({"plan": bench.plan(cut("net/head"))["plan"]})["job"])
    assert answer["equal"] is True
    assert "bit for bit" in answer["summary"]


def test_a_model_that_needs_trust_is_not_run_and_the_answer_says_so(tmp_path):
    path = tmp_path / "m.pbtxt"
    path.write_text(
        'node { name: "p" op: "Placeholder" attr { key: "dtype" value { type: DT_STRING } } }\n'
        'node { name: "r" op: "ReadFile" input: "p" }\n'
        'node { name: "o" op: "Identity" input: "r" attr { key: "T" value { type: DT_STRING } } }\n'
    )
    bench = Workbench(open_model(gs.load(path), outputs="r"), tmp_path)
    plan = bench.plan(cut("r"))["plan"]
    for job in (bench.verify({"plan": plan}), bench.split({"plan": plan, "name": "x"})):
        assert "ReadFile" in done(bench, job["job"])["error"]
    assert not (tmp_path / "x").exists()
    assert done(bench, bench.split({"plan": plan, "name": "x", "verify": False})["job"])["files"]
    bench.close()


# files


def test_a_split_is_proven_and_written_into_the_folder(bench):
    plan = bench.plan(cut("net/head"))["plan"]
    answer = done(bench, bench.split({"plan": plan, "name": "mine"})["job"])
    assert answer["verified"] is True
    assert gs.load_parts(bench.folder / "mine").borders == ("net/head:0",)
    with pytest.raises(gs.OverwriteError, match="exist already; choose another name"):
        bench.split({"plan": plan, "name": "mine"})


def test_a_crop_file_is_saved_and_read_again(bench, model):
    written = bench.save_crop({**cut("net/head", inputs=["net/conv/a"]), "name": "mine"})["written"]
    assert written == str(bench.folder / "mine.json")
    assert gs.plan(model, crop_file=written) == gs.plan(model, inputs="net/conv/a", outputs="net/head")
    before = (bench.folder / "mine.json").read_bytes()
    with pytest.raises(gs.OverwriteError, match="choose another name"):
        bench.save_crop({**cut("net/conv/b"), "name": "mine.json"})
    assert (bench.folder / "mine.json").read_bytes() == before
    with pytest.raises(gs.CutError, match="nothing is cut"):
        bench.save_crop({**cut(), "name": "none"})
    with pytest.raises(gs.CutError, match="one cut"):
        bench.save_crop({"cut": {"ends": [["net/conv/a"], ["net/head"]]}, "name": "none"})


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "a/b", "a\\b", "..", ".", "", " ", ".hidden", "x\0y", "x\ny", "a" * 200, "C:x", "~", "-rf", "x.", 7]
)
def test_a_name_is_a_plain_file_name(bench, tmp_path, name):
    plan = bench.plan(cut("net/head"))["plan"]
    before = sorted(tmp_path.rglob("*"))
    for write in (bench.split, bench.save_crop):
        with pytest.raises(gs.GraphSplitError, match=r"plain file name|is a text"):
            write({**cut("net/head"), "plan": plan, "name": name})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_out_of_the_folder_is_not_followed(bench, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (bench.folder / "link").symlink_to(tmp_path / "elsewhere")
    (bench.folder / "file.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(gs.OverwriteError, match="is a link"):
        bench.split({"plan": bench.plan(cut("net/head"))["plan"], "name": "link"})
    with pytest.raises(gs.OverwriteError, match="exists already"):
        bench.save_crop({**cut("net/head"), "name": "file"})
    assert not (tmp_path / "gone.json").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


# jobs


def test_an_error_in_a_job_is_told_and_the_next_one_runs():
    jobs = Jobs()

    def fail():
        raise ValueError("odd")

    first, second = jobs.start(fail), jobs.start(lambda: {"fine": 1})
    while not (jobs.look(second) or {})["done"]:
        time.sleep(0.01)
    assert jobs.look(first) == {"done": True, "error": "ValueError: odd"}
    assert jobs.look(second) == {"done": True, "fine": 1}
    assert jobs.look("other") is None
    jobs.close()


# the explorer's graph


def test_sections_are_groups_borders_stand_between_them_and_constants_are_folded(demo_model):
    plan = gs.plan(demo_model)
    graph = graph_of(demo_model, plan, {})["graphs"][0]
    nodes = {n["id"]: n for n in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    assert {n["namespace"].partition("/")[0] for n in graph["nodes"]} == {"", "main", "post"}
    assert {g["namespaceRegex"] for g in graph["groupNodeConfigs"]} == {"^main$", "^post$"}
    assert all(e["sourceNodeId"] in nodes for n in graph["nodes"] for e in n["incomingEdges"])
    assert not any(n["label"] == "Const" for n in graph["nodes"])
    for tensor in plan.borders:
        border = nodes[f"tensor::{tensor}"]
        assert [e["sourceNodeId"] for e in border["incomingEdges"]] == [f"main::{demo_model.index.producer[tensor]}"]
        assert any(e["sourceNodeId"] == border["id"] for n in graph["nodes"] for e in n["incomingEdges"])
    crossing = [
        (e["sourceNodeId"], n["id"])
        for n in graph["nodes"]
        for e in n["incomingEdges"]
        if e["sourceNodeId"].startswith("main::") and n["id"].startswith("post::")
    ]
    assert not crossing  # everything that crosses does so through its border node
    json.dumps(graph)


def test_a_selected_node_stands_for_its_tensors(bench, model):
    assert tensor_of(model, "main::net/head") == ("net/head:0",)
    assert tensor_of(model, "tensor::net/head:0") == ("net/head:0",)
    for group in ("main", "main/net", "", "tensor::gone", "main::gone"):
        assert tensor_of(model, group) == ()
    assert bench.selected("main::net/head")["tensors"][0]["tensor"] == "net/head:0"


def test_a_convolution_costs_what_it_multiplies():
    """image [1,8,8,3] ─▶ Conv2D(weights [3,3,3,4]) ─▶ [1,8,8,4] ─▶ Relu"""
    nodes = (
        Node("image", "Placeholder", (), ("image:0",), kind="input"),
        Node("w", "Const", (), ("w:0",), kind="const"),
        Node("w/read", "Identity", ("w:0",), ("w/read:0",)),
        Node("conv", "Conv2D", ("image:0", "w/read:0"), ("conv:0",)),
        Node("relu", "Relu", ("conv:0",), ("relu:0",)),
    )
    weights = TensorSpec("w:0", "float32", (3, 3, 3, 4))
    specs = {t: TensorSpec(t, "float32") for t in ("image:0", "w/read:0", "conv:0", "relu:0")} | {"w:0": weights}
    index = GraphIndex(nodes, specs, ("image:0",), ("relu:0",))
    cost = estimate(index, {"conv:0": 8 * 8 * 4 * 4, "relu:0": 8 * 8 * 4 * 4})
    assert cost == {"conv": 2 * 27 * 8 * 8 * 4, "relu": 8 * 8 * 4}
    assert node_data(index, cost)["plan"]["results"]["conv:0"] == {"value": 2 * 27 * 256}


def test_a_tflite_model_has_a_workbench_too(tmp_path):
    model = gs.load(shared_model("face_detection_short_range.tflite"))
    inner = next(n.outputs[0] for n in model.index.nodes if n.op == "MAX_POOL_2D")
    bench = Workbench(open_model(model, outputs=inner), tmp_path)
    found = bench.plan(cut(inner))
    assert [s["name"] for s in found["sections"]] == ["main", "post"]
    assert None not in [b["bytes"] for b in found["borders"]]
    assert len(bench.graph(found["plan"])["graphs"][0]["nodes"]) > 50
    bench.close()
