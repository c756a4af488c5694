"""SavedModels: frozen on load, the same bytes each time, and never run before they were looked at."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphsplit.errors import FormatError, OptionError, TrustError
from graphsplit.formats import load
from graphsplit.formats.meta_graph import read_meta_graphs
from graphsplit.formats.saved_model import load_saved_model, scan
from tests.formats.frozen import run

tf = pytest.importorskip("tensorflow")

X = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)


@pytest.fixture(autouse=True)
def keep_tensorflow_quiet() -> Iterator[None]:
    """Making the models warns of this and that; what loading them says is tested where it matters."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


# the models: a few numbers each


class Dense(tf.Module):
    """x [batch, 2] · w [2, 3] + b [3], then loops if asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(np.arange(6, dtype=np.float32).reshape(2, 3), name="w")
        self.b = tf.Variable([1.0, -2.0, 0.5], name="b")

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def plain(self, x: Any) -> Any:
        return {"zeta": x @ self.w + self.b, "alpha": tf.reduce_sum(x, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x"), tf.TensorSpec([], tf.int32, name="times")])
    def loops(self, x: Any, times: Any) -> Any:
        y = x @ self.w + self.b
        _, y = tf.while_loop(lambda i, y: i < times, lambda i, y: (i + 1, tf.nn.relu(y) * 1.5 - 0.25), (0, y))
        return {"sums": tf.map_fn(lambda row: tf.reduce_sum(row) * self.b, y), "y": y}


def save_v2(folder: Path, function: Any, module: Any, **more: Any) -> Path:
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function, **more} if function else None)
    return folder


def save_v1(
    folder: Path,
    build: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
    *,
    tags: tuple[str, ...] = ("serve",),
    key: str = "serving_default",
    main_op: Callable[[], Any] | None = None,
    also: dict[str, Any] | None = None,
) -> Path:
    v1 = tf.compat.v1
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        inputs, outputs = build()
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def(inputs, outputs)
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session, list(tags), {key: signature, **(also or {})}, main_op=main_op() if main_op else None
        )
        builder.save()
    return folder


def dense_v1() -> tuple[dict[str, Any], dict[str, Any]]:
    """x · w + b with one variable of each kind."""
    v1 = tf.compat.v1
    x = v1.placeholder(tf.float32, [None, 2], name="x")
    w = v1.get_variable("w", initializer=np.arange(6, dtype=np.float32).reshape(2, 3), use_resource=False)
    b = v1.get_variable("b", initializer=np.array([1.0, -2.0, 0.5], np.float32), use_resource=True)
    y = tf.add(tf.matmul(x, w), b, name="y")
    return {"x": x}, {"y": y}


EXPECTED = X @ np.arange(6, dtype=np.float32).reshape(2, 3) + np.array([1.0, -2.0, 0.5], np.float32)


def edited(folder: Path, change: Callable[[Any], None]) -> Path:
    """Change the SavedModel message of a folder."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved)
    file.write_bytes(saved.SerializeToString(deterministic=True))
    return folder


def digest(model: Any) -> str:
    return hashlib.sha256(model.serialized()).hexdigest()


# TensorFlow 1


def test_a_v1_model_is_frozen_and_gives_the_same(tmp_path: Path) -> None:
    model = load(save_v1(tmp_path / "m", dense_v1))
    assert (model.format, model.path, model.source) == ("saved_model", tmp_path / "m", tmp_path / "m" / "saved_model.pb")
    assert [t.name for t in model.inputs] == ["x:0"]
    assert [t.name for t in model.outputs] == ["y:0"]
    model.check_frozen()
    np.testing.assert_array_equal(run(model, {"x:0": X})[0], EXPECTED)


def test_only_what_the_signature_needs_is_left(tmp_path: Path) -> None:
    """x ─▶ y (given)   w ─▶ unused   save/…: neither of them stays; an input that no output needs does"""

    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, outputs = dense_v1()
        tf.identity(outputs["y"] * 2.0, name="unused")
        return {**inputs, "mode": tf.compat.v1.placeholder(tf.bool, [], name="mode")}, outputs

    model = load(save_v1(tmp_path / "m", build))
    names = set(model.index.name_to_node_map)
    assert "unused" not in names
    assert not any(n.startswith("save") for n in names)
    assert {t.name for t in model.inputs} == {"x:0", "mode:0"}
    assert model.reaches_outside == ()


