"""The workbench without its page: requests, plans, completion, verification, trust, rewritten splits and files."""

from __future__ import annotations

import json
import time

import pytest

import graphsplit as gs
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.planning.cost import estimate
from graphsplit.viewer.explorer_graph import graph_of, node_data, tensors_of_node
from graphsplit.viewer.jobs import Jobs
from graphsplit.viewer.requests import CropRequest, PlanRequest, SplitRequest, StudyRequest, VerifyRequest, as_request
from graphsplit.viewer.session import ChosenCut, open_model
from graphsplit.viewer.workbench import Workbench
from tests import graphs
from tests.shared import shared_model
from tests.viewer.conftest import chain


@pytest.fixture
def bench(model, tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    workbench = Workbench(open_model(model, outputs="net/head"), folder)
    yield workbench
    workbench.close()


def cut(*ends, inputs=()):
    """The part of a request that says where to cut: main starts at `inputs` and ends at `ends`."""
    return {"cut": {"inputs": list(inputs), "ends": [list(ends)] if ends else []}}


def plan(bench, *ends, inputs=()):
    return bench.plan(as_request(cut(*ends, inputs=inputs), PlanRequest))


def verify(bench, number):
    return done(bench, bench.verify(VerifyRequest(plan=number))["job"])


def write(bench, number, name, **options):
    return done(bench, bench.split(SplitRequest(plan=number, name=name, **options))["job"])


def save_crop(bench, name, *ends, inputs=()):
    return bench.save_crop(as_request({**cut(*ends, inputs=inputs), "name": name}, CropRequest))["written"]


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
    session = open_model(model, inputs="net/conv/a", outputs="net/head")
    assert session.cut == ChosenCut(("net/conv/a:0",), (("net/head:0",),))
    assert [s.name for s in session.cut.plan(model).sections] == ["pre", "main", "post"]


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
    for session in (open_model(parts), open_model(tmp_path / "out"), open_model(model, planned=parts.plan)):
        assert session.cut.plan(session.model) == parts.plan


def test_a_split_and_a_cut_contradict_each_other(model):
    with pytest.raises(gs.CutError, match="a split and outputs both say where to cut"):
        open_model(gs.split(model, outputs="net/head"), outputs="net/conv/a")
    with pytest.raises(gs.CutError, match="a split and a plan both say where to cut; pass the model with its plan"):
        open_model(gs.split(model, outputs="net/head"), planned=gs.plan(model, outputs="net/conv/a"))
    with pytest.raises(gs.CutError, match="a plan and a cut both say where to cut"):
        open_model(model, planned=gs.plan(model, outputs="net/head"), outputs="net/conv/a")


@pytest.mark.parametrize(("repair", "post"), [("auto", ["c"]), ("border", ["c"]), ("replicate", ["a", "c"])])
def test_a_repaired_split_is_opened_with_the_sections_of_its_files(tmp_path, repair, post):
    """image ─▶ a ─▶ b │ b, a ─▶ c: unnamed, a crosses or is computed again."""
    path = chain(tmp_path / "m.pbtxt", "a", "b")
    add = 'node { name: "c" op: "AddV2" input: "a" input: "b" attr { key: "T" value { type: DT_FLOAT } } }'
    path.write_text(path.read_text() + add)
    parts = gs.split(gs.load(path), outputs="b", repair=repair)
    for what in (parts, gs.save(parts, tmp_path / "out")):
        session = open_model(what)
        assert [list(s.nodes) for s in session.cut.plan(session.model).sections] == [["a", "b"], post]


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
    one = plan(bench, "net/head")
    other = plan(bench, "net/conv/a")
    assert [b["tensor"] for b in one["borders"]] == ["net/head:0"]
    assert [b["tensor"] for b in other["borders"]] == ["net/conv/a:0"]
    assert one["plan"] != other["plan"]
    assert (one["bytes"], one["bytes_text"]) == (16, "16 B")
    assert "net/head:0" in one["svg"]
    assert [s["name"] for s in plan(bench)["sections"]] == ["main"]


def test_a_cut_that_is_not_possible_says_why(bench):
    with pytest.raises(gs.TensorNotFoundError, match="did you mean 'net/head'"):
        plan(bench, "net/haed")


def test_bytes_of_unknown_size_are_a_lower_bound(tmp_path):
    opaque = 'node { name: "image" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }\n'
    relu = 'node {{ name: "{0}" op: "Relu" input: "{1}" attr {{ key: "T" value {{ type: DT_FLOAT }} }} }}\n'
    (tmp_path / "m.pbtxt").write_text(opaque + relu.format("a", "image") + relu.format("b", "a"))
    bench = Workbench(open_model(tmp_path / "m.pbtxt", outputs="a"), tmp_path)
    assert plan(bench, "a")["bytes_text"] == "at least 0 B"
    bench.close()


def test_old_plans_are_dropped_and_unknown_numbers_refused(bench):
    first = plan(bench, "net/head")["plan"]
    for _ in range(16):
        plan(bench, "net/head")
    for number in (first, 1, 2**52):
        with pytest.raises(gs.GraphSplitError, match="this plan is unknown or too old; reload the page"):
            bench.graph(number)


def test_completion_finds_parts_of_names_and_the_closest_first(bench):
    assert [t["tensor"] for t in bench.tensors("conv")["tensors"]] == ["net/conv/a:0", "net/conv/b:0"]
    assert [t["tensor"] for t in bench.tensors("POST out")["tensors"]] == ["post/out:0"]
    assert bench.tensors("nothing at all")["tensors"] == []


def test_suggestions_come_with_reasons_and_costs_with_the_plan(demo_model, tmp_path):
    bench = Workbench(open_model(demo_model), tmp_path)
    number = plan(bench)["plan"]
    assert bench.node_data(number)["plan"]["results"] == {}
    answer = done(bench, bench.study(StudyRequest())["job"])
    assert answer["cuts"][0]["source"] == "preset"
    assert all(c["reason"] and c["ends"] for c in answer["cuts"])
    assert max(cost["value"] for cost in bench.node_data(number)["plan"]["results"].values()) > 1_000_000
    with pytest.raises(gs.GraphSplitError, match="this plan is unknown"):
        bench.node_data(number + 1)
    bench.close()


def test_a_plan_is_verified(bench):
    answer = verify(bench, plan(bench, "net/head")["plan"])
    assert answer["equal"] is True
    assert "bit for bit" in answer["summary"]
    with pytest.raises(gs.GraphSplitError, match="this job is unknown or too old"):
        bench.job("none")


# requests


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, r"^\$\.cut: is missing"),
        ({"cut": []}, r"^\$\.cut: expected object, got array"),
        ({"cut": {"inputs": "a"}}, r"^\$\.cut\.inputs: expected array, got str"),
        ({"cut": {"ends": "a"}}, r"^\$\.cut\.ends: expected array, got str"),
        ({"cut": {"ends": ["net/head"]}}, r"^\$\.cut\.ends\[0\]: expected array, got str"),
        ({"cut": {"ends": [["a"], [7]]}}, r"^\$\.cut\.ends\[1\]\[0\]: expected str, got int"),
        ({"cut": {"ends": [["a"]] * 65}}, r"^\$\.cut\.ends: expected array of length <= 64"),
        ({"cut": {"ends": [["a"] * 1001]}}, r"^\$\.cut\.ends\[0\]: expected array of length <= 1000"),
        ({"cut": {"inputs": ["a"] * 1001}}, r"^\$\.cut\.inputs: expected array of length <= 1000"),
        ({"cut": {"end": []}}, r"^\$\.cut: unknown key 'end'"),
        ({**cut("a"), "repair": "x"}, r"^\$\.repair: invalid enum value 'x'"),
        ({**cut("a"), "repairs": "auto"}, r"unknown key 'repairs'"),
    ],
)
def test_a_request_of_another_shape_names_the_entry(body, says):
    with pytest.raises(gs.GraphSplitError, match=says):
        as_request(body, PlanRequest)


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        (VerifyRequest, {"plan": "1"}, r"^\$\.plan: expected int, got str"),
        (VerifyRequest, {"plan": True}, r"^\$\.plan: expected int, got bool"),
        (VerifyRequest, {"plan": 1.0}, r"^\$\.plan: expected int, got float"),
        (SplitRequest, {"plan": 1}, r"^\$\.name: is missing"),
        (SplitRequest, {"plan": 1, "name": "x", "verify": None}, r"^\$\.verify: expected bool, got null"),
        (CropRequest, {**cut("a"), "name": 7}, r"^\$\.name: expected str, got int"),
    ],
)
def test_every_kind_of_request_is_checked(kind, body, says):
    with pytest.raises(gs.GraphSplitError, match=says):
        as_request(body, kind)


