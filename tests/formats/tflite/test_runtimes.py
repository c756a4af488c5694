"""Sections load and run in every interpreter in which the whole does: LiteRT's two, and TFLite Micro's."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
import graphsplit as gs  # noqa: E402
from graphsplit.errors import FormatError  # noqa: E402
from graphsplit.formats.tflite.model import TFLiteModel  # noqa: E402
from tests.formats.tflite.builder import Built, chain, per_channel  # noqa: E402

#: Programs that run the file of their first argument, in processes of their own: native code may crash.
_COMPILED = """
import sys
from ai_edge_litert.compiled_model import CompiledModel
model = CompiledModel.from_buffer(open(sys.argv[1], "rb").read())
model.run_by_index(0, model.create_input_buffers(0), model.create_output_buffers(0))
"""
_MICRO = """
import sys
from tflite_micro.python.tflite_micro import runtime
runtime.Interpreter.from_bytes(open(sys.argv[1], "rb").read(), arena_size=2**20).invoke()
"""


def planned() -> Built:
    """With a plan of the memory of its tensors, which TFLite Micro follows."""
    built = chain()
    count = len(built.main.table.tensors)
    built.metadata("OfflineMemoryAllocation", np.array([1, 0, count, *range(0, 64 * count, 64)], np.int32).tobytes())
    return built


@pytest.mark.parametrize(
    ("program", "needs"),
    [(_COMPILED, "ai_edge_litert.compiled_model"), (_MICRO, "tflite_micro")],
    ids=["CompiledModel", "TFLite Micro"],
)
@pytest.mark.parametrize("make", [chain, planned])
def test_sections_run_where_the_whole_does(make, program, needs, tmp_path):
    if find_spec(needs.partition(".")[0]) is None or find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    whole = TFLiteModel(make().bytes())
    inner = [t for n in whole.index.nodes if n.kind == "op" for t in n.outputs if t not in whole.outputs]
    for name, model in (("whole", whole), *((p.name, p.model) for p in gs.split(whole, inner[0]))):
        path = model.save(tmp_path / f"{name}.tflite")
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (name, done.stderr[-500:])


def svdf(state: str) -> TFLiteModel:
    """x ─▶ SVDF y ─▶ RELU z, of int8 with a state of that type."""
    built = Built()
    graph = built.main
    x = graph.tensor("x", [1, 4], "int8", quantization=per_channel([0.5]))
    feature = graph.tensor("feature", [2, 4], "int8", value=np.ones((2, 4)), quantization=per_channel([0.5]))
    time = graph.tensor("time", [2, 3], state, value=np.ones((2, 3)), quantization=per_channel([0.5]))
    bias = graph.tensor("bias", [2], "int32", value=np.zeros(2), quantization=per_channel([0.25]))
    memory = graph.tensor("memory", [1, 6], state, quantization=per_channel([0.5]), variable=True)
    y = graph.tensor("y", [1, 2], "int8", quantization=per_channel([0.5]))
    graph.op("SVDF", [x, feature, time, bias, memory], [y], rank=1, fusedActivationFunction=1)
    z = graph.tensor("z", [1, 2], "int8", quantization=per_channel([0.5]))
    graph.op("RELU", [y], [z])
    graph.ends([x], [z])
    return TFLiteModel(built.bytes())


def test_a_state_that_only_tflite_micro_has_is_refused_before_litert_leaves_its_memory():
    whole = svdf("int8")
    parts = gs.split(whole, "y")
    with pytest.raises(FormatError, match=r"LiteRT cannot run 'y': an SVDF with int8 state, which only TFLite Micro"):
        gs.verify(whole, parts, isolate=False)
    legal = svdf("int16")
    report = gs.verify(legal, gs.split(legal, "y"), isolate=False)
    assert (report.equal, report.runs) == (True, 3)


def suppressed() -> TFLiteModel:
    """Boxes whose suppression the file states as [1, ?], though every run returns [?]."""
    built = Built()
    graph = built.main
    boxes = graph.tensor("boxes", [6, 4])
    scores = graph.tensor("scores", [6])
    most = graph.tensor("most", [], "int32", value=np.array(3))
    limits = [graph.tensor(n, [], value=np.array(0.1)) for n in ("iou", "least")]
    picked = graph.tensor("picked", [1, 1], "int32", signature=[1, -1])
    count = graph.tensor("count", [], "int32")
    graph.op("NON_MAX_SUPPRESSION_V4", [boxes, scores, most, *limits], [picked, count])
    shape = graph.tensor("shape", [2], "int32", value=np.array([1, -1]))
    out = graph.tensor("out", [1, 1], "int32", signature=[1, -1])
    graph.op("RESHAPE", [picked, shape], [out])
    graph.ends([boxes, scores], [out, count])
    return TFLiteModel(built.bytes())


def test_a_border_has_the_rank_that_it_has_in_a_run_and_not_the_one_that_the_file_states():
    whole = suppressed()
    assert whole.index.tensors["picked"].shape == (None,)
    parts = gs.split(whole, "picked")
    (spec,) = (s for s in parts["post"].model.inputs if s.name == "picked")
    assert spec.shape == (None,)
    assert gs.verify(whole, parts, isolate=False).equal


@pytest.mark.parametrize("size", [1, 5, 16])
def test_inputs_of_open_length_are_resized_in_whole_and_sections(size):
    built = Built()
    graph = built.main
    x = graph.tensor("x", [1, 1, 4], signature=[1, -1, 4])
    r = graph.relu(x, "r")
    graph.ends([x], [graph.relu(r, "y")])
    whole = TFLiteModel(built.bytes())
    parts = gs.split(whole, "r")
    assert [p.model.inputs[0].shape for p in parts] == [(1, None, 4)] * 2
    report = gs.verify(whole, parts, {"x": np.ones((1, size, 4), np.float32)}, isolate=False)
    assert (report.equal, report.outputs[0].shape) == (True, (1, size, 4))
