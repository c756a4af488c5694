"""What IPython shows of each object, through IPython's own formatters, and what `repr` says where there is no notebook."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

import graphsplit as gs
from graphsplit.diagram.notebook import PICTURES, TABLES, register
from graphsplit.formats import GraphDefModel
from graphsplit.graph.text import flow_text
from graphsplit.planning.cuts import Cut
from graphsplit.planning.planner import plan_sections
from graphsplit.rewrites.proof import RewriteReport, SampleReport
from graphsplit.splitting.suggestions import Suggestion, Suggestions
from graphsplit.verification.equivalence import OutputReport, Report
from tests.viewer.conftest import chain

formatters = pytest.importorskip("IPython.core.formatters", reason="IPython shows these")


@pytest.fixture
def display() -> Any:
    """object → {MIME type: what a notebook shows of it}"""
    formatter = formatters.DisplayFormatter()
    register(SimpleNamespace(display_formatter=formatter))
    return lambda what: formatter.format(what)[0]


def svg_in(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def measured() -> Any:
    from graphsplit.benchmark.measure import BenchReport, Mode

    modes = {"whole": Mode(10.0, 100.0, 110.0), "sequential": Mode(9.0, 110.0, 120.0), "pipelined": Mode(18.5, 120.0, 130.0)}
    timeline = tuple(((i / 10, i / 10 + 0.05), (i / 10 + 0.05, i / 10 + 0.1)) for i in range(1000))
    return BenchReport(
        **modes, sections={"main": 54.0, "post": 46.0}, devices={"main": "/cpu:0", "post": "/cpu:0"}, efficiency=0.99, ratio=1.85,
        verdict="split", reason="1.85 times the frames", frames=100, threads=None, timeline=timeline,
    )  # fmt: skip


# pictures


def test_models_plans_and_parts_are_pictures(model, display):
    plan = gs.plan(model, outputs="net/head")
    parts = gs.split(model, plan)
    for what in (model, plan, parts, parts["post"]):
        shown = display(what)
        assert svg_in(shown["text/html"]).tag == ElementTree.fromstring(shown["image/svg+xml"]).tag
        assert "net/head" in shown["text/html"] + shown["image/svg+xml"]
        assert shown["text/plain"] == repr(what)
    assert "<td>image:0</td>" in display(model)["text/html"]
    assert "float32 [?, 4]" in display(parts)["image/svg+xml"]


def test_what_was_added_to_the_border_is_listed_under_the_picture(demo_model, display):
    plan = gs.plan(demo_model, outputs="Postprocessor/Slice")
    for what in (plan, gs.split(demo_model, plan, shapes=False)):
        assert f"<td>{plan.added[0].tensor}</td>" in display(what)["text/html"]


def test_a_plan_made_of_an_index_is_a_picture_too(model, display):
    plan = plan_sections(model.index, [Cut("main", ("net/head:0",))], last="post")
    assert "net/head:0" in display(plan)["image/svg+xml"]


def test_a_model_made_in_memory_and_a_rewritten_one_are_pictures(demo_model, display):
    made = gs.rewrite(demo_model, fuse_nms=True)
    assert f"{len(made.index.nodes):,} nodes" in display(made)["text/html"]
    part = gs.split(made, shapes=False)["post"].model
    assert part.path is None
    assert "<b>model</b>" in display(part)["text/html"]


def test_a_damaged_graph_is_shown_as_its_repr(display):
    broken = GraphDefModel([b"\xff\xff\xff"])
    assert display(broken) == {"text/plain": repr(broken)}
    assert repr(broken) == "<GraphDefModel: damaged>"


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a&b<c>\"d'"])
def test_a_hostile_name_stays_a_name(tmp_path, display, hostile):
    quoted = hostile.replace('"', '\\"').replace("'", "\\'")
    model = gs.load(chain(tmp_path / "m.pbtxt", "b", quoted))
    plan = gs.plan(model, outputs="b")
    for what in (model, model.index, plan, gs.split(model, plan, shapes=False)):
        html = display(what)["text/html"]
        assert hostile not in html
        assert "<script" not in html


# tables


def test_an_index_is_a_table_of_its_inputs_outputs_and_ops(demo_model, display):
    html = display(demo_model.index)["text/html"]
    for cell in ("image_tensor:0", "detection_boxes:0", "Const", "12 other ops"):
        assert f"<td>{cell}" in html or cell.startswith("12")
    assert "other ops</td>" in html
    assert "<svg" not in html


def test_suggestions_are_a_table_of_cuts(demo_model, display):
    html = display(gs.suggest(demo_model, limit=2))["text/html"]
    assert html.count("<tr>") == 3
    assert "Postprocessor/Slice:0 float32 [?, " in html
    empty = display(Suggestions((), "no neural op <here>"))["text/html"]
    assert empty == "<p>nothing to cut: no neural op &lt;here&gt;</p>"


def test_what_runs_is_a_table_of_sections_and_devices(model, display):
    parts = gs.split(model, outputs="net/head", devices={"main": "/cpu:0"})
    with gs.Pipeline(parts) as pipe:
        assert "<td>main</td><td>/cpu:0</td><td>image:0</td><td>net/head:0</td>" in display(pipe)["text/html"]
    assert "<td>post</td><td>/cpu:0</td><td>net/head:0</td><td>post/out:0</td>" in display(gs.place(parts))["text/html"]


def test_a_device_that_is_not_there_is_marked(model, display):
    with pytest.warns(UserWarning, match="this machine lacks"):
        placed = gs.place(gs.split(model, outputs="net/head"), {"main": "/gpu:7"})
    assert "<td>/gpu:7 (not on this machine)</td>" in display(placed)["text/html"]


def test_a_report_is_a_table_of_outputs(model, display):
    report = gs.verify(model, gs.split(model, outputs="net/head"))
    html = display(report)["text/html"]
    assert "✔ 1 output equal bit for bit" in html
    assert "<td>post/out:0</td><td>float32</td>" in html
    wrong = replace(report, equal=False, outputs=(replace(report.outputs[0], equal=False, max_abs_error=0.5),))
    assert "differs by up to 0.5</td>" in display(wrong)["text/html"]


def test_an_export_is_a_table_of_keys(model, display, tmp_path):
    exported = gs.export(model, tmp_path / "saved", to="saved_model")
    html = display(exported)["text/html"]
    assert "<td>output</td><td>post_out</td><td>post_out</td><td>post/out:0</td>" in html
    assert "bit for bit" in html
    unproven = gs.export(model, tmp_path / "other", to="saved_model", verify=False)
    assert "not compared with its source" in display(unproven)["text/html"]


def test_the_proof_of_a_rewrite_is_two_tables(model, display):
    whole = gs.verify(model, gs.split(model, outputs="net/head"))
    samples = (SampleReport("fuse_nms", "nms/<1>", 18, True), SampleReport("fuse_nms", "nms/2", 3, False, "differs at sample 2"))
    html = display(RewriteReport(whole, samples))["text/html"]
    assert "<td>nms/&lt;1&gt;</td><td>18</td><td>equal</td>" in html
    assert "<td>differs at sample 2</td>" in html


def test_a_measurement_is_a_table_of_modes_and_sections(display):
    html = display(measured())["text/html"]
    assert "<b>split: 1.85 times the frames</b>" in html
    assert "<td>pipelined</td><td>18.5</td><td>120.0</td><td>130.0</td>" in html
    assert "<td>main</td><td>/cpu:0</td><td>54.0</td>" in html


def test_a_detector_is_a_table_of_its_sections(demo_model, display):
    pytest.importorskip("supervision", reason="detection needs the extra `detect`")
    with gs.Detector(demo_model, threshold=0.4, devices={"main": "/cpu:0"}) as detector:
        html = display(detector)["text/html"]
        assert len(repr(detector)) < 400
    assert "<td>section main</td><td>/cpu:0</td>" in html
    assert "<td>threshold</td><td>0.4</td>" in html


# registration


@pytest.mark.parametrize(("module", "name"), [*PICTURES, *TABLES], ids=lambda text: text.rpartition(".")[2])
def test_every_registered_class_is_where_it_is_said_to_be(module, name):
    assert getattr(importlib.import_module(module), name).__module__ == module


SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()\n"
SHOW = """
import sys, graphsplit as gs
{load}
plan = gs.plan(gs.load({model!r}), outputs="net/head")
shown = shell.display_formatter.format(plan)[0]
print("image/svg+xml" in shown and "<svg" in shown["text/html"], "tensorflow" in sys.modules)
"""


def ran(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_graphsplit_in_a_notebook_is_enough_and_imports_no_framework(model):
    assert ran(SHELL + SHOW.format(load="", model=str(model.path))) == "True False"


def test_a_shell_that_starts_later_loads_it_as_an_extension(model):
    load = SHELL + "shell.run_line_magic('load_ext', 'graphsplit')"
    assert ran(SHOW.format(load=load, model=str(model.path))) == "True False"


def test_importing_graphsplit_elsewhere_imports_no_display():
    code = "import sys, graphsplit; print([m for m in sys.modules if m == 'IPython' or m.startswith('graphsplit.diagram')])"
    assert ran(code) == "[]"
    assert ran("import IPython\n" + code) == "['IPython']"


# without a notebook


def test_every_repr_fits_in_a_few_lines(demo_model):
    plan = gs.plan(demo_model)
    parts = gs.split(demo_model, plan)
    suggestions = gs.suggest(demo_model)
    report = gs.verify(demo_model, parts)
    several = [
        demo_model, demo_model.index, plan, *plan.sections, parts, *parts, suggestions, *suggestions, report, *report.outputs,
        gs.draw(plan), gs.rewrite(demo_model, fuse_nms=True), RewriteReport(report, ()), measured(),
    ]  # fmt: skip
    long = {type(what).__name__: len(repr(what)) for what in several if len(repr(what)) >= 400 or "\n" in repr(what)}
    assert not long
    assert repr(demo_model.index) == "GraphIndex(1664 nodes, 1 input, 4 outputs, 2 groups)"
    assert repr(plan) == "Plan(main 990 nodes → 3 tensors → post 673 nodes)"


def test_long_names_do_not_make_a_long_repr(tmp_path):
    long = "scope/" * 200
    model = gs.load(chain(tmp_path / "m.pbtxt", f"{long}a", f"{long}b", f"{long}c"))
    spec = model.index.tensors[f"{long}a:0"]
    cut = Suggestion("autocrop", "minimum cut", (), (spec,) * 9, 5000, (), {}, long)
    output = OutputReport(f"{long}c:0", "float32", (1,), False, 0.5, 0.5, "")
    plan = gs.plan(model, outputs=f"{long}a")
    for what in (
        plan,
        plan["main"],
        gs.split(model, plan, shapes=False),
        cut,
        Suggestions((cut,) * 9, long),
        Report(False, 1, (output,)),
    ):
        assert len(repr(what)) < 400


def test_sections_in_a_row_are_told_with_what_crosses_between_them():
    three = [("a", ["x"], ["s", "t"]), ("b", ["s"], ["u"]), ("c", ["t", "u"], ["y"])]
    assert flow_text(three) == "a → 2 tensors → b → 2 tensors → c"
    assert flow_text(three[:1]) == "a"
    assert flow_text([]) == ""
    many = [(f"part_{i}", [f"t{i}"], [f"t{i + 1}"]) for i in range(100)]
    assert flow_text(many).endswith("part_3 → … → 1 tensor → part_99")


def test_a_pickled_plan_is_the_same_plan(model):
    plan = plan_sections(model.index, [Cut("main", ("net/head:0",))], last="post")
    assert pickle.loads(pickle.dumps(plan)) == plan