def test_a_request_at_its_limits_is_accepted():
    request = as_request({"cut": {"inputs": ["a"] * 1000, "ends": [["a"] * 1000] * 64}, "repair": "border"}, PlanRequest)
    assert (len(request.cut.ends), len(request.cut.ends[63]), request.repair) == (64, 1000, "border")
    assert as_request({"plan": 2**53 - 1, "name": "x"}, SplitRequest) == SplitRequest(plan=2**53 - 1, name="x", verify=True)


# trust


@pytest.fixture
def reading(tmp_path):
    """x ─▶ border ─▶ y, which waits for spy: ReadFile of a file on this machine."""
    (tmp_path / "secret").write_text("secret")
    return graphs.model(
        graphs.placeholder("x", [None, 4]),
        graphs.node("border", "Neg", "x"),
        graphs.const("file", str(tmp_path / "secret").encode(), object),
        graphs.node("spy", "ReadFile", "file"),
        graphs.node("y", "Neg", "border", "^spy"),
    )


def test_a_model_that_needs_trust_is_shown_but_not_run_and_the_answer_says_so(reading, tmp_path):
    bench = Workbench(open_model(reading, outputs="border"), tmp_path)
    state = bench.state()
    assert (state["reaches_outside"], state["trusted"]) == (["spy"], False)
    assert done(bench, bench.study(StudyRequest())["job"])["reason"]
    shown = plan(bench, "border")
    assert [s["name"] for s in shown["sections"]] == ["main", "post"]
    assert "border:0" in shown["svg"]
    assert "ReadFile" in {n["label"] for n in bench.graph(shown["plan"])["graphs"][0]["nodes"]}
    for answer in (verify(bench, shown["plan"]), write(bench, shown["plan"], "x")):
        assert "the model reaches outside itself (spy (ReadFile)): running it may read or write files" in answer["error"]
    assert not (tmp_path / "x").exists()
    assert write(bench, shown["plan"], "x", verify=False)["files"]  # surgery runs nothing
    bench.close()


