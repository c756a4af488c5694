"""A Triton model repository: what its files say is what the sections are, and what they compute as they are joined."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("tritonclient.grpc")
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import graphsplit as gs
from graphsplit.exports import targets
from graphsplit.exports.triton import Ensemble
from graphsplit.formats.graphdef.model import GraphDefModel
from tests.shared import shared_model
from tests.test_folder import GRAPH, state


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.pb").write_bytes(GRAPH)
    return gs.split(gs.load(tmp_path / "models" / "x.pb"), inputs="doubled", outputs="top:0,top:1")


def config(folder):
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def made_of(build):
    with tf.Graph().as_default() as graph:
        build(tf.compat.v1.placeholder)
        return GraphDefModel([graph.as_graph_def().SerializeToString()])


def edit(path, change):
    read = config(path)
    change(read)
    (path / "config.pbtxt").write_text(text_format.MessageToString(read))


def test_each_section_is_a_model_and_the_ensemble_hands_the_borders_on(parts, tmp_path):
    exported = gs.export(parts, tmp_path / "repo", to="triton")
    assert (exported.report.equal, exported.report.max_abs_error) == (True, 0)
    assert sorted(p.name for p in exported.path.iterdir()) == ["x", "x_main", "x_post", "x_pre"]
    for part in parts:
        found = config(exported.path / f"x_{part.name}")
        assert (found.name, found.platform, found.max_batch_size) == (f"x_{part.name}", "tensorflow_savedmodel", 0)
        assert len(found.input) == len(part.inputs)
        assert len(found.output) == len(part.outputs)
        kind = model_config_pb2.ModelInstanceGroup.Kind.Name(found.instance_group[0].kind)
        assert kind == ("KIND_GPU" if part.name == "main" else "KIND_CPU")
        assert (exported.path / f"x_{part.name}" / "1" / "model.savedmodel" / "saved_model.pb").is_file()
    whole = config(exported.path / "x")
    assert whole.platform == "ensemble"
    steps = {s.model_name: s for s in whole.ensemble_scheduling.step}
    assert list(steps) == ["x_pre", "x_main", "x_post"]
    written = [t for s in steps.values() for t in s.output_map.values()]
    assert len(written) == len(set(written))
    assert {t for s in steps.values() for t in s.input_map.values()} <= {*written, "x"}
    assert [e.name for e in whole.output] == [o.key for o in exported.outputs]
    assert (exported.path / "x" / "1").is_dir()  # Triton wants a version of an ensemble, too


def test_dtypes_and_sizes_are_those_of_the_tensors(parts, tmp_path):
    found = config(gs.export(parts, tmp_path / "repo", to="triton", verify=False).path / "x_post")
    name = model_config_pb2.DataType.Name
    assert {e.name: (name(e.data_type), list(e.dims)) for e in found.input if e.name in ("top", "top_1")} == {
        "top": ("TYPE_FP32", [-1, 3]),
        "top_1": ("TYPE_INT32", [-1, 3]),
    }


def test_a_tensor_without_dimensions_is_one_value_to_clients(tmp_path):
    def build(placeholder):
        x = placeholder(tf.float32, [None, 4], name="x")
        total = tf.reduce_sum(x, name="total")
        tf.identity(total * 2.0, name="y")

    exported = gs.export(gs.split(made_of(build), outputs="total"), tmp_path / "repo", to="triton")
    assert exported.report.equal
    found = config(exported.path / "model_post")
    for entry in (found.input[0], found.output[0]):
        assert list(entry.dims) == [1]
        assert entry.HasField("reshape")
        assert list(entry.reshape.shape) == []


def test_words_pass_borders(tmp_path):
    def build(placeholder):
        x = placeholder(tf.string, [None], name="x")
        lower = tf.strings.lower(x, name="lower")
        tf.strings.length(lower, name="y")

    exported = gs.export(
        gs.split(made_of(build), outputs="lower"), tmp_path / "repo", to="triton", feeds={"x:0": np.array([b"Ab", b"c"], object)}
    )
    assert exported.report.equal
    assert config(exported.path / "model_post").input[0].data_type == model_config_pb2.TYPE_STRING


def test_what_triton_cannot_take_is_refused_and_nothing_is_written(tmp_path):
    def complex_border(placeholder):
        x = placeholder(tf.float32, [None, 4], name="x")
        tf.math.real(tf.complex(x, x, name="c"), name="y")

    def unknown_rank(placeholder):
        x = placeholder(tf.float32, None, name="x")
        tf.identity(tf.nn.relu(x, name="r"), name="y")

    for build, at, said in (
        (complex_border, "c", "'c:0' is complex64"),
        (unknown_rank, "r", "the rank of .* is unknown"),
    ):
        with pytest.raises(gs.FormatError, match=said):
            gs.export(gs.split(made_of(build), outputs=at), tmp_path / "repo", to="triton")
        assert list(tmp_path.iterdir()) == []


def test_one_section_alone_is_no_repository(parts, tmp_path):
    with pytest.raises(gs.FormatError, match="one section alone is served as a SavedModel"):
        gs.export(parts, tmp_path / "repo", to="triton", section="main")
    assert not (tmp_path / "repo").exists()


def test_the_device_of_a_section_says_where_its_instances_are(parts, tmp_path):
    on_cpu = replace(parts, sections=tuple(replace(p, device="/cpu:0") for p in parts))
    found = config(gs.export(on_cpu, tmp_path / "repo", to="triton", verify=False).path / "x_main")
    assert found.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU


def test_models_of_others_in_a_repository_are_never_replaced(parts, tmp_path):
    repo = tmp_path / "repo"
    gs.export(parts, repo, to="triton", verify=False)
    with pytest.raises(gs.OverwriteError, match="is not empty"):
        gs.export(parts, repo, to="triton", verify=False)
    gs.export(parts, repo, to="triton", verify=False, overwrite=True)
    for strange in ("resnet", "x_main/2"):
        (repo / strange).mkdir()
        before = state(tmp_path)
        with pytest.raises(gs.OverwriteError, match=f"holds '{strange}', which is not part"):
            gs.export(parts, repo, to="triton", verify=False, overwrite=True)
        assert state(tmp_path) == before
        (repo / strange).rmdir()


def wrong_dtype(read):
    read.input[0].data_type = model_config_pb2.TYPE_INT64


def wrong_dims(read):
    read.input[0].dims[-1] = 7


def wrong_name(read):
    read.output[0].name = "other"


@pytest.mark.parametrize(("model", "change"), [(m, c) for m in ("x_main", "x_post") for c in (wrong_dtype, wrong_dims, wrong_name)])
def test_a_configuration_that_its_model_contradicts_is_found(parts, tmp_path, monkeypatch, model, change):
    real = targets.TARGETS["triton"]

    def planted(source, keys, path):
        written = real.write(source, keys, path)
        edit(path / model, change)
        return written

    monkeypatch.setattr(targets, "TARGETS", {"triton": replace(real, write=planted)})
    with pytest.raises(gs.FormatError, match=r"differ in dtype or shape|states |does not map"):
        gs.export(parts, tmp_path / "repo", to="triton")
    assert not (tmp_path / "repo").exists()


def run_once(exported):
    with closing(Ensemble(exported.path, timeout=60)) as session:
        return session.run({"x": np.ones((2, 8), np.float32)}, [o.key for o in exported.outputs])


def drop_map(read):
    read.ensemble_scheduling.step[1].output_map.clear()


def write_twice(read):
    first, second = read.ensemble_scheduling.step[:2]
    second.output_map[next(iter(second.output_map))] = next(iter(first.output_map.values()))


def no_such_model(read):
    read.ensemble_scheduling.step[0].model_name = "y"


@pytest.mark.parametrize("change", [drop_map, write_twice, no_such_model])
def test_an_ensemble_that_triton_would_refuse_is_found(parts, tmp_path, change):
    exported = gs.export(parts, tmp_path / "repo", to="triton", verify=False)
    edit(exported.path / "x", change)
    with pytest.raises(gs.GraphSplitError, match=r"never|twice|not a model of the repository"):
        run_once(exported)


def test_without_the_client_the_extra_is_named(parts, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(gs.MissingExtraError, match=r"graphsplit\[triton\]"):
        gs.export(parts, tmp_path / "repo", to="triton")
    assert not (tmp_path / "repo").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssd_mobilenet_v1_coco_2018.pb", "ssd_mobilenet_v1_face_2018.pb"])
def test_real_detectors_become_repositories(name, tmp_path):
    parts = gs.split(gs.load(shared_model(name)))
    exported = gs.export(parts, tmp_path / "repo", to="triton")
    assert (exported.report.equal, exported.report.max_abs_error) == (True, 0)
    assert [m["kind"] for m in exported.models] == ["KIND_GPU", "KIND_CPU", None]
