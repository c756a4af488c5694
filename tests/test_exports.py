"""Exports: what is written is what the source computes, deploys, and is there whole or not at all.

x ─▶ doubled ─▶ top:0, top:1 ─▶ … ─▶ y, early      (the graph of tests/test_folder.py, cut behind top)
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.demo import data as demo_data
from graphsplit.exports import targets, tflite
from graphsplit.exports.joining import join
from graphsplit.exports.signature_keys import signature_keys
from graphsplit.formats.atomic import landing
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.inference.feeds import made_feeds
from graphsplit.inference.sessions import open_session
from tests import graphs
from tests.shared import shared_model
from tests.test_folder import GRAPH, state

X = np.arange(16, dtype=np.float32).reshape(2, 8)


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.pb").write_bytes(GRAPH)
    return gs.split(gs.load(tmp_path / "models" / "x.pb"), outputs="top:0,top:1", repair="border")


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    """The demo's detector with its main section converted, as `graphsplit.save` writes it."""
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path_factory.mktemp("demo")
    exported = gs.export(gs.split(gs.load(demo_data.model())), folder / "main.tflite", to="tflite", section="main")
    gs.save(exported.parts, folder / "mixed")
    return folder, exported


def serve(folder, **feeds):
    """What a client of TensorFlow 2 gets from a SavedModel."""
    found = tf.saved_model.load(str(folder)).signatures["serving_default"](**{k: tf.constant(v) for k, v in feeds.items()})
    return {key: value.numpy() for key, value in found.items()}


def run(model, feeds, fetches):
    session = open_session(model, optimize=False)
    try:
        return session.run(feeds, fetches)
    finally:
        session.close()


# keys


@pytest.mark.parametrize(
    ("tensors", "keys"),
    [
        (["image_tensor:0"], ["image_tensor"]),
        (["Postprocessor/Slice:0", "top:1"], ["Postprocessor_Slice", "top_1"]),
        (["a/b:0", "a_b:0", "a.b:0"], ["a_b", "a_b_2", "a_b_3"]),
        (["a:2", "a_2:0"], ["a_2", "a_2_2"]),
        (["3d/box:0", "_x:0", "größe:0", ":0"], ["t3d_box", "t_x", "gr__e", "t"]),
        (["class:0", "self:0"], ["class_", "self_"]),
        (["no_port", "a;b:c"], ["no_port", "a_b_c"]),
    ],
)
def test_keys_are_names_that_any_client_can_write_and_none_repeats(tensors, keys):
    assert list(signature_keys(tensors).values()) == keys


def test_a_tensor_has_one_key_wherever_it_stands():
    assert signature_keys(["x:0", "y:0", "x:0"]) == {"x:0": "x", "y:0": "y"}


# SavedModels


def test_a_saved_model_of_the_whole_gives_what_the_model_gives(parts, tmp_path):
    whole = parts.source.model
    exported = gs.export(whole, tmp_path / "out", to="saved_model")
    assert (exported.section, exported.report.equal, exported.report.max_abs_error) == (None, True, 0.0)
    assert [(p.tensor, p.key, p.dtype) for p in exported.outputs] == [("y:0", "y", "float32"), ("early:0", "early", "float32")]
    y, early = run(whole, {"x:0": X}, ["y:0", "early:0"])
    found = serve(tmp_path / "out", x=X)
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["early"], early)


def test_a_section_is_served_by_keys_made_of_its_border_tensors(parts, tmp_path):
    exported = gs.export(parts, tmp_path / "post", to="saved_model", section="post")
    assert {p.tensor: p.key for p in exported.inputs} == {"doubled:0": "doubled", "top:0": "top", "top:1": "top_1"}
    top, which, doubled = run(parts.source.model, {"x:0": X}, ["top:0", "top:1", "doubled:0"])
    (y,) = run(parts.source.model, {"x:0": X}, ["y:0"])
    np.testing.assert_array_equal(serve(tmp_path / "post", doubled=doubled, top=top, top_1=which)["y"], y)


def test_the_signature_states_the_sizes_of_border_tensors(tmp_path):
    """An import alone loses the 2,152 anchors at the first Reshape."""
    exported = gs.export(gs.load(demo_data.model()), tmp_path / "main", to="saved_model", section="main")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "main")).signature_def["serving_default"]
    assert [d.size for d in signature.outputs["Postprocessor_Slice"].tensor_shape.dim] == [-1, 2152, 8]
    assert [d.size for d in signature.inputs["image_tensor"].tensor_shape.dim] == [-1, -1, -1, 3]
    assert signature.method_name == "tensorflow/serving/predict"
    assert exported.report.runs == 2