@pytest.mark.parametrize("functional", [True, False], ids=["While", "Enter…Exit"])
def test_a_v1_loop_keeps_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, functional: bool) -> None:
    from tensorflow.python.ops import control_flow_util

    monkeypatch.setattr(control_flow_util, "ENABLE_CONTROL_FLOW_V2", functional)

    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, outputs = dense_v1()
        b = tf.compat.v1.global_variables()[1]
        _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 0.5 + b), (0, outputs["y"]))
        return inputs, {"out": tf.identity(y, name="out")}

    path = save_v1(tmp_path / "m", build)
    model = load(path)
    ops = {n.op for n in model.index.nodes}
    assert ("While" in ops or "StatelessWhile" in ops, "Enter" in ops) == (functional, not functional)
    assert bool(model.index.groups) is not functional
    expected = EXPECTED
    for _ in range(3):
        expected = expected * np.float32(0.5) + np.array([1.0, -2.0, 0.5], np.float32)
    np.testing.assert_allclose(run(model, {"x:0": X})[0], expected, rtol=1e-6)
    assert digest(load(path)) == digest(model)


def test_a_v1_graph_without_variables_needs_no_variables_folder(tmp_path: Path) -> None:
    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        return {"x": x}, {"b": tf.multiply(x, 3.0, name="b"), "a": tf.multiply(x, 2.0, name="a")}

    path = save_v1(tmp_path / "m", build)
    shutil.rmtree(path / "variables", ignore_errors=True)
    model = load(path)
    assert [t.name for t in model.outputs] == ["a:0", "b:0"], "in the order of the keys"
    np.testing.assert_array_equal(run(model, {"x:0": X})[1], X * 3)


def test_a_device_of_another_machine_is_kept_but_does_not_matter(tmp_path: Path) -> None:
    def to_gpu(saved: Any) -> None:
        for node in saved.meta_graphs[0].graph_def.node:
            node.device = "/job:worker/task:3/device:GPU:1"

    model = load(edited(save_v1(tmp_path / "m", dense_v1), to_gpu))
    assert model.graph_def.node[0].device == "/job:worker/task:3/device:GPU:1"


def test_the_initialiser_of_a_v1_model_is_run(tmp_path: Path) -> None:
    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        late = tf.compat.v1.get_variable(
            "late", initializer=7.0, collections=[tf.compat.v1.GraphKeys.LOCAL_VARIABLES], use_resource=False
        )
        return {"x": x}, {"y": tf.multiply(x, late, name="y")}

    path = save_v1(tmp_path / "m", build, main_op=lambda: tf.group(tf.compat.v1.local_variables_initializer()))
    np.testing.assert_array_equal(run(load(path), {"x:0": X})[0], X * 7)


def test_a_resource_variable_that_nobody_reads_by_the_usual_name(tmp_path: Path) -> None:
    def rename(saved: Any) -> None:
        graph = saved.meta_graphs[0].graph_def
        for node in graph.node:
            node.name = node.name.replace("b/Read/ReadVariableOp", "b/other")
            for place, name in enumerate(node.input):
                node.input[place] = name.replace("b/Read/ReadVariableOp", "b/other")

    path = edited(save_v1(tmp_path / "m", dense_v1), rename)
    np.testing.assert_array_equal(run(load(path), {"x:0": X})[0], EXPECTED)


# TensorFlow 2


def test_a_v2_model_is_frozen_and_gives_the_same(tmp_path: Path) -> None:
    module = Dense()
    model = load(save_v2(tmp_path / "m", module.plain, module))
    model.check_frozen()
    assert [(t.name, t.dtype, t.shape) for t in model.inputs] == [("x:0", "float32", (None, 2))]
    assert [t.name for t in model.outputs] == ["Identity:0", "Identity_1:0"], "alpha, then zeta"
    alpha, zeta = run(model, {"x:0": X})
    np.testing.assert_array_equal(zeta, EXPECTED)
    np.testing.assert_array_equal(alpha, X.sum(1))
    assert model.reaches_outside == (), "the functions that save and restore are gone"


