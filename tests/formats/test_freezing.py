"""SavedModels frozen by reading: every output equal bit for bit to TensorFlow's own signature, without TensorFlow's loader."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphsplit import load
from graphsplit.errors import FormatError
from graphsplit.formats.freezing.bundle import Bundle
from graphsplit.formats.freezing.crc32c import crc32c
from graphsplit.formats.freezing.freeze import freeze_by_reading, read_frozen
from graphsplit.formats.meta_graph import read_meta_graphs

V1 = tf.compat.v1
X = np.arange(12, dtype=np.float32).reshape(2, 6) / 7


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@pytest.fixture(autouse=True, scope="module")
def plainly() -> Iterator[None]:
    """Without Grappler, which folds the constants of a frozen graph and not the variables of a function."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before.get("disable_meta_optimizer", False)})


def frozen(path: Path, key: str = "serving_default") -> tuple[bytes, Any]:
    (meta,) = read_meta_graphs((path / "saved_model.pb").read_bytes())
    data, _, signature = freeze_by_reading(path, meta, key)
    return data[:], signature


def run(path: Path, feeds: dict[str, Any], key: str = "serving_default") -> dict[str, Any]:
    data, signature = frozen(path, key)
    assert frozen(path, key)[0] == data, "the same bytes each time"
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(V1.GraphDef.FromString(data), name="")
    config = V1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with V1.Session(graph=graph, config=config) as session:
        found: dict[str, Any] = session.run(dict(signature.outputs), {signature.inputs[k]: v for k, v in feeds.items()})
    return found


def same(path: Path, feeds: dict[str, Any], key: str = "serving_default") -> None:
    """Compare with the signature as TensorFlow loads it."""
    found = run(path, feeds, key)
    loaded = tf.saved_model.load(str(path))
    expected = loaded.signatures[key](**{k: tf.constant(v) for k, v in feeds.items()})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        wanted = value.numpy()
        assert found[name].dtype == wanted.dtype
        assert np.asarray(found[name]).tobytes() == np.asarray(wanted).tobytes() or np.array_equal(found[name], wanted), name


# TensorFlow 2


class Base(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(np.linspace(-1, 1, 18, dtype=np.float32).reshape(6, 3))
        self.b = tf.Variable([0.5, -0.25, 4.0])
        self.captured = tf.constant([[2.0, 3.0, 4.0]])


def nested(m: Base) -> Callable[..., Any]:
    inner = tf.function(lambda x: x @ m.w)
    middle = tf.function(lambda x: inner(x) * m.captured + inner(x + 1))
    return lambda x: {"y": middle(x) + m.b, "z": m.b + m.b}


def loop(m: Base) -> Callable[..., Any]:
    def serve(x: Any) -> Any:
        y = x @ m.w
        _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.nn.relu(y) * m.b + tf.reduce_sum(m.w)), (0, y))
        return {"y": y}

    return serve


def branches(m: Base) -> Callable[..., Any]:
    def serve(x: Any) -> Any:
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: x @ m.w, lambda: x @ m.w * m.b)
        z = tf.switch_case(tf.cast(x[0, 0], tf.int32), [lambda: y + m.b, lambda: y - m.b])
        return {"z": z}

    return serve


def branch_in_loop(m: Base) -> Callable[..., Any]:
    helper = tf.function(lambda y: tf.cond(tf.reduce_sum(y) > 2, lambda: y * m.b, lambda: y + m.b))

    def serve(x: Any) -> Any:
        return {"y": tf.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, helper(y) + m.b), (0, x @ m.w))[1]}

    return serve


def gathers(m: Base) -> Callable[..., Any]:
    def serve(x: Any) -> Any:
        rows = tf.gather(m.w, tf.constant([3, 0]))
        cells = tf.gather_nd(m.w, [[1, 2], [0, 0]])
        inside = tf.map_fn(lambda i: tf.reduce_sum(tf.gather(m.w, i)), tf.constant([1, 2]), fn_output_signature=tf.float32)
        return {"rows": rows + x[0, 0], "cells": cells, "inside": inside, "size": tf.shape(m.w)}

    return serve


def several_outputs(m: Base) -> Callable[..., Any]:
    def serve(x: Any) -> Any:
        top = tf.math.top_k(x @ m.w, 2)
        a, b = tf.split(x, 2, axis=1)
        unique = tf.unique_with_counts(tf.cast(x[0], tf.int32))
        return {"values": top.values, "indices": top.indices, "a": a, "b": b, "count": unique.count}

    return serve


def left_as_call(m: Base) -> Callable[..., Any]:
    call = tf.function(lambda x: x @ m.w + m.b, experimental_attributes={"_noinline": True})
    return lambda x: {"y": call(call(x) @ tf.transpose(m.w))}


