"""Models that try to reach outside, share state behind a cut's back, or never end; each attempt is shown to work when trusted.

x ─▶ a ─▶ call (a function prints to the file that its caller binds) ─▶ y
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import graphsplit as gs
from graphsplit.cli import run as run_command
from graphsplit.errors import CutError, FormatError, TrustError
from graphsplit.exports import export
from graphsplit.formats import GraphDefModel
from graphsplit.inference.shapes import frame_bytes, infer
from graphsplit.parts.parts import Part
from tests.graphs import Func, FunctionDef, NodeDef, const, function, graph, model, node, placeholder

FLOAT = tf.float32
PASSES = {"Tin": [FLOAT], "Tout": [FLOAT]}
X = {"x:0": np.ones((1, 4), np.float32)}
HERE = {"main": "/cpu:0", "post": "/cpu:0"}
PACKAGE = Path(gs.__file__).parent


class Open(str):
    """An attribute that the caller binds."""


def opened(made: NodeDef, **names: str) -> NodeDef:
    """The node, with attributes that the caller of its function binds."""
    for key, name in names.items():
        made.attr[key].placeholder = name
    return made


def bind(name: str, **attrs: str | Open) -> Func:
    """A function with what is bound to it."""
    made = Func(name=name)
    for key, value in attrs.items():
        if isinstance(value, Open):
            made.attr[key].placeholder = str(value)
        else:
            made.attr[key].s = value.encode()
    return made


def body(name: str, *nodes: NodeDef, reads: str, opens: Iterable[str] = (), **defaults: str) -> FunctionDef:
    """A function of one float whose callers bind the attributes `opens`, or may bind those that have a default."""
    made = function(name, {"x": FLOAT}, {"y": FLOAT}, nodes, {"y": reads})
    for key in opens:
        made.signature.attr.add(name=key, type="string")
    for key, value in defaults.items():
        made.signature.attr.add(name=key, type="string").default_value.s = value.encode()
    made.signature.is_stateful = True
    return made


def prints(**defaults: str) -> FunctionDef:
    return body(
        "prints",
        const("text", b"written by the model", object),
        opened(node("p", "PrintV2", "text:output:0"), output_stream="stream"),
        node("i", "Identity", "x", "^p"),
        reads="i:output:0",
        opens=() if defaults else ("stream",),
        **defaults,
    )


def calls(name: str, f: Func | None, source: str = "x", op: str = "StatefulPartitionedCall") -> NodeDef:
    made = node(name, op, source, **PASSES)
    if f is not None:
        made.attr["f"].func.CopyFrom(f)
    return made


def direct(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    return node("call", "prints", "a", stream=stream), [prints()]


def bound_by_a_call(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    return calls("call", bind("prints", stream=stream), "a"), [prints()]


def through_two_functions(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    outer = body("outer", calls("c", bind("prints", stream=Open("to"))), reads="c:output:0", opens=["to"])
    return node("call", "outer", "a", to=stream), [prints(), outer]


def through_an_op(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    inner = opened(node("c", "prints", "x"), stream="to")
    outer = body("outer", inner, reads="c:y:0", opens=["to"])
    return calls("call", bind("outer", to=stream), "a"), [prints(), outer]


def by_default(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    return node("call", "prints", "a"), [prints(stream=stream)]


def of_a_branch(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    made = node("call", "If", "a", "a", Tcond=FLOAT, Tin=[FLOAT], Tout=[FLOAT])
    made.attr["then_branch"].func.CopyFrom(bind("prints", stream=stream))
    made.attr["else_branch"].func.CopyFrom(bind("prints", stream="stderr"))
    return made, [prints()]


def in_a_list(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    made = node("call", "Case", "zero", "a", Tin=[FLOAT], Tout=[FLOAT])
    made.attr["branches"].list.func.extend([bind("prints", stream=stream), bind("prints", stream="stderr")])
    return made, [prints()]


def passed_on(stream: str) -> tuple[NodeDef, list[FunctionDef]]:
    outer = body("outer", opened(calls("c", None), f="g"), reads="c:output:0")
    outer.signature.attr.add(name="g", type="func")
    made = Func(name="outer")
    made.attr["g"].func.CopyFrom(bind("prints", stream=stream))
    return calls("call", made, "a"), [prints(), outer]


WAYS: list[Callable[[str], tuple[NodeDef, list[FunctionDef]]]] = [
    direct,
    bound_by_a_call,
    through_two_functions,
    through_an_op,
    by_default,
    of_a_branch,
    in_a_list,
    passed_on,
]


def attempt(way: Callable[[str], tuple[NodeDef, list[FunctionDef]]], stream: str) -> GraphDefModel:
    call, functions = way(stream)
    before = [const("zero", 0), placeholder("x", [None, 4]), node("a", "Relu", "x")]
    if way is of_a_branch:
        before += [const("axes", [0, 1]), node("sum", "Sum", "a", "axes", Tidx=tf.int32)]
        call.input[0] = "sum"
    return model(*before, call, node("y", "Tanh", "call"), functions=functions)


def run_alone(part: Part) -> None:
    with gs.AsyncRunner(part) as runner:
        runner.connect_input(lambda: iter([X["x:0"]]))
        runner.connect_output(lambda value: None)
        runner.wait()


def every_door(whole: GraphDefModel, tmp_path: Path) -> None:
    """Whatever runs a model, or infers something from it, without trust."""
    parts = gs.split(whole, outputs="a", devices=HERE)  # infers shapes
    infer(whole, [t for t in whole.index.tensors if t not in whole.index.captive])
    frame_bytes(whole)
    gs.suggest(whole)
    doors: list[Callable[[], Any]] = [
        lambda: gs.verify(whole, parts),
        lambda: gs.Pipeline(parts),
        lambda: gs.place(parts),
        lambda: gs.bench(parts, model=whole, frames=2),
        lambda: run_alone(parts["post"]),
        lambda: export(parts, tmp_path / "saved", to="saved_model", section="post"),
        lambda: export(whole, tmp_path / "whole", to="tflite"),
    ]
    for door in doors:
        with pytest.raises(TrustError, match=r"call \("):
            door()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_file_that_a_caller_binds_is_written_with_trust_only(way: Any, tmp_path: Path) -> None:
    target = tmp_path / "written"
    whole = attempt(way, f"file://{target}")
    assert whole.reaches_outside == ("call",)
    every_door(whole, tmp_path)
    assert not target.exists()
    parts = gs.split(whole, outputs="a", devices=HERE)
    gs.verify(whole, parts, feeds=X, trust=True)
    assert "written by the model" in target.read_text()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_prints_to_stderr_needs_no_trust(way: Any, capfd: pytest.CaptureFixture[str]) -> None:
    whole = attempt(way, "stderr")
    assert whole.reaches_outside == ()
    assert gs.verify(whole, gs.split(whole, outputs="a", devices=HERE), feeds=X, isolate=False).equal
    assert "written by the model" in capfd.readouterr().err


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("place", ["served", "initialiser", "unused function"])
def test_a_saved_model_is_loaded_without_running_it(way: Any, place: str, tmp_path: Path) -> None:
    target = tmp_path / "written"
    graph_def = attempt(way, f"file://{target}").graph_def
    if place != "served":
        next(n for n in graph_def.node if n.name == "y").input[0] = "a"
    if place == "unused function":
        del graph_def.node[[n.name for n in graph_def.node].index("call")]
        graph_def.library.function.append(body("loose", calls("c", bind("prints", stream=f"file://{target}")), reads="c:output:0"))
        if way is by_default:
            graph_def.library.function[-1].node_def[0].attr["f"].func.ClearField("attr")
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(graph_def)
    signature = meta.signature_def["serving_default"]
    signature.inputs["x"].name, signature.outputs["y"].name = "x:0", "y:0"
    if place == "initialiser":
        meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "call"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    if place == "served":
        with pytest.raises(TrustError, match="the model reaches outside itself"):
            gs.load(folder).check_trust(False)
    else:
        gs.load(folder).check_trust(False)
    for command in (["show", str(folder)], ["split", str(folder), "--outputs", "a", "-o", str(tmp_path / "out")]):
        run_command(command)
    assert not target.exists()


# State without an edge


def staged(put: str, take: str, **attrs: Any) -> list[NodeDef]:
    """x ─▶ a ─▶ put      b = tanh(a), after put      take, after put ─▶ reshaped      y = reshaped + b"""
    if put == "MapStage":
        key, index = const("key", np.int64(1), np.int64), const("index", [0])
        store = node("put", put, "key", "index", "a", dtypes=[FLOAT], fake_dtypes=[FLOAT], **attrs)
        fetch = node("take", take, "key", "index", dtypes=[FLOAT], **attrs)
        return [key, index, store, fetch]
    return [node("put", put, "a", dtypes=[FLOAT], **attrs), node("take", take, dtypes=[FLOAT], **attrs)]


def queued(op: str, version: str) -> list[NodeDef]:
    made = [node(h, op + version, component_types=[FLOAT], shared_name="s") for h in ("h1", "h2")]
    put = node("put", f"QueueEnqueue{version}", "h1", "a", Tcomponents=[FLOAT])
    return [*made, put, node("take", f"QueueDequeue{version}", "h2", component_types=[FLOAT])]


STATE: dict[str, list[NodeDef]] = {
    "Stage": staged("Stage", "Unstage", shared_name="s"),
    "a stage by the name of its node": [
        node("put", "Stage", "a", dtypes=[FLOAT]),
        node("take", "Unstage", dtypes=[FLOAT], shared_name="put"),
    ],
    "a queue of two handles": queued("FIFOQueue", "V2"),
    "an old queue": queued("FIFOQueue", ""),
    "a stage in functions": [
        node("put", "put", "a", store="s"),
        calls("take", bind("take", store="s"), "x"),
    ],
}
FUNCTIONS = [
    body(
        "put",
        opened(node("st", "Stage", "x", dtypes=[FLOAT]), shared_name="store"),
        node("i", "Identity", "x", "^st"),
        reads="i:output:0",
        opens=["store"],
    ),
    body(
        "take",
        opened(node("un", "Unstage", dtypes=[FLOAT]), shared_name="store"),
        reads="un:values:0",
        opens=["store"],
    ),
]


@pytest.mark.parametrize("kind", STATE)
def test_no_cut_divides_state_that_is_shared_by_its_name(kind: str) -> None:
    """Every cut there is: refused, or equal to the whole, in three runs."""
    whole = model(
        placeholder("x", [2, 4]),
        node("a", "Relu", "x"),
        *STATE[kind],
        node("b", "Tanh", "a", "^put"),
        const("shape", [2, 4]),
        node("reshaped", "Reshape", "take", "shape", Tshape=tf.int32),
        node("late", "Exp", "reshaped"),
        node("y", "AddV2", "late", "b"),
        functions=FUNCTIONS,
    )
    assert any({"put", "take"} <= set(group.nodes) for group in whole.index.groups.values())
    feeds = [{"x:0": np.full((2, 4), value, np.float32)} for value in (1, 2, 3)]
    divided = 0
    for tensor in whole.index.tensors:
        try:
            parts = gs.split(whole, outputs=tensor)
        except CutError:
            continue
        for part in parts:
            inside = {n.name for n in part.graph_def.node if n.op != "Placeholder"} & {"put", "take"}
            assert inside in (set(), {"put", "take"}), (tensor, part.name)
        gs.verify(whole, parts, feeds=feeds).check()
        divided += len(list(parts)) > 1
    assert divided >= 2  # before put, and after b


# What never ends


def test_a_queue_that_nobody_fills_is_named_and_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    waits = graph(
        node("q", "FIFOQueueV2", component_types=[FLOAT]),
        const("n", 2),
        node("deq", "QueueDequeueManyV2", "q", "n", component_types=[FLOAT]),
        node("conv", "Relu", "deq"),
        node("y", "Tanh", "conv"),
    )
    path = tmp_path / "waits.pb"
    path.write_bytes(waits.SerializeToString())
    whole, start = gs.load(path), time.monotonic()
    parts = gs.split(whole, inputs="deq", outputs="conv", devices={"pre": "/cpu:0", **HERE})
    with pytest.raises(FormatError, match=r"'deq' \(QueueDequeueManyV2\) waits for a value that nothing in the graph supplies"):
        gs.verify(whole, parts)
    with pytest.raises(FormatError, match="'deq'"):
        gs.Pipeline(parts)
    command = ["split", str(path), "--inputs", "deq", "--outputs", "conv", "-o", str(tmp_path / "out")]
    assert run_command(command) == 1
    assert "(--no-verify)" in capfd.readouterr().err
    assert time.monotonic() - start < 30
    assert run_command([*command, "--no-verify"]) == 0


# The rule itself

# What imports a model into a runtime, runs one, or infers from one → the modules that may, which check first.
RUNTIMES = {
    "import_graph_def": {
        "execution/placement.py",
        "exports/joining.py",
        "formats/saved_model_freezing.py",
        "runtimes/tensorflow.py",
    },
    "import_graph": {"exports/saved_model.py", "runtimes/tensorflow.py"},
    "infer_shapes": {"inference/tasks.py", "inference/shapes.py"},
    "Interpreter": {"runtimes/litert.py"},
    "TFLiteConverter": {"exports/converter.py"},
    "load_model": {"formats/keras.py"},
    "transfer_times": {"benchmark/process.py"},
    "wrap_function": set(),
    "function_from_graph_def": set(),
}


def test_models_are_imported_by_few_modules() -> None:
    """Whoever meets this: call `check_runnable` first, then name the module here."""
    users: dict[str, set[str]] = {name: set() for name in RUNTIMES}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        for name in names & RUNTIMES.keys():
            users[name].add(path.relative_to(PACKAGE).as_posix())
    assert users == RUNTIMES