def test_v2_loops_with_a_tensor_list(tmp_path: Path) -> None:
    module = Dense()
    model = load(save_v2(tmp_path / "m", module.loops, module))
    model.check_frozen()
    assert [t.name for t in model.inputs] == ["times:0", "x:0"], "no placeholder but those of the signature"
    assert {"While", "TensorListStack"} <= {n.op for n in model.index.nodes}
    assert "TensorListSetItem" in {n.op for f in model.reader.library.functions.values() for n in f.nodes}
    expected = module.loops(X, 4)
    sums, y = run(model, {"x:0": X, "times:0": 4})
    np.testing.assert_allclose(sums, expected["sums"], rtol=1e-6)
    np.testing.assert_allclose(y, expected["y"], rtol=1e-6)


def test_functions_that_stay_are_named_without_numbers_of_the_process(tmp_path: Path) -> None:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = tf.Variable(3.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            twice = tf.function(lambda v: v * self.scale, experimental_attributes={"_noinline": True})
            return {"y": twice(twice(x))}

    module = Module()
    path = save_v2(tmp_path / "m", module.serve, module)
    first, second = load(path), load(path)
    assert first.index.functions, "the test needs a function that freezing keeps"
    assert all(re.fullmatch(r"\D+_[0-9a-f]{8}", name) for name in first.index.functions)
    assert first.serialized() == second.serialized()
    np.testing.assert_allclose(run(first, {"x:0": X})[0], X * 9)


def test_loading_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    module = Dense()
    v2 = save_v2(tmp_path / "v2", module.loops, module)
    v1 = save_v1(tmp_path / "v1", dense_v1)
    assert [digest(load(p)) for p in (v2, v1)] == [digest(load(p)) for p in (v2, v1)]


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    module = Dense()
    v2 = save_v2(tmp_path / "v2", module.loops, module)
    v1 = save_v1(tmp_path / "v1", dense_v1)
    program = (
        "import sys, hashlib, graphsplit as gs\n"
        "for path in sys.argv[1:]: print(hashlib.sha256(gs.load(path).serialized()).hexdigest())"
    )
    # The other order, so that the process has counted something else before.
    done = subprocess.run([sys.executable, "-c", program, v1, v2], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.split() == [digest(load(v1)), digest(load(v2))]


def test_eager_mode_off_and_other_default_graphs_do_not_matter(tmp_path: Path) -> None:
    module = Dense()
    v2 = save_v2(tmp_path / "v2", module.plain, module)
    v1 = save_v1(tmp_path / "v1", dense_v1)
    expected = [load(v2).serialized(), load(v1).serialized()]
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.variable_scope("mine"), tf.device("/device:GPU:7"):
        assert [load(v2).serialized(), load(v1).serialized()] == expected
    assert graph.get_operations() == []
    assert tf.executing_eagerly()


def test_nothing_is_logged_and_no_logger_is_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    module = Dense()
    paths = [save_v2(tmp_path / "v2", module.plain, module), save_v1(tmp_path / "v1", dense_v1)]
    (paths[0] / "fingerprint.pb").unlink()
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    before = [(list(logger.filters), logger.level) for logger in loggers]
    capfd.readouterr()
    try:
        for path in paths:
            load(path)
        assert [r.getMessage() for r in caplog.records if r.name in ("tensorflow", "absl")] == []
        assert "WARNING" not in capfd.readouterr().err
        assert [(list(logger.filters), logger.level) for logger in loggers] == before
    finally:
        for logger in loggers:
            logger.setLevel(logging.NOTSET)


def test_the_text_form_is_read(tmp_path: Path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    for path in (save_v1(tmp_path / "v1", dense_v1), save_v2(tmp_path / "v2", (module := Dense()).plain, module)):
        binary = load(path)
        saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
        (path / "saved_model.pb").unlink()
        (path / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))
        model = load(path)
        assert model.source == path / "saved_model.pbtxt"
        assert model.serialized() == binary.serialized()
        assert scan(path).reaches_outside == ()
        (path / "saved_model.pbtxt").write_text("meta_graphs {{")
        with pytest.raises(FormatError, match=r"saved_model\.pbtxt is damaged"):
            load_saved_model(path)


# signatures and tags


def test_the_only_signature_is_taken_whatever_its_key(tmp_path: Path) -> None:
    assert [t.name for t in load(save_v1(tmp_path / "m", dense_v1, key="detect")).outputs] == ["y:0"]


def test_several_signatures_without_the_default_are_listed(tmp_path: Path) -> None:
    module = Dense()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"one": module.plain, "two": module.loops})
    with pytest.raises(FormatError, match=r"several signatures and none is 'serving_default': one, two; name one with signature="):
        load(tmp_path / "m")
    assert scan(tmp_path / "m").index.nodes, "it can be looked at all the same"