def test_the_sections_of_a_folder_are_joined_into_one_saved_model(parts, tmp_path):
    gs.save(parts, tmp_path / "split")
    exported = gs.export(tmp_path / "split", tmp_path / "served", to="saved_model")
    assert [p.tensor for p in exported.inputs] == ["x:0"]
    assert [p.tensor for p in exported.outputs] == ["y:0", "early:0"]
    y, early = run(parts.source.model, {"x:0": X}, ["y:0", "early:0"])
    found = serve(tmp_path / "served", x=X)
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["early"], early)


@pytest.mark.parametrize("outputs", ["top:0,top:1", "relu", [["doubled"], ["top", "top:1"], ["relu"]]])
def test_joined_sections_compute_the_whole(outputs):
    whole = GraphDefModel([GRAPH])
    split = gs.split(whole, outputs=outputs)
    model, names = join(split.sections, split.outputs)
    assert list(model.index.inputs) == ["x:0"]
    for exported, expected in zip(
        run(model, {names["x:0"]: X}, [names[t] for t in split.outputs]), run(whole, {"x:0": X}, split.outputs), strict=True
    ):
        np.testing.assert_array_equal(exported, expected)


def test_a_section_is_compared_on_what_the_sections_before_it_make(tmp_path):
    """x ─▶ top:1 ─▶ +5 ─▶ index ─▶ -5 ─▶ Gather: a synthetic index would be outside of the table."""
    whole = graphs.model(
        graphs.placeholder("x", [None, 2]),
        graphs.const("k", 1),
        graphs.node("top", "TopKV2", "x", "k", sorted=True),
        graphs.const("lift", 5),
        graphs.node("index", "AddV2", "top:1", "lift", T=tf.int32),
        graphs.const("table", np.arange(7.0)),
        graphs.const("axis", 0),
        graphs.const("drop", -5),
        graphs.node("place", "AddV2", "index", "drop", T=tf.int32),
        graphs.node("y", "GatherV2", "table", "place", "axis", Tparams=tf.float32, Tindices=tf.int32, Taxis=tf.int32),
    )
    split = gs.split(whole, outputs="index")
    exported = gs.export(split, tmp_path / "post", to="saved_model", section="post")
    assert exported.report.runs == 2
    fed = np.array([[5]], np.int32)
    assert gs.export(split, tmp_path / "again", to="saved_model", section="post", feeds={"index:0": fed}).report.feeds == (
        "index:0 int32[1, 1]",
    )


def test_the_same_model_gives_the_same_bytes(parts, tmp_path):
    for name in ("one", "two"):
        gs.export(parts, tmp_path / name, to="saved_model", section="main", verify=False)
    assert state_of(tmp_path / "one") == state_of(tmp_path / "two")


def state_of(folder):
    return {k: content for k, (content, _, _) in state(folder).items()}


def test_no_graph_and_no_switch_of_the_caller_is_touched(parts, tmp_path):
    before = tf.executing_eagerly(), tf.compat.v1.get_default_graph()
    with tf.Graph().as_default() as mine:
        gs.export(parts, tmp_path / "out", to="saved_model", section="main")
        assert tf.compat.v1.get_default_graph() is mine
        assert mine.get_operations() == []
    assert (tf.executing_eagerly(), tf.compat.v1.get_default_graph()) == before


# what differs is not written


def planted(write):
    """A writer that writes another graph: everything negated."""

    def wrong(source, keys, path):
        graph_def = source.model.graph_def
        port = source.outputs[0]
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(graph_def, name="")
            other = tf.identity(-graph.get_tensor_by_name(port.name), name="negated")
            model = GraphDefModel([graph.as_graph_def().SerializeToString()])
        changed = replace(source, model=model, outputs=(replace(port, name=other.name), *source.outputs[1:]))
        return write(changed, keys, path)

    return wrong


def test_an_export_that_differs_is_not_written_and_the_tensor_is_named(parts, tmp_path, monkeypatch):
    real = targets.TARGETS["saved_model"]
    monkeypatch.setattr(targets, "TARGETS", {"saved_model": replace(real, write=planted(real.write))})
    before = state(tmp_path)
    with pytest.raises(gs.EquivalenceError, match=r"top:0 differs by up to .*nothing was written") as caught:
        gs.export(parts, tmp_path / "new" / "out", to="saved_model", section="main")
    assert [o.tensor for o in caught.value.report.outputs if not o.equal] == ["top:0"]
    assert state(tmp_path) == before
    assert gs.export(parts, tmp_path / "out", to="saved_model", section="main", atol=1e3).report.max_abs_error > 0
    assert gs.export(parts, tmp_path / "any", to="saved_model", section="main", verify=False).report is None


