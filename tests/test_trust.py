"""A section that reaches outside itself is refused at every door, even beside a harmless whole, and runs with trust=True.

whole   x ─▶ border ─▶ y
parts   x ─▶ border │ border ─▶ y, and ReadFile of a file on this machine
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.errors import TrustError
from graphsplit.exports import export
from graphsplit.formats import GraphDefModel
from graphsplit.inference.sessions import open_named, open_session
from graphsplit.parts.parts import Part, Parts
from graphsplit.rewrites.proof import prove_samples, verify_rewrite
from graphsplit.rewrites.samples import Samples
from tests.graphs import const, model, node, placeholder

HERE = {"main": "/cpu:0", "post": "/cpu:0"}
X = {"x:0": np.ones((1, 4), np.float32)}
PACKAGE = Path(gs.__file__).parent


def harmless() -> GraphDefModel:
    return model(placeholder("x", [None, 4]), node("border", "Neg", "x"), node("y", "Neg", "border"))


def hostile(part: Part, output: str, read: str) -> Part:
    """The same section with one more node that its output waits for: it reads a file."""
    graph = part.graph_def
    next(n for n in graph.node if n.name == output).input.append("^spy")
    graph.node.extend([const("spied", read.encode(), object), node("spy", "ReadFile", "spied")])
    return replace(part, model=GraphDefModel([graph.SerializeToString()], output_names=[f"{output}:0"]))


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    (tmp_path / "secret").write_text("secret")
    whole = gs.split(harmless(), outputs="border", devices=HERE)
    return replace(whole, sections=(whole["main"], hostile(whole["post"], "y", str(tmp_path / "secret"))))


def run_pipeline(parts: Parts, trust: bool) -> Any:
    with gs.Pipeline(parts, trust=trust) as pipe:
        return pipe.run(X)["y:0"]


def run_placed(parts: Parts, trust: bool) -> Any:
    return gs.place(parts, trust=trust).run(X)["y:0"]


def run_between_callbacks(parts: Parts, trust: bool) -> Any:
    outputs: list[Any] = []
    with gs.AsyncRunner(parts["main"], trust=trust) as runner:
        runner.set_postprocessing_model(parts["post"])
        runner.connect_input(lambda: iter([X["x:0"]]))
        runner.connect_output(outputs.append)
        runner.wait()
    return outputs[0]


def run_streams(parts: Parts, trust: bool) -> Any:
    outputs: list[Any] = []
    with gs.MultiStreamRunner(parts["main"], trust=trust) as runner:
        runner.set_postprocessing_model(parts["post"])
        runner.connect_streams(lambda stream: iter([X["x:0"]]), lambda stream, y: outputs.append(y), 1)
        runner.wait()
    return outputs[0]


def run_verify(parts: Parts, trust: bool) -> Any:
    gs.verify(harmless(), parts, trust=trust).check()
    return X["x:0"]


def run_session(parts: Parts, trust: bool) -> Any:
    post = parts["post"]
    return open_session(post.model, trust=trust).run({post.inputs[0].name: -X["x:0"]}, [post.outputs[0].name])[0]


def run_named(parts: Parts, trust: bool) -> Any:
    post = parts["post"]
    session = open_named(post.model, "the section", "post", trust=trust)
    return session.run({post.inputs[0].name: -X["x:0"]}, [post.outputs[0].name])[0]


def run_bench(parts: Parts, trust: bool) -> Any:
    gs.bench(parts, X, frames=2, trust=trust)
    return X["x:0"]


@pytest.mark.parametrize(
    "door",
    [run_pipeline, run_placed, run_between_callbacks, run_streams, run_verify, run_session, run_named, run_bench],
    ids=lambda door: door.__name__,
)
def test_a_hostile_section_beside_a_harmless_whole_runs_with_trust_only(parts: Parts, door: Callable[[Parts, bool], Any]):
    with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
        door(parts, False)
    np.testing.assert_array_equal(door(parts, True), X["x:0"])


def test_a_split_folder_is_not_trusted_either(parts: Parts, tmp_path: Path):
    gs.save(parts, tmp_path / "out")
    for door in (gs.Pipeline, gs.place):
        with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
            door(tmp_path / "out")
    with gs.Pipeline(tmp_path / "out", trust=True) as pipe:
        np.testing.assert_array_equal(pipe.run(X)["y:0"], X["x:0"])
    np.testing.assert_array_equal(gs.place(str(tmp_path / "out"), trust=True).run(X)["y:0"], X["x:0"])


@pytest.mark.parametrize("section", [None, "post"])
def test_an_export_is_neither_written_nor_compared_without_trust(parts: Parts, tmp_path: Path, section: str | None):
    with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
        export(parts, tmp_path / "saved", to="saved_model", section=section)
    assert not (tmp_path / "saved").exists()
    assert export(parts, tmp_path / "saved", to="saved_model", section=section, trust=True).report.equal


def test_a_section_before_the_exported_one_is_not_run_without_trust(parts: Parts, tmp_path: Path):
    spying = hostile(gs.split(harmless(), outputs="border")["main"], "border", str(tmp_path / "secret"))
    clean = gs.split(harmless(), outputs="border", devices=HERE)
    turned = replace(clean, sections=(spying, clean["post"]))
    with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
        export(turned, tmp_path / "saved", to="saved_model", section="post")
    assert export(turned, tmp_path / "saved", to="saved_model", section="post", trust=True).report.equal


def test_a_rewrite_is_not_proven_without_trust(tmp_path: Path):
    from graphsplit.rewrites.rewriting import rewrite

    (tmp_path / "secret").write_text("secret")
    spying = model(
        placeholder("x", [None, 4]),
        const("spied", str(tmp_path / "secret").encode(), object),
        node("spy", "ReadFile", "spied"),
        node("y", "Neg", "x", "^spy"),
    )
    rewritten = rewrite(spying)
    with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
        verify_rewrite(rewritten)
    assert verify_rewrite(rewritten, trust=True).equal
    samples = Samples(lambda number: X, ("y:0",))
    with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
        prove_samples(rewritten, "nothing", "nowhere", samples, 1)
    assert prove_samples(rewritten, "nothing", "nowhere", samples, 1, trust=True).equal


# Detectors and batches decode what a model returns, so their whole is a detector


@pytest.fixture(scope="module")
def detector_parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    from graphsplit.demo import data as demo_data

    folder = tmp_path_factory.mktemp("detector")
    (folder / "secret").write_text("secret")
    parts = gs.split(gs.load(Path(str(demo_data.model()))), devices=HERE)
    output = parts["post"].outputs[0].name.partition(":")[0]
    return replace(parts, sections=(parts["main"], hostile(parts["post"], output, str(folder / "secret"))))


def test_a_detector_runs_a_hostile_section_with_trust_only(detector_parts: Parts):
    picture = np.zeros((96, 96, 3), np.uint8)
    with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
        gs.Detector(detector_parts)
    with gs.Detector(detector_parts, trust=True) as detector:
        detector.detect(picture)


def test_a_batch_runs_a_hostile_section_with_trust_only(detector_parts: Parts, tmp_path: Path):
    from graphsplit.batching import run_batch

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(tf.io.encode_png(np.zeros((96, 96, 3), np.uint8)).numpy())
    with pytest.raises(TrustError, match=r"spy \(ReadFile\)"):
        run_batch(detector_parts, [tmp_path / "in"], tmp_path / "refused")
    assert run_batch(detector_parts, [tmp_path / "in"], tmp_path / "out", trust=True).answered == 1


# The rule itself


SESSIONS = {"TensorFlowSession", "LiteRTSession", "RemoteSession"}


def test_sessions_are_opened_by_one_module_which_checks_trust():
    """The classes of sessions are used in runtimes/ and by the adapters; adapters open for `inference.sessions` alone."""
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        if where.parts[0] != "runtimes" and not where.name.endswith("_adapter.py"):
            assert not names & SESSIONS, f"{where} uses {names & SESSIONS}; open_session checks trust"
        opens = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "open"]
        if any(isinstance(n.value, ast.Call) and getattr(n.value.func, "id", "") == "runtime_of" for n in opens):
            assert where == Path("inference/sessions.py"), f"{where} opens a session without a check of trust"