def test_no_signature_at_all(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"no signature in it.*signatures="):
        load(save_v2(tmp_path / "m", None, tf.Module()))


@pytest.mark.parametrize("tags", [("train", "tpu"), (), ("serve", "gpu"), ("Serve",)])
def test_the_only_graph_is_taken_whatever_its_tags(tmp_path: Path, tags: tuple[str, ...]) -> None:
    model = load(save_v1(tmp_path / "m", dense_v1, tags=tags))
    assert (model.choice.tags, model.choice.notes) == (tags, ())
    np.testing.assert_array_equal(run(model, {"x:0": X})[0], EXPECTED)


def test_several_graphs_none_of_which_is_to_serve_list_their_tags(tmp_path: Path) -> None:
    def twice(saved: Any) -> None:
        saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])
        saved.meta_graphs[1].meta_info_def.tags.append("gpu")

    path = edited(save_v1(tmp_path / "m", dense_v1, tags=("train",)), twice)
    with pytest.raises(
        FormatError, match=r"no graph tagged 'serve' in it; there are \{train\}, \{train, gpu\}; name one with tags="
    ):
        load(path)
    with pytest.raises(OptionError, match=r"no meta graph tagged \{gpu\}; there are \{train\}, \{train, gpu\}"):
        load(path, tags="gpu")
    model = load(path, tags="gpu,train")
    assert model.choice.tags == ("train", "gpu")
    assert model.choice.notes == ("signature 'serving_default' of the file; left out: the meta graph tagged {train}",)


def test_the_graph_for_serving_is_chosen_among_several(tmp_path: Path) -> None:
    def copy_for_tpu(saved: Any) -> None:
        first = saved.meta_graphs.add()
        first.CopyFrom(saved.meta_graphs[0])
        first.meta_info_def.tags.append("tpu")
        first.graph_def.Clear()
        both = [first, saved.meta_graphs[0]]
        copies = [type(first).FromString(m.SerializeToString()) for m in both]
        del saved.meta_graphs[:]
        saved.meta_graphs.extend(copies)

    model = load(edited(save_v1(tmp_path / "m", dense_v1), copy_for_tpu))
    np.testing.assert_array_equal(run(model, {"x:0": X})[0], EXPECTED)


# trust: looked at before anything is run


