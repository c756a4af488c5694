"""Shapes without running the model: the skeleton holds no weights, opens nothing, and gives every shape that can be known.

path ─▶ ReadFile ─▶ DecodeRaw ─┐              TensorFlow evaluates this while it imports the graph, to know the shape
                    x ─▶ Reshape ─▶ y         of y: it opens whatever file the constant names
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from graphsplit.errors import TrustError
from graphsplit.formats import load
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.skeleton import LARGE
from graphsplit.graph.index import Shape
from graphsplit.inference.shapes import infer
from graphsplit.parts.folder import save
from graphsplit.parts.manifest import load_parts
from graphsplit.splitting.surgery import split
from graphsplit.verification.equivalence import verify
from tests.formats import raw
from tests.graphs import Func, NodeDef, const, function, model, node, placeholder
from tests.shared import SHARED, shared_model

# trap 29: what is hidden, and where


def reading(path: Path, op: str = "ReadFile") -> list[NodeDef]:
    """content: what an op reads from a file that a constant names, as int32."""
    return [
        path_const(path),
        node("read", op, "path"),
        node("content", "DecodeRaw", "read", out_type=tf.int32),
    ]


def path_const(path: Path) -> NodeDef:
    made = NodeDef(name="path", op="Const")
    made.attr["dtype"].type = tf.string.as_datatype_enum
    made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(path).encode()))
    return made


X = placeholder("x", [None, 6])
READ_BY = ["read", "call", "call of a call", "by name", "case"]


def hostile(path: Path, where: str) -> GraphDefModel:
    """x ─▶ y, reshaped to what stands in a file, and y ─▶ z; the file is read in the graph or in a function of its library."""
    string, ints = {"path": tf.string}, {"content": tf.int32}
    inner = function(
        "inner", string, ints, [node("read", "ReadFile", "path"), node("raw", "DecodeRaw", "read:contents:0", out_type=tf.int32)],
        {"content": "raw:output:0"},
    )  # fmt: skip
    called = node("c", "PartitionedCall", "path", Tin=[tf.string], Tout=[tf.int32], f=Func(name="inner"))
    outer = function("outer", string, ints, [called], {"content": "c:output:0"})
    name = {"call": "inner", "call of a call": "outer"}.get(where, "")
    by: dict[str, list[NodeDef]] = {
        "read": reading(path),
        "call": [path_const(path), node("content", "PartitionedCall", "path", Tin=[tf.string], Tout=[tf.int32], f=Func(name=name))],
        "by name": [path_const(path), node("content", "inner", "path")],
        "case": [
            path_const(path), const("zero", 0),
            node("content", "StatelessCase", "zero", "path", Tin=[tf.string], Tout=[tf.int32], branches=[Func(name="outer")] * 2),
        ],
    }  # fmt: skip
    by["call of a call"] = by["call"]
    rest = [node("y", "Reshape", "x", "content"), node("z", "Relu", "y"), node("out", "Softmax", "z")]
    return model(X, *by[where], *rest, functions=[inner, outer])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that holds [2, 3]; who opens it may learn that y is 2 by 3."""
    path = tmp_path / "secret"
    path.write_bytes(np.int32([2, 3]).tobytes())
    return path


def imported_shape(data: bytes, name: str) -> Any:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(data), name="")
    return graph.get_tensor_by_name(name).shape


def test_tensorflow_itself_opens_the_file(secret: Path) -> None:
    """Else the tests below would show nothing."""
    assert imported_shape(hostile(secret, "read").serialized(), "y:0") == [2, 3]


@pytest.mark.parametrize("where", READ_BY)
def test_inference_does_not_learn_what_stands_in_a_file(secret: Path, where: str) -> None:
    whole = hostile(secret, where)
    found = infer(whole, ["y:0", "z:0"])
    assert found["y:0"].shape in (None, (None, None))
    assert found["y:0"].dtype == "float32"
    data, names = whole.skeleton(["y:0"])
    assert imported_shape(data, names["y:0"]).rank in (None, 2)
    assert str(secret).encode() not in data


@pytest.mark.parametrize("op", ["ReadFile", "MatchingFiles", "ImmutableConst", "RecordInput"])
def test_ops_that_open_files_are_not_in_the_skeleton(secret: Path, op: str) -> None:
    if op in ("ReadFile", "MatchingFiles"):
        nodes = [path_const(secret), node("f", op, "path")]
    elif op == "ImmutableConst":
        nodes = [node("f", op, dtype=tf.string, shape=[1], memory_region_name=str(secret))]
    else:
        nodes = [node("f", op, file_pattern=str(secret))]
    whole = model(X, *nodes, node("n", "StringLength", "f"), node("y", "Identity", "n", T=tf.int32))
    data, _ = whole.skeleton(["n:0"])
    assert {n.op for n in tf.compat.v1.GraphDef.FromString(data).node} == {"Placeholder", "StringLength"}
    assert str(secret).encode() not in data
    assert infer(whole, ["n:0"])["n:0"].dtype == "int32"


