"""What TensorFlow's converter writes, cut and proven: float32, float16, int8, uint8, loops, branches, batches, signatures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from graphsplit.errors import CutError
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import verify

pytest.importorskip("ai_edge_litert")
tf: Any = pytest.importorskip("tensorflow")


def samples() -> Iterator[list[Any]]:
    rng = np.random.default_rng(0)
    for _ in range(4):
        yield [rng.uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)]


def network() -> Any:
    """image ─▶ conv ─▶ depthwise ─┬▶ conv ─▶ add ─▶ flat ─▶ dense ─▶ softmax
    └──────────▶┘
    """
    rng = np.random.default_rng(1)

    def weights(*shape: int) -> Any:
        return tf.constant(rng.normal(0, 0.4, shape).astype(np.float32))

    first, deep, second, dense = weights(3, 3, 3, 8), weights(3, 3, 8, 1), weights(1, 1, 8, 8), weights(128, 32)

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.float32, name="image")])
    def net(image: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(image, first, 2, "SAME"))
        y = tf.nn.relu6(tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME"))
        z = tf.nn.conv2d(y, second, 1, "SAME") + y
        return {"scores": tf.nn.softmax(tf.matmul(tf.reshape(z, [1, 128]), dense)), "features": z}

    return net


def converted(function: Any, change: Callable[[Any], None] = lambda converter: None) -> TFLiteModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
        change(converter)
        return TFLiteModel(converter.convert())


def _dynamic(converter: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _float16(converter: Any) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _integers(kind: Any) -> Callable[[Any], None]:
    def change(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = kind

    return change


KINDS = {
    "float32": (lambda converter: None, "float32", "float32"),
    "dynamic": (_dynamic, "float32", "int8"),
    "float16": (_float16, "float32", "float16"),
    "int8": (_integers(tf.int8), "int8", "int8"),
    "uint8": (_integers(tf.uint8), "uint8", "int8"),
}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> tuple[TFLiteModel, str, str]:
    change, ends, weights = KINDS[request.param]
    return converted(network(), change), ends, weights


def every_cut(whole: TFLiteModel, least: int) -> None:
    """Cut at every tensor where that is legal: equal bit by bit, and a border is what it was, scale and zero point, too."""
    source = dict(zip(whole.reader.names, whole.reader.subgraphs[0].tensors, strict=True))
    made = 0
    for at in [t for n in whole.index.nodes if n.kind == "op" for t in n.outputs]:
        try:
            parts = split(whole, outputs=at, shapes=False)
        except CutError:
            continue
        made += len(parts) == 2
        report = verify(whole, parts)
        assert report.equal, report.summary()
        assert report.max_abs_error == 0
        for part in parts:
            for name, tensor in zip(part.model.reader.names, part.model.reader.subgraphs[0].tensors, strict=True):
                old, new = source[name].table("quantization"), tensor.table("quantization")
                assert (old is None) == (new is None)
                if old is not None and new is not None:
                    for field in ("scale", "zero_point", "min", "max"):
                        assert old.numbers(field) == new.numbers(field)
                    assert old.number("quantized_dimension") == new.number("quantized_dimension")
    assert made >= least


def test_every_kind_of_weights_is_cut_at_every_tensor(kind):
    whole, ends, weights = kind
    assert [s.dtype for s in (*whole.inputs, *whole.outputs)] == [ends] * 3
    constants = {whole.index.tensors[n.name].dtype for n in whole.index.nodes if n.kind == "const"}
    assert weights in constants
    every_cut(whole, least=4)


def test_batches_of_any_size_stay_so():
    rng = np.random.default_rng(2)
    dense = tf.constant(rng.normal(size=(4, 6)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
    def net(x):
        return tf.nn.relu(tf.tanh(tf.matmul(x, dense)) - 0.5)

    whole = converted(net)
    assert whole.inputs[0].shape == (None, 4)
    middle = next(n for n in whole.index.nodes if n.op == "TANH").outputs[0]
    parts = split(whole, outputs=middle, shapes=False)
    assert parts["post"].inputs[0].shape == (None, 6)
    assert verify(whole, parts).runs == 2
    assert verify(whole, parts, {whole.inputs[0].name: np.ones((7, 4), np.float32)}).equal
    every_cut(whole, least=2)


def test_loops_and_branches_are_cut_before_and_behind():
    @tf.function(input_signature=[tf.TensorSpec([3], tf.float32)])
    def net(x):
        x = tf.exp(x)
        _, y = tf.while_loop(
            lambda i, v: i < 3, lambda i, v: (i + 1, tf.cond(v[0] < 2.0, lambda: v * 2.0, lambda: v - 1.0)), (0, x)
        )
        return tf.sqrt(tf.abs(y))

    whole = converted(net)
    ops = {n.op for n in whole.index.nodes} | {op for f in whole.index.functions.values() for op in f.ops}
    assert {"WHILE", "IF"} <= ops
    every_cut(whole, least=3)


def test_signatures_of_a_saved_model_are_carried(tmp_path):
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="a"), tf.TensorSpec([1, 4], tf.float32, name="b")])
        def serve(self, a, b):
            return {"total": tf.tanh(tf.nn.relu(a) + b)}

    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, tmp_path / "m", signatures={"serve": module.serve})
        whole = TFLiteModel(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "m"), ["serve"]).convert())
    parts = split(whole, outputs=next(n.name for n in whole.index.nodes if n.kind == "op"), shapes=False)
    assert verify(whole, parts).equal
    from ai_edge_litert.interpreter import Interpreter

    post = Interpreter(model_content=parts["post"].model.serialized()).get_signature_list()
    assert post["serve"]["outputs"] == ["total"]


def test_scale_and_zero_point_of_an_input_are_told(kind: tuple[TFLiteModel, str, str]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    whole = kind[0]
    given = whole.inputs[0]
    (detail,) = Interpreter(model_content=whole.serialized()).get_input_details()
    stated = whole.quantisation(given.name)
    assert (stated is None) == (given.dtype == "float32")
    assert stated is None or stated == pytest.approx(detail["quantization"])
    assert whole.quantisation("nothing of this name") is None
