"""The notebooks: they run, and what is committed has the cells and the kinds of outputs that a run has."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the extra `test` installs what runs notebooks")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parent.parent


def _load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


notebooks = _load_script("run_notebooks")
by_notebook = pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda p: p.stem)


def _read(path):
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert len(notebooks.NOTEBOOKS) == 6


@by_notebook
def test_a_run_has_the_outputs_that_are_committed(path):
    run = notebooks.run(path)
    assert notebooks.problems(run) == []
    assert notebooks.structure(run) == notebooks.structure(_read(path)), f"python scripts/run_notebooks.py notebooks/{path.name}"


@by_notebook
def test_what_is_committed_can_be_shown(path):
    committed = _read(path)
    nbformat.validate(committed)
    assert notebooks.problems(committed) == []
    cells = [c for c in committed.cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert any(c.outputs for c in cells)


@by_notebook
def test_nothing_of_the_machine_is_committed(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|root|work|Users)/\w", text)
    assert "iopub" not in text


@by_notebook
def test_pictures_fit(path):
    for cell in _read(path).cells:
        for output in cell.get("outputs", ()):
            for picture in re.findall(r"<svg [^>]*>", output.get("data", {}).get("text/html", "")):
                assert "viewBox" in picture, "a picture without a viewBox cannot be scaled to the column"
            if "image/png" in output.get("data", {}):
                assert _width_of(output.data["image/png"]) <= 1000


def _width_of(png):
    import base64

    return int.from_bytes(base64.b64decode(png)[16:20], "big")


# The script itself: what it would let through, and what it must not.


def _notebook(*outputs):
    cell = nbformat.v4.new_code_cell("x", id="cell-0")
    cell.outputs = list(outputs)
    return nbformat.v4.new_notebook(cells=[cell])


def _stream(text, name="stderr"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_a_log_line_of_tensorflow_is_left_out_and_a_warning_is_a_problem():
    log = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    log += "I0000 00:00:17 1 port.cc:1] oneDNN\n"
    log += "2026-01-01 00:00:00.000001: I tensorflow/core/x.cc:1] hello\nINFO:tensorflow:Assets written to: x/assets\n"
    notebook = _notebook(_stream(log))
    notebooks.clean(notebook, folders=())
    assert notebook.cells[0].outputs == []
    notebook = _notebook(_stream(log + "UserWarning: look here\n"))
    notebooks.clean(notebook, folders=())
    assert notebooks.problems(notebook) == ["cell 0 prints to stderr: UserWarning: look here\n"]


@pytest.mark.parametrize("shown", ["<Figure size 900x220 with 1 Axes>", "<graphsplit.X object at 0x7f12>"])
def test_an_object_that_does_not_show_itself_is_a_problem(shown):
    output = nbformat.v4.new_output("execute_result", data={"text/plain": shown}, execution_count=1)
    assert notebooks.problems(_notebook(output)) == [f"cell 0 shows {shown}"]


def test_an_error_and_a_notebook_that_is_too_large_are_problems():
    assert notebooks.problems(_notebook(nbformat.v4.new_output("error", ename="E", evalue="no", traceback=[]))) == [
        "cell 0 raises E: no"
    ]
    (large,) = notebooks.problems(_notebook(_stream("x" * 1_100_000, name="stdout")))
    assert "bytes, more than 1,000,000" in large


def test_text_that_came_in_pieces_is_one_output_and_folders_are_left_out():
    notebook = _notebook(_stream("a /x/y", "stdout"), _stream("/z\n", "stdout"))
    notebooks.clean(notebook, folders=("/x/y",))
    assert [o.text for o in notebook.cells[0].outputs] == ["a z\n"]