@pytest.mark.parametrize("where", READ_BY)
def test_running_is_refused_and_the_node_is_named(secret: Path, where: str) -> None:
    whole = hostile(secret, where)
    parts = split(whole, outputs="z")
    named = "read" if where == "read" else "content"
    with pytest.raises(TrustError, match=rf"^the model reaches outside itself \({named} \(") as caught:
        verify(whole, parts)
    assert caught.value.nodes == (named,)


@pytest.mark.parametrize("where", READ_BY)
def test_splitting_without_running_works_on_it_all_the_same(secret: Path, tmp_path: Path, where: str) -> None:
    parts = split(hostile(secret, where), outputs="z")
    again = load_parts(save(parts, tmp_path / "out"))
    assert [p.name for p in again] == ["main", "post"]
    assert again["main"].model.reaches_outside
    assert not again["post"].model.reaches_outside


def test_nothing_waits_for_a_pipe(tmp_path: Path) -> None:
    """Nobody writes into it: who opens it waits for ever. In a process of its own, so that it can be ended."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for where in READ_BY:
        hostile(pipe, where).save(tmp_path / f"{where}.pb")
    code = """
import sys
from pathlib import Path
import graphsplit as gs
from graphsplit.cli import run
from graphsplit.inference.shapes import infer

folder = Path(sys.argv[1])
for path in sorted(folder.glob("*.pb")):
    model = gs.load(path)
    infer(model, ["y:0", "z:0", "out:0"])
    assert run(["plan", str(path), "--outputs", "z"]) == 0
    assert run(["show", str(path), "--shapes"]) == 0
    assert run(["split", str(path), "--outputs", "z", "-o", str(folder / path.stem)]) == 1
    assert run(["split", str(path), "--outputs", "z", "-o", str(folder / path.stem), "--no-verify"]) == 0
    assert run(["verify", str(folder / path.stem)]) == 1
    print("DONE", path.stem)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=240, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {line.removeprefix("DONE ") for line in done.stdout.splitlines() if line.startswith("DONE")} == set(READ_BY)
    assert done.stderr.count("the model reaches outside itself") == 2 * len(READ_BY)


# the skeleton


def test_large_constants_become_placeholders_of_their_dtype_and_shape() -> None:
    small, large = const("small", np.ones([2, 3], np.float32)), const("large", np.ones([3, 500], np.float32))
    whole = model(placeholder("x", [None, 2]), small, large, node("a", "MatMul", "x", "small"), node("b", "MatMul", "a", "large"))
    data, names = whole.skeleton(["b:0"])
    ops = {n.name: n.op for n in tf.compat.v1.GraphDef.FromString(data).node}
    assert ops == {"x": "Placeholder", "small": "Const", "large": "Placeholder", "a": "MatMul", "b": "MatMul"}
    assert len(data) < LARGE < whole.nbytes
    assert imported_shape(data, "large:0") == [3, 500]
    assert names == {"b:0": "b:0"}
    assert infer(whole, ["a:0", "b:0"])["b:0"].shape == (None, 500)


def test_only_what_the_tensors_need_is_in_it() -> None:
    whole = model(X, node("a", "Relu", "x"), node("b", "Relu", "a"), node("other", "Relu", "x"))
    data, _ = whole.skeleton(["a:0"])
    assert [n.name for n in tf.compat.v1.GraphDef.FromString(data).node] == ["x", "a"]


def test_what_lies_behind_an_unknown_op_is_left_out() -> None:
    """Its shape stays unknown; the others are inferred all the same."""
    odd = NodeDef(name="odd", op="MyOwnOp", input=["x"])
    known = node("custom", "TFLite_Detection_PostProcess", "x", _output_types=[tf.float32] * 4)
    whole = model(X, odd, node("behind", "Relu", "odd"), known, node("read", "Relu", "custom"), node("fine", "Relu", "x"))
    found = infer(whole, ["odd:0", "behind:0", "read:0", "fine:0"])
    assert {t: (s.dtype, s.shape) for t, s in found.items()} == {
        "odd:0": ("float32", None), "behind:0": ("float32", None), "read:0": ("float32", None), "fine:0": ("float32", (None, 6)),
    }  # fmt: skip