def no_variables(_: Base) -> Callable[..., Any]:
    return lambda x: {"y": x * 2.0, "x": x}


def with_assert(m: Base) -> Callable[..., Any]:
    def serve(x: Any) -> Any:
        tf.debugging.assert_less(x, 100.0)
        return {"y": tf.nn.softmax(x @ m.w)}

    return serve


@pytest.mark.parametrize(
    "build", [nested, loop, branches, branch_in_loop, gathers, several_outputs, left_as_call, no_variables, with_assert]
)
def test_objects(tmp_path: Path, build: Callable[[Base], Callable[..., Any]]) -> None:
    module = Base()
    serve = tf.function(build(module), input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path), signatures=serve)
    same(tmp_path, {"x": X})


def test_variables_of_every_dtype(tmp_path: Path) -> None:
    module = tf.Module()
    values = {
        "bool": tf.constant([True, False]), "int8": tf.constant([-3], tf.int8), "int64": tf.constant(2**40, tf.int64),
        "bfloat16": tf.constant([[1.5, -2]], tf.bfloat16), "half": tf.constant([0.5], tf.float16),
        "string": tf.constant([["a", "\x00b" * 100], ["", "ü"]]), "double": tf.constant(3.5, tf.float64),
        "complex64": tf.constant([1 + 2j], tf.complex64), "empty": tf.zeros([0, 3]),
        "large": tf.random.stateless_uniform([300, 70], [1, 2]),
    }  # fmt: skip
    module.held = {name: tf.Variable(value) for name, value in values.items()}
    serve = tf.function(lambda: {k: tf.identity(v) for k, v in module.held.items()}, input_signature=[])
    tf.saved_model.save(module, str(tmp_path), signatures=serve)
    found = run(tmp_path, {})
    for name, value in values.items():
        assert np.array_equal(found[name], value.numpy()), name


@pytest.mark.parametrize("api", ["save", "export"])
def test_keras(tmp_path: Path, api: str) -> None:
    keras = tf.keras
    model = keras.Sequential(
        [keras.layers.Input([6]), keras.layers.Dense(4, "relu"), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    )
    model.compile("adam", "mse")
    model.fit(X, np.zeros([2, 2]), verbose=0)
    path = tmp_path / "m"
    if api == "export":
        model.export(str(path), verbose=False)
    else:
        tf.saved_model.save(model, str(path))
    (meta,) = read_meta_graphs((path / "saved_model.pb").read_bytes())
    if api == "export":
        same(path, {meta.signatures["serving_default"].inputs[0].key: X})
    else:  # the graph restores other variables than the signature reads; only the objects say that they are the same
        data, reason = read_frozen(path, meta, "serving_default")
        assert data is None
        assert "nothing restores it" in reason
        assert load(path).index.outputs


def test_a_table_is_left_to_tensorflow_and_named(tmp_path: Path) -> None:
    module = tf.Module()
    module.t = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant([0], tf.int64), ["cat"]), "?")
    serve = tf.function(lambda x: {"y": module.t.lookup(x)}, input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
    tf.saved_model.save(module, str(tmp_path), signatures=serve)
    (meta,) = read_meta_graphs((tmp_path / "saved_model.pb").read_bytes())
    data, reason = read_frozen(tmp_path, meta, "serving_default")
    assert data is None
    assert "HashTableV2" in reason


def edited(path: Path, change: Callable[[Any], None]) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString(deterministic=True))


def saved_nested(path: Path) -> None:
    module = Base()
    serve = tf.function(nested(module), input_signature=[tf.TensorSpec([None, 6], tf.float32, name="x")])
    tf.saved_model.save(module, str(path), signatures=serve)


def test_functions_that_call_themselves_are_refused(tmp_path: Path) -> None:
    def around(meta: Any) -> None:
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                if node.op.endswith("PartitionedCall") and "signature_wrapper" in function.signature.name:
                    node.attr["f"].func.name = function.signature.name

    saved_nested(tmp_path)
    edited(tmp_path, around)
    with pytest.raises(FormatError, match="a function calls itself"):
        load(tmp_path)


def test_functions_that_call_functions_twice_are_bounded(tmp_path: Path) -> None:
    def doubled(meta: Any) -> None:
        library = meta.graph_def.library
        wrapper = next(f for f in library.function if "signature_wrapper" in f.signature.name)
        call = next(n for n in wrapper.node_def if n.op.endswith("PartitionedCall"))
        target = call.attr["f"].func.name
        body = next(f for f in library.function if f.signature.name == target)
        for number in range(40):
            more = library.function.add()
            more.CopyFrom(wrapper)
            more.signature.name = f"twice_{number}"
            for node in [n for n in more.node_def if n.op.endswith("PartitionedCall")]:
                second = more.node_def.add()
                second.CopyFrom(node)
                second.name = "second"
                for one in (node, second):
                    one.attr["f"].func.name = f"twice_{number + 1}" if number < 39 else body.signature.name
        call.attr["f"].func.name = "twice_0"

    saved_nested(tmp_path)
    edited(tmp_path, doubled)
    with pytest.raises(FormatError, match="more than 300,000 nodes"):
        load(tmp_path)


