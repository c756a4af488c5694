"""The workbench with targets: choices, refused ops, suggestions, a compiler that is asked, and commands to paste."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.cli.arguments import parse, plan_options_of
from graphsplit.viewer.commands import split_command
from graphsplit.viewer.explorer_graph import node_data
from graphsplit.viewer.requests import FitRequest, PlanRequest, SplitRequest, StudyRequest, as_request
from graphsplit.viewer.session import ChosenCut, cut_of, open_model
from graphsplit.viewer.targets import target_key
from graphsplit.viewer.workbench import Workbench
from tests.quantised import network, refusing, target_file
from tests.viewer.conftest import chain


@pytest.fixture
def net(tmp_path: Path) -> gs.Model:
    """x ─▶ alpha ─▶ beta ─▶ gamma ─▶ delta ─▶ y (Decoder)"""
    path = tmp_path / "net.tflite"
    path.write_bytes(network("alpha", "beta", "gamma", "delta", custom="Decoder"))
    return gs.load(path)


def opened(model, folder: Path, *, trust: bool = False, **cut) -> Workbench:
    (folder / "into").mkdir()
    return Workbench(open_model(model, **cut), folder / "into", trust=trust)


def done(bench, job):
    end = time.monotonic() + 60
    while not (answer := bench.job(job))["done"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    return answer


def replan(bench, cut, target):
    ends = [[t["tensor"] for t in end] for end in cut["ends"]]
    return bench.plan(as_request({"cut": {"inputs": cut["inputs"], "ends": ends}, "target": target}, PlanRequest))


def test_targets_that_do_not_fit_are_named_with_the_reason(model, net, tmp_path):
    bench = opened(model, tmp_path)
    choices = {c["key"]: c for c in bench.state()["targets"]}
    assert set(choices) == {"edgetpu", "ethos-u55", "ethos-u65", "ethos-u85", "openvino", "qualcomm-htp"}
    assert {key for key, c in choices.items() if not c["unfit"]} == {"openvino"}
    assert "reads tflite" in choices["ethos-u55"]["unfit"]
    with pytest.raises(gs.GraphSplitError, match="ethos-u55 reads tflite"):
        bench.study(StudyRequest(target="ethos-u55"))
    bench.close()
    (tmp_path / "other").mkdir()
    tflite = opened(net, tmp_path / "other")
    assert not any(c["unfit"] for c in tflite.state()["targets"])
    tflite.close()


def test_a_request_cannot_name_a_file_and_runs_no_command(net, tmp_path):
    ran = tmp_path / "ran"
    path = target_file(tmp_path, f"open({str(ran)!r}, 'w')")
    bench = opened(net, tmp_path)
    for name in (str(path), f"../{path.name}", path.name, "", "nothing", "ethos-u55.json", "ETHOS-U55", "ethos-u55 "):
        for ask in (
            lambda name=name: bench.fit(as_request({"target": name}, FitRequest)),
            lambda name=name: bench.study(as_request({"target": name}, StudyRequest)),
            lambda name=name: bench.plan(as_request({"cut": {}, "target": name}, PlanRequest)),
        ):
            with pytest.raises(gs.GraphSplitError, match="is not a target offered here; choose one of edgetpu"):
                ask()
    bench.close()
    assert not ran.exists()


def test_ops_that_the_table_refuses_are_coloured_with_the_reason(net, tmp_path):
    bench = opened(net, tmp_path, outputs="delta")
    plain, marked = (bench.plan(as_request({"cut": {"ends": [["delta"]]}, "target": t}, PlanRequest)) for t in (None, "ethos-u55"))
    reason = "Decoder is a custom op, which stays on the host"

    def nodes(planned):
        return {n["id"]: n for n in bench.graph(planned["plan"])["graphs"][0]["nodes"]}

    assert "style" not in nodes(plain)["post::y"]
    assert nodes(marked)["post::y"]["style"]["borderColor"] == "#a3262c"
    assert {"key": "refused", "value": f"by ethos-u55: {reason}"} in nodes(marked)["post::y"]["attrs"]
    assert "style" not in nodes(marked)["main::delta"]
    assert bench.selected("post::y", marked["plan"])["refused"] == f"ethos-u55 refuses it: {reason}"
    assert bench.selected("post::y", plain["plan"])["refused"] is None
    assert bench.selected("main::delta", marked["plan"])["refused"] is None
    assert marked["marks"] != plain["marks"] == ""
    assert [entry["name"] for entry in marked["legend"]] == ["main", "post", "refused by ethos-u55"]
    heat = node_data(net.index, {"y": 5, "delta": 7}, {"y": reason})["plan"]["results"]
    assert heat == {"delta": {"value": 7}}  # heat would cover the colour
    bench.close()


def test_suggestions_are_for_the_target_and_say_what_they_leave_on_the_host(net, tmp_path):
    path = target_file(tmp_path, ops={"FULLY_CONNECTED": "accelerator"})
    bench = opened(net, tmp_path, target=path, ask=False)
    assert bench.state()["target"] == str(path)
    found = done(bench, bench.study(StudyRequest(target=str(path)))["job"])
    first = found["cuts"][0]
    assert ([[t["tensor"] for t in end] for end in first["ends"]], first["share"], first["hosts"]) == ([["delta"]], 1, ["post"])
    assert found["table"]["refused"] == [
        {"op": "Decoder", "count": 1, "tensors": ["y"], "reason": "Decoder is a custom op, which stays on the host"}
    ]
    assert "table" not in done(bench, bench.study(StudyRequest())["job"])
    bench.close()


def test_the_three_choices_around_a_host_op_are_suggested_and_can_be_taken(tmp_path):
    """x ─▶ alpha ─▶ Odd ─▶ beta: a host op between layers."""
    from tests.formats.tflite.builder import Built
    from tests.quantised import Q, dense

    built = Built()
    x = built.main.tensor("x", [1, 16], "int8", quantization=Q)
    odd = built.main.tensor("odd", [1, 16], "int8", quantization=Q)
    built.main.op("Odd", [dense(built.main, x, "alpha")], [odd], custom=b"")
    built.main.ends([x], [dense(built.main, odd, "beta")])
    (tmp_path / "net.tflite").write_bytes(built.bytes())
    bench = opened(gs.load(tmp_path / "net.tflite"), tmp_path)
    cuts = done(bench, bench.study(StudyRequest(target="ethos-u55"))["job"])["cuts"]
    shares = {c["name"]: c["share"] for c in cuts}
    assert shares["islands"] == 1
    assert [share for name, share in shares.items() if name != "islands"] == [0.5, 0.5]
    islands = next(c for c in cuts if c["name"] == "islands")
    assert (list(islands["nodes"]), islands["hosts"]) == (["part_0", "part_1", "part_2"], ["part_1"])
    planned = replan(bench, islands, "ethos-u55")
    kept = bench._plans[planned["plan"]].plan
    assert list(kept.devices.values()) == ["/gpu:0", "/cpu:0", "/gpu:0"]
    assert shlex.split(planned["command"])[3:] == ["--target", "ethos-u55", "--islands", "--no-ask", "-o", "DIR"]
    bench.close()


@pytest.mark.parametrize("islands", [False, True])
def test_the_compiler_is_asked_and_its_cut_taken(net, tmp_path, islands):
    path = refusing(tmp_path, *(["delta", "beta"] if islands else ["delta"]))
    bench = opened(net, tmp_path, target=path, ask=False)
    found = done(bench, bench.fit(FitRequest(target=str(path), islands=islands))["job"])
    assert found["answer"]["whole"]
    assert found["answer"]["rounds"][0]["tied"][0]["reason"] == "too wide"
    assert found["cut"]["share"] == (0.5 if islands else 0.75)
    planned = replan(bench, found["cut"], str(path))
    assert planned["target"] == found["answer"]
    assert planned["target"]["summary"].startswith("fake takes ")
    ends = [[t["tensor"] for t in end] for end in found["cut"]["ends"]]
    assert ends == ([["alpha"], ["beta"], ["delta"]] if islands else [["gamma"]]) or islands
    assert bench.selected("post::delta", planned["plan"])["refused"] == "mine refuses it: too wide"
    written = done(bench, bench.split(SplitRequest(plan=planned["plan"], name="out", verify=False))["job"])
    answer = gs.load_parts(written["written"]).target
    assert answer is not None
    assert answer.taken == found["answer"]["taken"]
    expected = ["graphsplit", "split", str(net.path), "--target", str(path), *(["--islands"] if islands else []), "-o", "DIR"]
    assert shlex.split(planned["command"]) == expected
    assert replan(bench, found["cut"], None)["target"] is None  # without the target it is a cut like any other
    bench.close()


def test_a_failing_compiler_is_an_answer_of_the_job(net, tmp_path):
    path = target_file(tmp_path, "import sys; print('out of paper'); sys.exit(3)")
    bench = opened(net, tmp_path, target=path, ask=False)
    answer = done(bench, bench.fit(FitRequest(target=str(path)))["job"])
    assert "out of paper" in answer["error"]
    bench.close()


def test_a_split_that_was_made_for_a_target_shows_it(net, tmp_path):
    parts = gs.split(net, target="ethos-u55", ask=False)
    for what in (parts, gs.save(parts, tmp_path / "out")):
        session = open_model(what)
        assert session.target is not None
        assert target_key(session.target) == "ethos-u55"
        assert session.plan().target == parts.target
    assert open_model(net, planned=parts.plan).plan().target == parts.target


# commands


def pasted(command: str):
    """What the command line understands of a command, as options of `graphsplit.plan`."""
    program, *words = shlex.split(command)
    assert program == "graphsplit"
    return parse(words)


@pytest.mark.parametrize(
    "name", ["a,b", "a:0,b", "a b", "$(touch hit)", "-a", "--outputs", "a;b", "a'b", 'a"b', "a[0]", "`x`", "*", "ä"]
)
@pytest.mark.parametrize("repair", ["auto", "border"])
def test_a_command_parses_back_to_the_same_cut(tmp_path, name, repair):
    model = gs.load(chain(tmp_path / "m 'x'.pbtxt", "in", name.replace('"', '\\"'), "b", "end"))
    index = model.index
    for cut in (
        ChosenCut((), ((f"{name}:0",),), None, repair),
        ChosenCut(("in:0",), ((f"{name}:0",),), (f"{name}:0", "end:0"), repair),
        ChosenCut((), ((f"{name}:0",), ("b:0",)), None, repair),
    ):
        command, why = split_command(model, cut)
        assert (command is None) == bool(why)
        assert command is not None
        args = pasted(command)
        assert args.model == str(model.path)
        assert args.directory == "DIR"
        assert cut_of(gs.plan(model, shapes=False, **plan_options_of(args)), cut.model_outputs) == cut
    assert index.outputs == ("end:0",)


@pytest.mark.parametrize("name", ["a;b", "a,b", "a:1", "a [0]", "$(x)", "-o", "a'b\"c"])
def test_a_command_for_a_tflite_file_parses_back_too(tmp_path, name):
    (tmp_path / "net.tflite").write_bytes(network("first", name, "last", custom="Decoder"))
    model = gs.load(tmp_path / "net.tflite")
    cut = ChosenCut(("first",), ((name,),))
    command, _ = split_command(model, cut)
    assert command is not None
    assert cut_of(gs.plan(model, shapes=False, **plan_options_of(pasted(command))), None) == cut


def test_where_no_command_can_say_it_the_page_says_why(net, tmp_path):
    assert split_command(net, ChosenCut()) == (None, "nothing to split: one section")
    bell = gs.load(chain(tmp_path / "m.pbtxt", "a\\007b", "c"))
    (tensor,) = (t for t in bell.index.producer if t.startswith("a\x07"))
    assert split_command(bell, ChosenCut((), ((tensor,),)))[1].startswith("these names cannot be written")


def test_a_command_names_a_target_of_a_file_and_trust(net, tmp_path):
    folder = tmp_path / "with a blank; $(x)"
    folder.mkdir()
    path = target_file(folder)
    session = open_model(net, target=path)
    command, _ = split_command(net, session.cut, fitted=session.fitted, target=session.target, trust=True)
    assert command is not None
    args = pasted(command)
    assert (args.target, args.trust, args.no_ask) == (str(path), True, True)
    assert gs.plan(net, **plan_options_of(args)) == session.fitted


# pictures and tables


def test_pictures_pages_and_tables_show_the_target_and_the_share(net, tmp_path):
    from graphsplit.diagram.notebook import PICTURES, TABLES

    planned = gs.plan(net, target="ethos-u55", ask=False)
    said = "the table of ethos-u55 takes 4 of 4 ops of main"
    picture = gs.draw(net, planned)
    page = picture.save(tmp_path / "plan.html").read_text()
    shown = PICTURES["graphsplit.planning.plan", "Plan"](planned)
    for text in (picture.svg, page, shown):
        assert said in text
    for text in (page, shown):
        assert "Decoder is a custom op, which stays on the host" in text
    assert "left on the host" not in gs.draw(net, gs.plan(net, outputs="delta")).svg
    table = TABLES["graphsplit.splitting.suggestions", "Suggestions"](gs.suggest(net, target="ethos-u55"))
    assert "<th>multiplications in main</th>" in table
    assert "<td>100%</td>" in table