def reads_file(folder: Path, secret: Path) -> Path:
    """TensorFlow 2, x ─▶ y, with the content of a file beside it."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x, "content": tf.io.read_file(str(secret))}

    module = Module()
    return save_v2(folder, module.serve, module)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_model_that_reads_a_file_is_refused_and_the_file_is_not_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "secret"
    path = reads_file(tmp_path / "m", fifo)
    os.mkfifo(fifo)  # whoever opens it hangs
    program = (
        "import sys, graphsplit as gs\n"
        "try: gs.load(sys.argv[1]).check_trust(False)\n"
        "except gs.TrustError as error: print('tensorflow' in sys.modules, error.nodes)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False ('PartitionedCall/ReadFile',)", done.stderr
    with pytest.raises(TrustError, match="ReadFile"):
        scan(path).check_trust(False)


def test_a_trusted_model_is_loaded_and_still_says_what_it_does(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"42")
    model = load(reads_file(tmp_path / "m", secret), trust=True)
    assert [model.index.name_to_node_map[n].op for n in model.reaches_outside] == ["ReadFile"]
    with pytest.raises(TrustError):
        model.check_trust(False)
    assert run(model, {"x:0": [1.0]})[0] == b"42"


def test_python_in_a_model_is_refused(tmp_path: Path) -> None:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": tf.py_function(lambda v: v, [x], tf.float32)}

    module = Module()
    model = load(save_v2(tmp_path / "m", module.serve, module))
    with pytest.raises(TrustError, match=r"\(EagerPyFunc\)"):
        model.check_trust(False)


def test_a_model_that_changes_a_variable_as_it_runs_cannot_be_frozen(tmp_path: Path) -> None:
    """What a network traced for training does with the averages of its normalisations."""

    class Module(tf.Module):
        def __init__(self) -> None:
            self.average = tf.Variable([0.0])

        @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            self.average.assign(self.average * 0.9 + x * 0.1)
            return {"y": x - self.average}

    module = Module()
    wanted = r"__inference_serve_\d+/AssignVariableOp \(AssignVariableOp\) changes a variable .* export it with training=False"
    with pytest.raises(FormatError, match=wanted):
        load(save_v2(tmp_path / "m", module.serve, module))


def test_a_function_that_no_signature_calls_is_left_out(tmp_path: Path) -> None:
    """Nothing runs when the model is loaded; `scan` names what TensorFlow's loader might run."""

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x}

        @tf.function(input_signature=[])
        def other(self) -> Any:
            return tf.io.read_file("secret")

    module = Module()
    path = save_v2(tmp_path / "m", module.serve, module)
    load(path).check_trust(False)
    with pytest.raises(TrustError, match=r"\(__inference_other_\d+/ReadFile \(ReadFile\)\)"):
        scan(path).check_trust(False)


def table_from_file(folder: Path, words: Path) -> Path:
    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            entries = tf.lookup.TextFileInitializer(
                str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            )
            self.table = tf.lookup.StaticHashTable(entries, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def serve(self, word: Any) -> Any:
            return {"number": self.table.lookup(word)}

    module = Module()
    return save_v2(folder, module.serve, module)


def test_a_table_read_from_a_file_needs_trust_because_loading_reads_it(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a\nb\n")
    path = table_from_file(tmp_path / "m", words)
    (asset,) = (path / "assets").iterdir()
    content = asset.read_bytes()
    asset.unlink()
    with pytest.raises(TrustError, match=r"InitializeTableFromTextFileV2"):
        load(path)
    asset.write_bytes(content)
    model = load(path, trust=True)
    with pytest.raises(FormatError, match="not frozen"):
        model.check_frozen()


def test_a_table_in_a_v1_model_is_named_as_not_frozen(tmp_path: Path) -> None:
    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        word = tf.compat.v1.placeholder(tf.string, [None], name="word")
        entries = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2])
        table = tf.compat.v1.lookup.StaticHashTable(entries, -1)
        return {"word": word}, {"number": tf.identity(table.lookup(word), name="number")}

    model = load(save_v1(tmp_path / "m", build, main_op=tf.compat.v1.tables_initializer))
    with pytest.raises(FormatError, match=r"not frozen: .* is a HashTableV2"):
        model.check_frozen()


def test_a_v1_initialiser_that_reads_a_file_is_left_out(tmp_path: Path) -> None:
    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, outputs = dense_v1()
        content = tf.io.read_file(str(tmp_path / "secret"), name="peek")
        tf.compat.v1.add_to_collection("peek", tf.group(content, name="initialise"))
        return inputs, outputs

    path = save_v1(tmp_path / "m", build, main_op=lambda: tf.compat.v1.get_collection("peek")[0])
    load(path).check_trust(False)
    with pytest.raises(TrustError, match=r"\(peek \(ReadFile\)\)"):
        scan(path).check_trust(False)


def test_a_saver_left_over_from_training_does_no_harm(tmp_path: Path) -> None:
    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        made = dense_v1()
        tf.compat.v1.train.Saver()  # the builder makes another one, save_1
        return made

    model = load(save_v1(tmp_path / "m", build))
    np.testing.assert_array_equal(run(model, {"x:0": X})[0], EXPECTED)