def test_a_size_that_depends_on_the_batch_stays_unknown_and_one_that_does_not_is_found() -> None:
    """Reshape to [batch, -1, 3]: with an unknown batch TensorFlow gives up on the -1, too."""
    nodes = [
        placeholder("x", [None, 4, 6]),
        node("shape", "Shape", "x"),
        *(const(name, value) for name, value in (("zero", [0]), ("one", [1]), ("rest", -1), ("three", 3), ("two", [2, -1]))),
        node("batch", "StridedSlice", "shape", "zero", "one", "one", T=tf.int32, Index=tf.int32, shrink_axis_mask=1),
        node("target", "Pack", "batch", "rest", "three", N=3, T=tf.int32),
        node("y", "Reshape", "x", "target", Tshape=tf.int32),
        node("flat", "Reshape", "x", "two", Tshape=tf.int32),
    ]
    whole = model(*nodes)
    assert infer(whole, ["y:0"])["y:0"].shape == (None, 8, 3)
    assert infer(whole, ["flat:0"])["flat:0"].shape == (2, None)
    assert imported_shape(whole.serialized(), "y:0").as_list()[1] is None


def test_a_graph_that_takes_one_batch_only_is_inferred_all_the_same() -> None:
    whole = model(placeholder("x", [None, 2]), placeholder("one", [1, 2]), const("axis", 0), node("ok", "AddV2", "x", "one"),
                  const("four", [2, 2, 1]), node("y", "Reshape", "x", "four", Tshape=tf.int32), node("z", "Relu", "y"))  # fmt: skip
    assert infer(whole, ["ok:0", "z:0"])["z:0"].shape == (2, 2, 1)


def test_shapes_that_the_file_states_need_no_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "model.pb"
    y = raw.placeholder("y", raw.FLOAT, -1, 7)
    path.write_bytes(raw.graph(raw.placeholder("x", raw.FLOAT, -1, 7), y, raw.identity("z", "y")))
    code = (
        "import sys, graphsplit as gs\nfrom graphsplit.inference.shapes import infer\n"
        "print(infer(gs.load(sys.argv[1]), ['x:0', 'y:0'])['y:0'].shape, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60, capture_output=True, text=True, check=True)
    assert done.stdout == "(None, 7) False\n"


# the border shapes of the shared models

BORDERS: dict[str, dict[str, Shape]] = {
    "ssd_mobilenet_v1_coco_2017.pb": {
        "Postprocessor/convert_scores": (None, 1917, 90),
        "Postprocessor/ExpandDims_1": (None, 1917, 1, 4),
    },
    "ssd_mobilenet_v1_coco_2018.pb": {
        "Postprocessor/Slice": (None, 1917, 90),
        "Postprocessor/convert_scores": (None, 1917, 91),
        "Postprocessor/ExpandDims_1": (None, 1917, 1, 4),
        "Postprocessor/stack_1": (None, 4),
    },
    "ssd_mobilenet_v1_face_2017.pb": {
        "Postprocessor/convert_scores": (None, 5118, 2),
        "Postprocessor/ExpandDims_1": (None, 5118, 1, 4),
    },
    "ssd_mobilenet_v1_face_2018.pb": {
        "Postprocessor/Slice": (None, 5118, 2),
        "Postprocessor/convert_scores": (None, 5118, 3),
        "Postprocessor/ExpandDims_1": (None, 5118, 1, 4),
        "Postprocessor/stack_1": (None, 4),
    },
    "tiny_ssd_mobilenet_v1_2017.pb": {
        "Postprocessor/convert_scores": (None, 1917, 3),
        "Postprocessor/ExpandDims_1": (None, 1917, 1, 4),
    },
    "tiny_ssd_mobilenet_v1_2018.pb": {
        "Postprocessor/Slice": (None, 1917, 3),
        "Postprocessor/ExpandDims_1": (None, 1917, 1, 4),
        "Postprocessor/stack_1": (None, 4),
    },
}


@cache
def shared(name: str) -> GraphDefModel:
    return load(shared_model(name))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in ("tiny_ssd_mobilenet_v1_2017.pb", "ssd_mobilenet_v1_coco_2018.pb") else pytest.mark.slow)
        for n in BORDERS
    ],
)
def test_the_borders_of_shared_detectors_have_the_shapes_that_are_published(name: str) -> None:
    whole = shared(name)
    found = infer(whole, [f"{n}:0" for n in BORDERS[name]])
    assert {t.removesuffix(":0"): s.shape for t, s in found.items()} == BORDERS[name]
    assert {s.dtype for s in found.values()} == {"float32"}


@pytest.mark.parametrize("name", sorted(p.name[:-3] for p in (SHARED / "models").glob("*.pb.gz")) or ["any.pb"])
def test_the_skeleton_of_a_shared_model_is_small_and_without_weights(name: str) -> None:
    whole = shared(name)
    data, names = whole.skeleton(whole.index.outputs)
    assert set(names) == set(whole.index.outputs)
    assert len(data) < 3 * 2**20
    nodes = tf.compat.v1.GraphDef.FromString(data).node
    assert max(n.ByteSize() for n in nodes if n.op == "Const") < LARGE
    assert {n.op for n in nodes if n.name in {t.rpartition(":")[0] for t in whole.index.inputs}} <= {"Placeholder"}
