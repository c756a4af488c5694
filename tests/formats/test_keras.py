""".keras files: called in inference mode, frozen, and no code of theirs is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphsplit.errors import FormatError
from graphsplit.formats import load
from graphsplit.formats.keras import load_keras
from tests.formats.frozen import run

keras = pytest.importorskip("keras")
L = keras.layers


def small_convnet() -> Any:
    """image [batch, 8, 8, 3] ─▶ a MobileNet of one block ─▶ scores [batch, 5]"""
    image = keras.Input((8, 8, 3), name="image")
    x = L.Rescaling(1 / 127.5, offset=-1)(image)
    x = L.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = L.Dropout(0.5)(L.GlobalAveragePooling2D()(x))
    return keras.Model(image, L.Dense(5, activation="softmax", name="scores")(x))


def two_inputs(inputs: Callable[[Any, Any], Any]) -> Any:
    """image, words ─▶ {"place", "class"}: a loop (GRU) in one branch"""
    image, words = keras.Input((4,), name="image"), keras.Input((3,), dtype="int32", name="words")
    x = L.Concatenate()([L.Dense(4, activation="relu")(image), L.GRU(4)(L.Embedding(7, 4)(words))])
    return keras.Model(inputs(image, words), {"place": L.Dense(2, name="place")(x), "class": L.Dense(3, name="class")(x)})


def saved(model: Any, path: Path) -> Path:
    """A saved model with weights that are not what it was initialised with."""
    noise = np.random.default_rng(0)
    model.set_weights(
        [w + noise.uniform(0.1, 0.5, w.shape).astype(w.dtype) if w.dtype == np.float32 else w for w in model.get_weights()]
    )
    model.save(path)
    return path


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the configuration in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    change(config)
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_small_convnet_is_frozen_and_gives_the_same(tmp_path: Path) -> None:
    original = small_convnet()
    path = saved(original, tmp_path / "net.keras")
    model = load(path)
    assert (model.format, model.path, model.source) == ("keras", path, path)
    model.check_frozen()
    assert [(t.name, t.dtype, t.shape) for t in model.inputs] == [("image:0", "float32", (None, 8, 8, 3))]
    assert [t.name for t in model.outputs] == ["Identity:0"]
    assert model.reaches_outside == ()
    image = np.random.default_rng(1).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(run(model, {"image:0": image})[0], original(image, training=False), rtol=1e-5)


@pytest.mark.parametrize("inputs", [lambda a, b: [a, b], lambda a, b: {"words": b, "image": a}], ids=["list", "dict"])
def test_several_inputs_and_outputs(tmp_path: Path, inputs: Callable[[Any, Any], Any]) -> None:
    original = two_inputs(inputs)
    model = load(saved(original, tmp_path / "two.keras"))
    assert {(t.name, t.dtype, t.shape) for t in model.inputs} == {
        ("image:0", "float32", (None, 4)),
        ("words:0", "int32", (None, 3)),
    }
    assert [t.name for t in model.outputs] == ["Identity:0", "Identity_1:0"], "class, then place"
    image, words = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32), np.array([[1, 2, 6], [0, 3, 4]], np.int32)
    expected = original(inputs(image, words), training=False)
    kind, place = run(model, {"image:0": image, "words:0": words})
    np.testing.assert_allclose(kind, expected["class"], rtol=1e-5)
    np.testing.assert_allclose(place, expected["place"], rtol=1e-5)


def test_a_sequential_model_under_any_name(tmp_path: Path) -> None:
    original = keras.Sequential([L.Input((3,), batch_size=2, name="x"), L.Dense(2)])
    path = saved(original, tmp_path / "seq.keras").rename(tmp_path / "model.bin")
    model = load(path)
    assert model.inputs[0].shape == (2, 3), "a batch size that the model fixes stays"
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(run(model, {"x:0": x})[0], original(x), rtol=1e-6)


def test_loading_twice_gives_the_same_bytes_and_leaves_keras_as_it_was(tmp_path: Path) -> None:
    path = saved(two_inputs(lambda a, b: [a, b]), tmp_path / "two.keras")
    before = (keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy().name, keras.config.backend())
    assert load(path).serialized() == load(path).serialized()
    assert before == (
        keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy().name, keras.config.backend()
    )  # fmt: skip


def test_a_default_graph_of_the_caller_is_not_touched(tmp_path: Path) -> None:
    import tensorflow as tf

    path = saved(small_convnet(), tmp_path / "net.keras")
    expected = load(path).serialized()
    graph = tf.Graph()
    with graph.as_default():
        assert load(path).serialized() == expected
    assert graph.get_operations() == []


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    path = saved(two_inputs(lambda a, b: [a, b]), tmp_path / "two.keras")
    out = tmp_path / "other.pb"
    program = "import sys, graphsplit as gs; gs.load(sys.argv[1]).save(sys.argv[2])"
    subprocess.run([sys.executable, "-c", program, path, out], capture_output=True, timeout=240, check=True)
    assert out.read_bytes() == load(path).serialized()


@pytest.mark.slow
def test_a_mobilenet(tmp_path: Path) -> None:
    original = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)
    path = tmp_path / "net.keras"
    original.save(path)
    model = load(path)
    image = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(run(model, {model.inputs[0].name: image})[0], original(image, training=False), rtol=1e-4)


def test_an_exported_model_is_a_saved_model(tmp_path: Path) -> None:
    original = small_convnet()
    original.export(tmp_path / "net", verbose=False)
    model = load(tmp_path / "net")
    image = np.random.default_rng(1).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(run(model, {model.inputs[0].name: image})[0], original(image, training=False), rtol=1e-5)


# code


def test_a_lambda_layer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "lambda.keras"
    keras.Sequential([L.Input((2,)), L.Lambda(lambda x: x + 1, name="plus")]).save(path)
    with pytest.raises(FormatError, match=r"the layer 'plus' \(Lambda\) holds Python code.*model\.export\(FOLDER\)") as caught:
        load(path)
    assert caught.value.path == str(path)


def test_a_custom_layer_is_refused_even_where_it_is_known(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("Mine")
    class Loud(L.Layer):  # type: ignore[misc]
        calls = 0

        def call(self, x: Any) -> Any:
            type(self).calls += 1
            return x

    path = tmp_path / "mine.keras"
    keras.Sequential([L.Input((2,)), Loud(name="loud")]).save(path)
    before = Loud.calls
    with pytest.raises(FormatError, match=r"the layer 'loud' \(Loud\) is not one of Keras' own \(module .*custom code"):
        load(path)
    assert Loud.calls == before


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}, "'function' is not one"),
        ({"module": "keras.utils", "class_name": "function", "config": "get_file"}, "'function' is not one"),
        ({"module": "subprocess", "class_name": "Popen", "config": {"args": ["true"]}}, "'Popen' is not one of Keras' own"),
        ({"class_name": "__lambda__", "config": {"value": ["4wAA", None, None]}}, "'__lambda__' holds Python code"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"name": "t"}}, "'t' .TFSMLayer. holds a model"),
    ],
)
def test_what_a_configuration_may_not_name(tmp_path: Path, item: dict[str, Any], reason: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["activation"] = item

    path = tmp_path / "net.keras"
    keras.Sequential([L.Input((2,)), L.Dense(2)]).save(path)
    with pytest.raises(FormatError, match=reason):
        load(edited(path, change))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_vocabulary_in_a_file_is_refused_and_not_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "words"
    os.mkfifo(fifo)  # whoever opens it hangs

    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["vocabulary"] = str(fifo)

    path = tmp_path / "net.keras"
    keras.Sequential([L.Input((2,), dtype="string"), L.StringLookup(vocabulary=["a", "b"], name="look")]).save(path)
    with pytest.raises(FormatError, match=r"the layer 'look' \(StringLookup\) reads the file '.*words'"):
        load(edited(path, change))


def test_a_table_is_named_as_not_frozen(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    keras.Sequential([L.Input((2,), dtype="string"), L.StringLookup(vocabulary=["a", "b"], name="look")]).save(path)
    with pytest.raises(FormatError, match=r"not frozen: '.*look.*'"):
        load(path).check_frozen()


def test_losses_of_ones_own_do_not_matter(tmp_path: Path) -> None:
    def own_loss(a: Any, b: Any) -> Any:
        return keras.ops.mean(a - b)

    model = keras.Sequential([L.Input((2,), name="x"), L.Dense(1)])
    model.compile("sgd", own_loss)
    model.save(tmp_path / "net.keras")
    assert load(tmp_path / "net.keras").index.nodes


# damage


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    keras.Sequential([L.Input((2,)), L.Dense(2)]).save(path)
    whole = path.read_bytes()
    for content in (whole[:-30], whole[:100], b"", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"a damaged \.keras file: .*; save or download it again"):
            load_keras(path)


@pytest.mark.parametrize("config", [b"[]", b"{", b"null", b"\xff", b"[" * 100_000])
def test_a_configuration_that_is_none(tmp_path: Path, config: bytes) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(FormatError, match=r"a damaged \.keras file"):
        load(path)


def test_weights_that_do_not_fit_are_told_with_the_cause(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["config"]["units"] = 7

    path = tmp_path / "net.keras"
    keras.Sequential([L.Input((2,)), L.Dense(2)]).save(path)
    with pytest.raises(
        FormatError, match=r"Keras cannot load this model \(ValueError: .*\); load it in Python with Keras 3"
    ) as caught:
        load(edited(path, change))
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


def test_a_model_that_was_never_built(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([L.Dense(2)]).save(path)
    with pytest.raises(FormatError, match=r"Keras cannot load this model .*inputs"):
        load(path)


def test_another_backend_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    keras.Sequential([L.Input((2,)), L.Dense(2)]).save(path)
    program = (
        "import sys, graphsplit as gs\n"
        "try: gs.load(sys.argv[1])\n"
        "except gs.FormatError as error: print('keras' in sys.modules, error)"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stdout.startswith("False ")
    assert "Keras runs on the backend 'jax' here" in done.stdout
    assert "set KERAS_BACKEND=tensorflow" in done.stdout


def test_a_read_only_folder_is_no_hindrance(tmp_path: Path) -> None:
    folder = tmp_path / "read only"
    folder.mkdir()
    path = saved(keras.Sequential([L.Input((2,)), L.Dense(2)]), tmp_path / "net.keras")
    shutil.copy(path, folder / "net.keras")
    folder.chmod(0o555)
    try:
        assert load(folder / "net.keras").index.nodes
        assert [p.name for p in folder.iterdir()] == ["net.keras"]
    finally:
        folder.chmod(0o755)


def rewritten(path: Path, members: dict[str, bytes]) -> Path:
    """The same file with other members."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()} | members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def in_config(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """A change of the first layer that has units or a table."""

    def first(config: dict[str, Any]) -> None:
        for layer in config["config"]["layers"]:
            if {"units", "input_dim", "filters"} & layer["config"].keys():
                change(layer)
                return

    return first


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (L.Dense(3), {"units": 10**9}),
        (L.Dense(3), {"units": 400_000}),
        (L.Dense(3), {"units": 10**30}),
        (L.Embedding(7, 3), {"input_dim": 10**9}),
        (L.Embedding(7, 3), {"input_dim": 10**5, "output_dim": 10**5}),
        (L.GRU(3, name="gru"), {"units": 10**9}),
        (L.Conv1D(3, 2, name="conv"), {"filters": 10**9}),
    ],
    ids=repr,
)
def test_a_layer_that_needs_more_weights_than_the_file_holds_is_never_built(
    model: Any, change: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (5, 4) if "Embedding" not in repr(type(model)) and not isinstance(model, L.Dense) else (4,)
    path = saved(keras.Sequential([keras.Input(shape), model]), tmp_path / "m.keras")
    edited(path, in_config(lambda layer: layer["config"].update(change)))
    monkeypatch.setattr(keras.models, "load_model", None)
    with pytest.raises(FormatError, match=r"needs at least [\d,]+ weights, the file holds [\d,]+ bytes of them"):
        load_keras(path)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"config.json": b" " * (65 * 2**20)}, "config.json in the file is too large"),
        ({"metadata.json": b" " * (65 * 2**20)}, "metadata.json in the file is too large"),
        ({"config.json": b"[" * 100_000}, "a damaged .keras file: .*nested more than 100 deep"),
        ({"config.json": b'{"a": 1, "a": 2}'}, "the key 'a' occurs twice"),
        ({"config.json": b'{"a": ' + b"9" * 5000 + b"}"}, "has 5,000 digits"),
        ({"model.weights.h5": bytes(100_000_000)}, r"'model.weights.h5' in the file has 100,000,000 bytes, packed into"),
    ],
    ids=["config", "metadata", "deep", "twice", "digits", "weights"],
)
def test_what_expands_is_refused_before_it_is_read(
    members: dict[str, bytes], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rewritten(saved(keras.Sequential([keras.Input((4,)), L.Dense(3)]), tmp_path / "m.keras"), members)
    monkeypatch.setattr(keras.models, "load_model", None)
    with pytest.raises(FormatError, match=says):
        load_keras(path)