# TensorFlow 1


def save_v1(path: Path, build: Callable[[], tuple[dict[str, Any], dict[str, Any]]], *, sharded: bool = False) -> None:
    with tf.Graph().as_default(), V1.Session() as session:
        inputs, outputs = build()
        session.run(V1.global_variables_initializer())
        builder = V1.saved_model.Builder(str(path))
        signature = V1.saved_model.predict_signature_def(inputs, outputs)
        saver = V1.train.Saver(sharded=sharded, allow_empty=True)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, saver=saver)
        builder.save()


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_graphs_with_partitioned_variables(tmp_path: Path, resource: bool, sharded: bool) -> None:
    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        x = V1.placeholder(tf.float32, [None, 6], name="x")
        init = V1.random_normal_initializer(seed=3)
        split = V1.fixed_size_partitioner(3)
        w = V1.get_variable("w", [6, 5], initializer=init, partitioner=split, use_resource=resource)
        b = V1.get_variable("b", [5], initializer=init, use_resource=not resource)
        return {"x": x}, {"y": x @ tf.convert_to_tensor(w) + b, "b": tf.identity(b), "embedded": tf.nn.embedding_lookup(b, [1, 3])}

    save_v1(tmp_path, build, sharded=sharded)
    same(tmp_path, {"x": X})


@pytest.mark.parametrize("functional", [False, True])
def test_graphs_with_loops_and_branches(tmp_path: Path, functional: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.python.ops import control_flow_util

    monkeypatch.setattr(control_flow_util, "ENABLE_CONTROL_FLOW_V2", functional)

    def build() -> tuple[dict[str, Any], dict[str, Any]]:
        x = V1.placeholder(tf.float32, [None, 6], name="x")
        old = V1.get_variable("old", initializer=np.float32(1.5), use_resource=False)
        new = V1.get_variable("new", initializer=np.linspace(0, 1, 6, dtype=np.float32), use_resource=True)
        y = V1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * old + tf.gather(new, i)), (0, x))[1]
        z = V1.cond(tf.reduce_sum(x) > 1, lambda: y * new, lambda: y - new)
        return {"x": x}, {"y": y, "z": z}

    save_v1(tmp_path, build)
    same(tmp_path, {"x": X})


# checkpoints


def checkpoint(folder: Path, **values: Any) -> Path:
    (folder / "variables").mkdir()
    prefix = folder / "variables" / "variables"
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(v) for v in values.values()],
    )
    return prefix


@pytest.mark.parametrize("size", [0, 1, 7, 511, 512, 4097, 70_001, 400_003])
def test_checksums_do_not_depend_on_how_data_is_divided(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(b"123456789") == 0xE3069283
    whole = crc32c(data)
    assert whole == crc32c(data[size // 3 :], crc32c(data[: size // 3]))
    if size:
        assert whole != crc32c(bytes([data[0] ^ 1]) + data[1:])


def test_every_changed_byte_of_a_checkpoint_is_told(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path, a=np.arange(5.0), b=[b"x", b"yy"], c=3)
    values = [Bundle(prefix).content(Bundle(prefix).find(name)) for name in "abc"]
    for file in (tmp_path / "variables").iterdir():
        whole = file.read_bytes()
        for place in [*range(0, len(whole), 3), -1]:
            for damaged in (whole[:place], _flipped(whole, place)):
                file.write_bytes(damaged)
                try:
                    bundle = Bundle(prefix)
                    content = [bundle.content(bundle.find(name)) for name in "abc"]
                except FormatError as error:
                    told = str(error)
                    content = None
                if content is None:
                    assert "\n" not in told
                    assert f"variables/{file.name} is damaged" in told
                else:  # the metaindex, which is empty, and the padding of the footer
                    assert (file.suffix, content) == (".index", values)
        file.write_bytes(whole)


def _flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


def test_a_missing_file_of_values_is_named(tmp_path: Path) -> None:
    prefix = checkpoint(tmp_path, a=1.0)
    (tmp_path / "variables" / "variables.data-00000-of-00001").unlink()
    bundle = Bundle(prefix)
    with pytest.raises(FormatError, match=r"variables\.data-00000-of-00001 is missing"):
        bundle.content(bundle.find("a"))
    with pytest.raises(FormatError, match="no value named 'b'"):
        bundle.find("b")
