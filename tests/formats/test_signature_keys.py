"""The keys by which a file names inputs and outputs: kept from load to manifest, section and export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import graphsplit as gs
from graphsplit.graph.signature import Signature

SIZES = tf.TensorSpec([1, 8, 8, 3], tf.float32, "image"), tf.TensorSpec([], tf.float32, "again")
HERE = {"main": "/cpu:0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of TensorFlow 2 whose keys are in no order: zeta, alpha, boxes."""
    path = tmp_path_factory.mktemp("keys") / "saved"
    module = tf.Module()
    module.weights = tf.Variable(tf.ones([3, 3, 3, 4]))

    @tf.function(input_signature=SIZES)
    def serve(image: tf.Tensor, again: tf.Tensor) -> dict[str, tf.Tensor]:
        out = tf.nn.conv2d(image, module.weights, 1, "SAME") * again
        return {"zeta": tf.reduce_sum(out), "alpha": tf.nn.relu(out), "boxes": out + 1}

    tf.saved_model.save(module, str(path), signatures=serve)
    return path


def test_keys_of_a_saved_model_are_kept_to_the_export(folder: Path, tmp_path: Path) -> None:
    model = gs.load(folder)
    assert dict(model.signature) == {
        "again": "again:0",
        "image": "image:0",
        "alpha": "Identity:0",
        "boxes": "Identity_1:0",
        "zeta": "Identity_2:0",
    }
    parts = gs.split(model, outputs=model.signature["alpha"], devices=HERE)
    gs.save(parts, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "split.json").read_text())["signature"] == dict(model.signature)
    again = gs.load_parts(tmp_path / "out")
    assert again.signature == model.signature
    gs.export(again, tmp_path / "served", to="saved_model")
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    assert set(served.structured_outputs) == {"alpha", "boxes", "zeta"}
    assert set(served.structured_input_signature[1]) == {"image", "again"}
    feeds = {"image": np.ones((1, 8, 8, 3), np.float32), "again": np.float32(2)}
    here = tf.saved_model.load(str(folder)).signatures["serving_default"](**feeds)
    for key, value in served(**{k: tf.constant(v) for k, v in feeds.items()}).items():
        np.testing.assert_array_equal(value, here[key])


def test_what_is_cut_off_takes_its_keys_along(folder: Path) -> None:
    parts = gs.split(folder, outputs="Identity:0", model_outputs="Identity:0,Identity_1:0", devices=HERE)
    assert set(parts.signature.outputs) == {"alpha", "boxes"}


def test_a_saved_model_of_tensorflow_1_has_its_own_names(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        y, z = tf.nn.relu(x, name="y"), tf.exp(x, name="z")
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "old"), {"in": x}, {"second": y, "first": z, "same": y})
    signature = gs.load(tmp_path / "old").signature
    assert dict(signature) == {"in": "x:0", "first": "z:0", "same": "y:0", "second": "y:0"}
    assert signature.key("y:0") == "same"


@pytest.mark.parametrize("named", [False, True], ids=["lists", "mappings"])
def test_keys_of_a_keras_model_are_its_names(named: bool, tmp_path: Path) -> None:
    picture, vector = tf.keras.Input((8, 8, 3), name="picture"), tf.keras.Input((4,), name="vector")
    boxes = tf.keras.layers.Conv2D(2, 3, name="boxes")(picture)
    scores = tf.keras.layers.Dense(3, name="scores")(vector)
    if named:
        whole = tf.keras.Model({"vector": vector, "picture": picture}, {"z": boxes, "y": scores})
        keys = {"picture": "picture:0", "vector": "vector:0", "y": "Identity:0", "z": "Identity_1:0"}
    else:
        whole = tf.keras.Model([picture, vector], [boxes, scores])
        keys = {"picture": "picture:0", "vector": "vector:0", "boxes": "Identity:0", "scores": "Identity_1:0"}
    whole.save(tmp_path / "m.keras")
    for model in (gs.load(tmp_path / "m.keras"), gs.load(whole)):
        assert dict(model.signature) == keys
        assert model.index.tensors[keys["vector"]].shape == (None, 4)


def test_keys_of_a_tflite_file(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "m.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert())
    model = gs.load(path)
    assert set(model.signature.inputs) == {"image", "again"}
    assert set(model.signature.outputs) == {"alpha", "boxes", "zeta"}
    assert set(model.signature.values()) == {*model.index.inputs, *model.index.outputs}


def test_a_graph_states_no_keys(tmp_path: Path) -> None:
    whole = gs.load("demo")
    assert dict(whole.signature) == {}
    gs.save(gs.split(whole, devices=HERE), tmp_path / "out")
    assert "signature" not in json.loads((tmp_path / "out" / "split.json").read_text())


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ({"k": "gone:0"}, r"\$\.signature\.k: 'gone:0' is neither an input nor an output"),
        ({"k": 5}, r"\$\.signature"),
        ([], r"\$\.signature"),
    ],
)
def test_keys_in_a_manifest_are_checked(signature: object, message: str, tmp_path: Path) -> None:
    gs.save(gs.split("demo", devices=HERE), tmp_path / "out")
    manifest = tmp_path / "out" / "split.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"signature": signature}))
    with pytest.raises(gs.FormatError, match=message):
        gs.load_parts(tmp_path / "out")


def test_a_key_of_both_sides_is_that_of_the_output() -> None:
    signature = Signature({"x": "in:0", "y": "in:1"}, {"x": "out:0"})
    assert dict(signature) == {"x": "out:0", "y": "in:1"}
    assert len(signature) == 2
    assert signature.kept(["in:0"], []) == Signature({"x": "in:0"}, {})