def test_a_trusted_model_is_run(reading, tmp_path):
    bench = Workbench(open_model(reading, outputs="border"), tmp_path, trust=True)
    number = plan(bench, "border")["plan"]
    assert bench.state()["trusted"] is True
    assert verify(bench, number)["equal"] is True
    assert write(bench, number, "x")["verified"] is True
    bench.close()


@pytest.mark.parametrize("trust", [False, True])
def test_view_passes_trust_on(reading, tmp_path, trust):
    with gs.view(reading, outputs="border", folder=tmp_path, trust=trust) as viewer:
        bench = viewer._server.workbench
        answer = verify(bench, plan(bench, "border")["plan"])
    assert answer.get("equal") is (True if trust else None)
    assert ("reaches outside itself" in answer.get("error", "")) is not trust


# rewritten splits


@pytest.fixture(scope="module")
def fused_folder(tmp_path_factory):
    """The demo's detector, split with its non-maximum suppression fused."""
    from graphsplit.rewrites.opening import plan_model

    planned = plan_model(gs.load("demo"), fuse_nms=True)
    parts = gs.split(planned.model, planned.plan)
    assert [r["name"] for r in parts.rewrites] == ["fuse_nms"]
    return gs.save(parts, tmp_path_factory.mktemp("fused") / "out")


def test_a_rewritten_split_is_shown_as_it_is_in_its_files(fused_folder, tmp_path):
    bench = Workbench(open_model(fused_folder), tmp_path)
    state = bench.state()
    shown = bench.plan(as_request({"cut": state["cut"], "repair": state["repair"]}, PlanRequest))
    # In a file every tensor that enters is a placeholder; in the plan it belongs to the section that produces it, or to none.
    files = {p.name: len(p.model.index.nodes) - len(p.inputs) for p in gs.load_parts(fused_folder)}
    assert {s["name"]: s["nodes"] for s in shown["sections"]} == files
    drawn = {n["label"] for n in bench.graph(shown["plan"])["graphs"][0]["nodes"]}
    in_files = {n.op for p in gs.load_parts(fused_folder) for n in p.model.index.nodes if n.kind == "op"}
    assert in_files <= drawn
    assert verify(bench, shown["plan"])["equal"] is True  # compared with the model as it was exported
    bench.close()