# where it lands


def test_folders_above_are_made_as_serving_wants_them(parts, tmp_path):
    exported = gs.export(parts, tmp_path / "models" / "main" / "1", to="saved_model", section="main")
    assert exported.path == tmp_path / "models" / "main" / "1"
    assert sorted(p.name for p in exported.path.iterdir()) == ["saved_model.pb", "variables"]
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["main", "x.pb"]


def test_nothing_is_replaced_unasked(parts, tmp_path):
    out = tmp_path / "out"
    gs.export(parts, out, to="saved_model", section="main", verify=False)
    before = state(tmp_path)
    with pytest.raises(gs.OverwriteError, match=r"out is not empty \(saved_model\.pb\); overwrite=True"):
        gs.export(parts, out, to="saved_model", section="post")
    assert state(tmp_path) == before
    gs.export(parts, out, to="saved_model", section="post", overwrite=True)
    assert sorted(serve(out, doubled=X, top=X[:, :3], top_1=X[:, :3].astype(np.int32))) == ["early", "y"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models", "out"]


def test_a_folder_that_holds_anything_else_is_never_replaced(parts, tmp_path):
    (tmp_path / "out").mkdir()
    gs.export(parts, tmp_path / "out", to="saved_model", section="main", verify=False)  # an empty one may be filled
    (tmp_path / "out" / "notes.txt").write_text("precious")
    before = state(tmp_path)
    with pytest.raises(gs.OverwriteError, match=r"holds 'notes.txt', which is not part of such a model"):
        gs.export(parts, tmp_path / "out", to="saved_model", section="main", overwrite=True)
    assert state(tmp_path) == before


def test_what_is_exported_is_never_replaced(parts, tmp_path, monkeypatch):
    gs.export(parts, tmp_path / "sm", to="saved_model", section="main", verify=False)
    with pytest.raises(gs.OverwriteError, match="is the source itself"):
        gs.export(tmp_path / "sm", tmp_path / "sm", to="saved_model", overwrite=True)
    gs.save(parts, tmp_path / "split")
    with pytest.raises(gs.OverwriteError, match="is the source itself"):
        gs.export(tmp_path / "split", tmp_path / "split" / "x_main.pb", to="tflite", section="main", overwrite=True)
    with pytest.raises(gs.OverwriteError, match="is a folder; name a file"):
        gs.export(parts, tmp_path, to="tflite", section="main", overwrite=True)
    with pytest.raises(gs.OverwriteError, match="is a file; name a folder"):
        gs.export(parts, tmp_path / "split" / "split.json", to="saved_model", overwrite=True)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(gs.OverwriteError, match="the current folder"):
        gs.export(parts, ".", to="saved_model", section="main")


def write(out, full):
    with landing(out) as place:
        place.mkdir()
        (place / "saved_model.pb").write_text("new")
        if full:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("fails", ["writing", "moving"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, fails):
    out = tmp_path / "out"
    out.mkdir()
    (out / "saved_model.pb").write_text("before")
    before = state(tmp_path)
    if fails == "moving":
        real, calls = os.replace, []

        def replace_(a, b):
            calls.append(b)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
            real(a, b)

        # As on a system that cannot exchange two folders at once.
        monkeypatch.setattr("graphsplit.formats.switch._replace_at_once", lambda place, target: False)
        monkeypatch.setattr("graphsplit.formats.switch.os.replace", replace_)
    with pytest.raises(gs.FormatError, match="cannot be written: No space left"):
        write(out, full=fails == "writing")
    assert state(tmp_path) == before


# what cannot be


def test_what_cannot_be_exported_says_why(parts, tmp_path):
    with pytest.raises(gs.SectionNotFoundError, match=r"no section 'mian'; there are main, post"):
        gs.export(parts, tmp_path / "out", to="saved_model", section="mian")
    with pytest.raises(gs.FormatError, match="unknown target 'onnx'; there are saved_model, triton, tflite"):
        gs.export(parts, tmp_path / "out", to="onnx")
    variable = graphs.model(graphs.node("v", "VariableV2", dtype=tf.float32, shape=[2]), graphs.node("y", "Identity", "v"))
    with pytest.raises(gs.FormatError, match="not frozen: 'v'"):
        gs.export(variable, tmp_path / "out", to="saved_model")
    with pytest.raises(gs.CutError, match="the whole was exported"):
        _ = gs.export(parts, tmp_path / "whole", to="saved_model", verify=False).parts
    with pytest.raises(gs.CutError, match="GraphDef or TFLite, not saved_model"):
        _ = gs.export(parts, tmp_path / "main", to="saved_model", section="main", verify=False).parts
    assert not (tmp_path / "out").exists()


def test_a_model_that_reaches_outside_is_not_even_imported_without_trust(tmp_path):
    """TensorFlow computes constants while it imports a graph: a FIFO would hang it."""
    os.mkfifo(tmp_path / "pipe")
    reader = graphs.model(graphs.const("name", str(tmp_path / "pipe").encode(), np.object_), graphs.node("y", "ReadFile", "name"))
    for verify in (True, False):
        with pytest.raises(gs.TrustError, match=r"y \(ReadFile\)"):
            gs.export(reader, tmp_path / "out", to="saved_model", verify=verify)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pipe"]


def test_a_section_before_the_exported_one_is_not_run_without_trust(tmp_path):
    """x ─▶ main writes a file, and its border tensor ─▶ post, which is exported, is harmless and is fed what main computes."""
    trace = tmp_path / "trace"
    whole = graphs.model(graphs.placeholder("x", [None, 2]), graphs.node("border", "Neg", "x"), graphs.node("y", "Exp", "border"))
    parts = graphs.intruded(gs.split(whole, outputs="border"), "main", trace)
    with pytest.raises(gs.TrustError, match=r"intruder/write \(WriteFile\)"):
        gs.export(parts, tmp_path / "out", to="saved_model", section="post")
    assert not any(tmp_path.iterdir())
    assert gs.export(parts, tmp_path / "out", to="saved_model", section="post", trust=True).report.equal
    assert trace.read_text() == "ran"


# TFLite


def test_the_main_section_of_a_detector_becomes_tflite(demo_folder):
    folder, exported = demo_folder
    assert (exported.report.equal, exported.report.runs, exported.refused) == (True, 2, ())
    assert 0 < exported.report.max_abs_error < 1e-4
    assert [r["name"] for r in exported.rewrites] == ["batch_preprocess"]
    model = gs.load(folder / "main.tflite")
    assert {p.name for p in (*exported.inputs, *exported.outputs)} == {*model.index.inputs, *model.index.outputs}
    assert sorted(p.name for p in folder.iterdir()) == ["main.tflite", "mixed"]


def test_the_signature_of_the_file_has_the_keys(demo_folder):
    from ai_edge_litert.interpreter import Interpreter

    folder, exported = demo_folder
    found = Interpreter(str(folder / "main.tflite")).get_signature_list()["serving_default"]
    assert sorted(found["inputs"]) == [p.key for p in exported.inputs] == ["image_tensor"]
    assert sorted(found["outputs"]) == sorted(p.key for p in exported.outputs)


def test_a_pipeline_runs_main_as_tflite_and_post_as_graphdef(demo_folder):
    """image ─▶ [main.tflite] ─▶ scores, boxes ─▶ [post.pb] ─▶ detections"""
    folder, _ = demo_folder
    mixed = gs.load_parts(folder / "mixed")
    assert {p.name: p.format for p in mixed} == {"main": "tflite", "post": "graphdef"}
    whole = gs.load(demo_data.model())
    feed = made_feeds(whole)[0]
    expected = dict(zip(mixed.outputs, run(whole, feed, mixed.outputs), strict=True))
    assert expected["detection_scores:0"].max() > 0.2  # there is something to be wrong about
    with gs.Pipeline(mixed) as pipe:
        for found in (pipe.run(feed), *pipe.stream([feed, feed])):
            for tensor, value in expected.items():
                np.testing.assert_allclose(found[tensor], value, rtol=1e-3, atol=1e-4)
    assert gs.verify(whole, mixed, rtol=1e-3, atol=1e-3).equal
    assert not gs.verify(whole, mixed).equal


def test_callbacks_take_the_converted_section(demo_folder):
    folder, _ = demo_folder
    feed = made_feeds(gs.load(demo_data.model()))[0]["image_tensor:0"]
    got = []
    runner = gs.AsyncRunner(folder / "mixed" / "shapes_ssd_main.tflite")
    runner.set_postprocessing_model(folder / "mixed" / "shapes_ssd_post.pb")
    frames = iter([feed, feed])
    runner.connect_input(lambda: next(frames, None))
    runner.connect_output(lambda *outputs: got.append(outputs))
    runner.wait()
    runner.shutdown()
    assert len(got) == 2


def test_a_tflite_section_goes_no_further(demo_folder, tmp_path):
    folder, _ = demo_folder
    with pytest.raises(gs.FormatError, match="section 'main' is TFLite already; copy the file"):
        gs.export(folder / "mixed", tmp_path / "out", to="tflite", section="main")
    with pytest.raises(gs.FormatError, match="section 'main' is TFLite and cannot become saved_model; export the model"):
        gs.export(folder / "mixed", tmp_path / "out", to="saved_model")
    with pytest.raises(gs.FormatError, match="the model is TFLite already"):
        gs.export(folder / "main.tflite", tmp_path / "out", to="tflite")
    assert gs.export(folder / "mixed", tmp_path / "out", to="saved_model", section="post").report.equal


def test_replaced_takes_nothing_but_a_model_with_the_tensors_of_the_section(demo_folder, parts):
    folder, exported = demo_folder
    with pytest.raises(gs.CutError, match="section 'main' needs 'x:0' as float32, which the new model does not hold"):
        parts.replaced("main", gs.load(folder / "main.tflite"), {p.tensor: p.name for p in exported.inputs})


def test_ops_that_the_converter_lacks_are_named(tmp_path):
    """x ─▶ CropAndResize ─▶ y"""
    whole = graphs.model(
        graphs.placeholder("x", [1, 8, 8, 3]),
        graphs.const("boxes", [[0.0, 0.0, 0.5, 0.5]]),
        graphs.const("which", [0]),
        graphs.const("size", [4, 4]),
        graphs.node("y", "CropAndResize", "x", "boxes", "which", "size"),
    )
    with pytest.raises(gs.FormatError, match=r"^TFLite has no counterpart for CropAndResize: cut so that they stay outside"):
        gs.export(whole, tmp_path / "y.tflite", to="tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_converter_that_crashes_is_an_error_and_not_the_end(parts, tmp_path, monkeypatch):
    run_ = subprocess.run

    def crash(command, **options):
        return run_([sys.executable, "-c", "import os; os.abort()"], **options)

    monkeypatch.setattr(tflite.subprocess, "run", crash)
    before = state(tmp_path)
    with pytest.raises(gs.FormatError, match=r"converter crashed on this graph \(SIGABRT\)"):
        gs.export(parts, tmp_path / "x.tflite", to="tflite", section="main")
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("error: 'tf.A' op is neither a custom op nor a flex op\nerror: 'tf.B' op is neither a custom", "no counterpart for A, B:"),
        ("Some ops are not supported\nTF Select ops: Foo, Bar\nCustom ops: Baz\nDetails: …", "no counterpart for Bar, Baz, Foo:"),
        ('x.mlir:0: error: loc("z"): rank must be known\nnote: …', "refuses the graph: rank must be known;"),
        ("Invalid   input\nsize", "refuses the graph: Invalid input size;"),
    ],
)
def test_what_the_converter_says_is_brought_to_the_point(told, said):
    assert said in tflite._refused(told)


# real models, where they are there


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ssd_mobilenet_v1_face_2017.pb",
        "ssd_mobilenet_v1_face_2018.pb",
        "ssd_mobilenet_v1_coco_2017.pb",
        "ssd_mobilenet_v1_coco_2018.pb",
        "tiny_ssd_mobilenet_v1_2017.pb",
        "tiny_ssd_mobilenet_v1_2018.pb",
        "centernet_mobilenet_v3.pb",
    ],
)
def test_the_main_sections_of_real_detectors_are_exported(name, tmp_path):
    pytest.importorskip("ai_edge_litert")
    parts = gs.split(gs.load(shared_model(name)))
    assert gs.export(parts, tmp_path / "main", to="saved_model", section="main").report.max_abs_error == 0
    exported = gs.export(parts, tmp_path / "main.tflite", to="tflite", section="main")
    assert exported.report.equal
    assert exported.report.max_abs_error < 1e-3


@pytest.mark.slow
def test_a_whole_ssd_and_its_joined_sections_are_served(tmp_path):
    whole = gs.load(shared_model("ssd_mobilenet_v1_coco_2018.pb"))
    assert gs.export(whole, tmp_path / "whole", to="saved_model").report.max_abs_error == 0
    gs.save(gs.split(whole), tmp_path / "split")
    assert gs.export(tmp_path / "split", tmp_path / "joined", to="saved_model").report.max_abs_error == 0
    feed = made_feeds(whole)[0]["image_tensor:0"]
    one, other = (serve(tmp_path / name, image_tensor=feed) for name in ("whole", "joined"))
    assert sorted(one) == sorted(other)
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key])