def test_what_hides_among_the_nodes_that_save_is_not_excused(tmp_path: Path) -> None:
    """save/Const ─▶ RestoreV2 ─▶ Assign ─▶ restore_all        ^spy (ReadFile) joins restore_all"""

    def hide(saved: Any) -> None:
        graph = saved.meta_graphs[0].graph_def
        spy = graph.node.add(name="save/spy", op="ReadFile", input=["save/Const"])
        next(n for n in graph.node if n.name == "save/restore_all").input.append("^" + spy.name)

    path = edited(save_v1(tmp_path / "m", dense_v1), hide)
    load(path).check_trust(False)  # nothing of it is run
    with pytest.raises(TrustError, match=r"\(save/spy \(ReadFile\)\)"):
        scan(path).check_trust(False)


def test_variables_restored_from_another_checkpoint_are_not_excused(tmp_path: Path) -> None:
    """The file name of RestoreV2 comes from a constant instead of from the loader."""

    def elsewhere(saved: Any) -> None:
        graph = saved.meta_graphs[0].graph_def
        restore = next(n for n in graph.node if n.name == "save/RestoreV2")
        restore.input[0] = "save/filename/input"

    with pytest.raises(TrustError, match=r"\(save/RestoreV2 \(RestoreV2\)\)"):
        load(edited(save_v1(tmp_path / "m", dense_v1), elsewhere))


def test_saving_that_the_signature_needs_is_not_excused(tmp_path: Path) -> None:
    def use(saved: Any) -> None:
        graph = saved.meta_graphs[0].graph_def
        next(n for n in graph.node if n.name == "y").input.append("^save/SaveV2")

    model = load(edited(save_v1(tmp_path / "m", dense_v1), use))
    with pytest.raises(TrustError, match=r"save/SaveV2 \(SaveV2\)"):
        model.check_trust(False)


def test_a_restoring_function_with_more_in_it_or_held_by_an_object_is_not_excused(tmp_path: Path) -> None:
    module = Dense()
    path = save_v2(tmp_path / "m", module.plain, module)

    def restoring(saved: Any) -> Any:
        functions = saved.meta_graphs[0].graph_def.library.function
        return next(f for f in functions if "traced_restore" in f.signature.name)

    def hide(saved: Any) -> None:
        restoring(saved).node_def.add(name="spy", op="ReadFile", input=["file_prefix"])

    def hold(saved: Any) -> None:
        saved.meta_graphs[0].object_graph_def.nodes.add().function.concrete_functions.append(restoring(saved).signature.name)

    for place, change in enumerate((hide, hold)):
        copy = tmp_path / str(place)
        shutil.copytree(path, copy)
        with pytest.raises(TrustError, match="ReadFile" if change is hide else "RestoreV2"):
            scan(edited(copy, change)).check_trust(False)


def test_a_second_piece_of_the_graph_is_seen(tmp_path: Path) -> None:
    """Protobuf adds up the pieces of a message: a harmless graph may be followed by more of it."""
    from tensorflow.core.protobuf import meta_graph_pb2

    path = save_v1(tmp_path / "m", dense_v1)
    more = meta_graph_pb2.MetaGraphDef()
    more.graph_def.node.add(name="peek", op="ReadFile", input=["name"])
    more.graph_def.node.add(name="name", op="Const")
    file = path / "saved_model.pb"
    (meta,) = read_meta_graphs(file.read_bytes())
    first = meta_graph_pb2.MetaGraphDef()
    first.meta_info_def.tags.append("serve")
    first.graph_def.ParseFromString(meta.graph_def)
    content = first.SerializeToString() + more.SerializeToString()
    length, encoded = len(content), bytearray()
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    encoded.append(length)
    file.write_bytes(b"\x08\x01\x12" + bytes(encoded) + content)
    assert scan(path).reaches_outside == ("peek",)


# files that lie elsewhere


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "a/../../b", "C:\\x", "..\\x"])
def test_assets_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = edited(save_v1(tmp_path / "m", dense_v1), lambda saved: saved.meta_graphs[0].asset_file_def.add(filename=name))
    with pytest.raises(FormatError, match=r"the asset .* is outside of the SavedModel"):
        load(path)