# files


def test_a_split_is_verified_and_written_into_the_folder(bench, tmp_path):
    number = plan(bench, "net/head")["plan"]
    answer = write(bench, number, "mine")
    assert answer["verified"] is True
    assert answer["files"] == ["m_main.pb", "m_post.pb", "split.json"]
    assert gs.load_parts(tmp_path / "into" / "mine").borders == ("net/head:0",)
    with pytest.raises(gs.OverwriteError, match="exist already; choose another name"):
        write(bench, number, "mine")


def test_a_crop_file_is_saved_and_read_again(bench, model, tmp_path):
    written = save_crop(bench, "mine", "net/head", inputs=["net/conv/a"])
    assert written == str(tmp_path / "into" / "mine.json")
    assert gs.plan(model, crop_file=written) == gs.plan(model, inputs="net/conv/a", outputs="net/head")
    before = (tmp_path / "into" / "mine.json").read_bytes()
    with pytest.raises(gs.OverwriteError, match="choose another name"):
        save_crop(bench, "mine.json", "net/conv/b")
    assert (tmp_path / "into" / "mine.json").read_bytes() == before
    with pytest.raises(gs.CutError, match="no border tensors, so there is nothing to save"):
        save_crop(bench, "none")
    with pytest.raises(gs.CutError, match="holds one cut; split into a folder"):
        bench.save_crop(as_request({"cut": {"ends": [["net/conv/a"], ["net/head"]]}, "name": "none"}, CropRequest))


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "a/b", "a\\b", "..", ".", "", " ", ".hidden", "x\0y", "x\ny", "a" * 200, "C:x", "~", "-rf", "x."]
)
def test_a_name_is_a_plain_file_name(bench, tmp_path, name):
    number = plan(bench, "net/head")["plan"]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(gs.GraphSplitError, match=r"is not a plain file name; use letters, digits"):
        write(bench, number, name)
    with pytest.raises(gs.GraphSplitError, match=r"is not a plain file name; use letters, digits"):
        save_crop(bench, name, "net/head")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_out_of_the_folder_is_not_followed(bench, tmp_path):
    folder = tmp_path / "into"
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "file.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(gs.OverwriteError, match="is a link"):
        write(bench, plan(bench, "net/head")["plan"], "link")
    with pytest.raises(gs.OverwriteError, match="exists already"):
        save_crop(bench, "file", "net/head")
    assert not (tmp_path / "gone.json").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


# jobs


def test_an_error_in_a_job_is_reported_and_the_next_one_runs():
    jobs = Jobs()

    def fail():
        raise ValueError("odd")

    first, second = jobs.start(fail), jobs.start(lambda: {"fine": 1})
    while not (jobs.state(second) or {})["done"]:
        time.sleep(0.01)
    assert jobs.state(first) == {"done": True, "error": "ValueError: odd"}
    assert jobs.state(second) == {"done": True, "fine": 1}
    assert jobs.state("other") is None
    jobs.close()


# the explorer's graph


def test_sections_are_groups_with_borders_between_them_and_constants_are_folded(demo_model):
    planned = gs.plan(demo_model)
    graph = graph_of(demo_model, planned, demo_model.index.tensors.__getitem__)["graphs"][0]
    nodes = {n["id"]: n for n in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    assert {n["namespace"].partition("/")[0] for n in graph["nodes"]} == {"", "main", "post"}
    assert {g["namespaceRegex"] for g in graph["groupNodeConfigs"]} == {"^main$", "^post$"}
    assert all(e["sourceNodeId"] in nodes for n in graph["nodes"] for e in n["incomingEdges"])
    assert not any(n["label"] == "Const" for n in graph["nodes"])
    for tensor in planned.borders:
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


def test_a_selected_node_represents_its_tensors(bench, model):
    assert tensors_of_node(model, "main::net/head") == ("net/head:0",)
    assert tensors_of_node(model, "tensor::net/head:0") == ("net/head:0",)
    for group in ("main", "main/net", "", "tensor::gone", "main::gone"):
        assert tensors_of_node(model, group) == ()
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
    answer = plan(bench, inner)
    assert [s["name"] for s in answer["sections"]] == ["main", "post"]
    assert None not in [b["bytes"] for b in answer["borders"]]
    assert len(bench.graph(answer["plan"])["graphs"][0]["nodes"]) > 50
    bench.close()