def test_links_out_of_the_folder_are_refused_unless_trusted(tmp_path: Path) -> None:
    path = save_v1(tmp_path / "m", dense_v1)
    shutil.move(path / "variables", tmp_path / "elsewhere")
    (path / "variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match=r"variables is a link out of the SavedModel.*trust"):
        load(path)
    np.testing.assert_array_equal(run(load(path, trust=True), {"x:0": X})[0], EXPECTED)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_files_is_never_opened(tmp_path: Path) -> None:
    path = save_v1(tmp_path / "m", dense_v1)
    (path / "variables" / "variables.index").unlink()
    os.mkfifo(path / "variables" / "variables.index")
    with pytest.raises(FormatError, match=r"variables/variables\.index is a pipe or a device"):
        load(path)


# damage


def test_variables_that_are_not_there_are_named(tmp_path: Path) -> None:
    module = Dense()
    for path in (save_v1(tmp_path / "v1", dense_v1), save_v2(tmp_path / "v2", module.plain, module)):
        shutil.rmtree(path / "variables")
        with pytest.raises(FormatError, match=r"variables\.index is missing, which holds the value of '[wb]'") as caught:
            load(path)
        assert caught.value.path == str(path)


def test_damaged_variables_are_told_with_the_cause(tmp_path: Path) -> None:
    module = Dense()
    for path in (save_v1(tmp_path / "v1", dense_v1), save_v2(tmp_path / "v2", module.plain, module)):
        (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
        with pytest.raises(
            FormatError, match=r"variables\.data-00000-of-00001 is damaged: the value of '.*' reaches past its end"
        ) as caught:
            load(path)
        assert caught.value.__cause__ is not None
        assert "\n" not in str(caught.value)


def test_a_damaged_graph_is_told(tmp_path: Path) -> None:
    path = save_v1(tmp_path / "m", dense_v1)
    file = path / "saved_model.pb"
    whole = file.read_bytes()
    for damaged in (whole[:-7], whole[: len(whole) // 2], b"", b"\xff" * 64, b"\x08\x01", b"\x12\x03abc"):
        file.write_bytes(damaged)
        with pytest.raises(FormatError) as caught:
            load_saved_model(path)
        assert caught.value.path == str(path)
        with pytest.raises(FormatError):
            scan(path)


def test_a_call_of_a_function_that_is_not_there(tmp_path: Path) -> None:
    """TensorFlow would end the process."""

    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, outputs = dense_v1()
        return inputs, {"out": tf.while_loop(lambda y: tf.reduce_sum(y) < 9.0, lambda y: (y * 2.0,), (outputs["y"],))[0]}

    def drop(saved: Any) -> None:
        functions = saved.meta_graphs[0].graph_def.library.function
        del functions[next(i for i, f in enumerate(functions) if "body" in f.signature.name)]

    with pytest.raises(FormatError, match=r"'while' calls the function 'while_body_[0-9]+', which is not there"):
        load(edited(save_v1(tmp_path / "m", build), drop))


def test_an_op_that_tensorflow_does_not_know(tmp_path: Path) -> None:
    def change(saved: Any) -> None:
        next(n for n in saved.meta_graphs[0].graph_def.node if n.name == "y").op = "MyOwnAdd"

    path = edited(save_v1(tmp_path / "m", dense_v1), change)
    with pytest.raises(TrustError, match=r"y \(MyOwnAdd\)"):
        load(path).check_trust(False)
    load(path, trust=True).check_trust(True)


def test_no_saved_model_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a folder without saved_model\.pb"):
        load_saved_model(tmp_path)


# the graph as it stands in the file


def test_scan_shows_the_unfrozen_graph_without_tensorflow(tmp_path: Path) -> None:
    path = save_v1(tmp_path / "m", dense_v1)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from graphsplit.formats.saved_model import scan\n"
        "model = scan(Path(sys.argv[1]))\n"
        "print(model.format, [t.name for t in model.inputs], [t.name for t in model.outputs], 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "saved_model ['x:0'] ['y:0'] False"
    model = scan(path)
    assert {"VariableV2", "VarHandleOp", "RestoreV2"} <= {n.op for n in model.index.nodes}
    assert model.reaches_outside == (), "saving and restoring its own variables is no reaching outside"
    with pytest.raises(FormatError, match="not frozen"):
        model.check_frozen()
