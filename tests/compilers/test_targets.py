"""Tables of targets: what they refuse, and what is wrong with a file."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.formats.tflite.schema import op_name
from graphsplit.graph.index import Function, GraphIndex, Group, Node, TensorSpec
from graphsplit.planning.targets import Compiler, Constraint, Target, is_compiled, read_target, target_names

ROOT = Path(__file__).resolve().parents[2]
INT8 = ("int8", "uint8", "int16")


def index(*nodes: Node, **specs: tuple[str | None, tuple[int | None, ...] | None]) -> GraphIndex:
    """A TFLite graph: nodes are named after their output; int8 [1, 4, 4, 8] where nothing else is said."""
    tensors = {t: TensorSpec(t, *specs.get(t, ("int8", (1, 4, 4, 8)))) for n in nodes for t in n.outputs}
    return GraphIndex(nodes, tensors, ("x",), (nodes[-1].outputs[-1],))


def op(name: str, kind: str, *inputs: str) -> Node:
    return Node(name, kind, inputs, (name,))


def source(name: str = "x") -> Node:
    return Node(name, "input", (), (name,), kind="input")


def const(name: str = "w") -> Node:
    return Node(name, "const", (), (name,), kind="const")


def refusals(target: Target, graph: GraphIndex) -> dict[str, str]:
    return dict(target.refusals(graph))


def table(**fields) -> Target:
    ops = {"CONV_2D": "accelerator", "RELU": "either", "TOPK_V2": "host"}
    return Target("mine", "", ("tflite",), **{"dtypes": INT8, "ops": ops} | fields)


def test_ops_are_refused_by_side_and_unknown_ones_by_default():
    graph = index(source(), op("a", "CONV_2D", "x"), op("b", "RELU", "a"), op("c", "TOPK_V2", "b"), op("d", "GATHER", "c"))
    assert list(refusals(table(), graph)) == ["c", "d"]
    assert "TOPK_V2 is not supported by mine" in refusals(table(), graph)["c"]
    assert list(refusals(table(unknown="accelerator"), graph)) == ["c"]


@pytest.mark.parametrize("kind", ["FlexQr", "TFLite_Detection_PostProcess", "Signal_Rfft", "my-op"])
def test_custom_ops_are_the_hosts_unless_the_table_names_them(kind):
    graph = index(source(), op("a", kind, "x"))
    assert "stays on the host" in refusals(table(unknown="accelerator"), graph)["a"]
    assert refusals(table(ops={kind: "accelerator"}), graph) == {}


@pytest.mark.parametrize("kind", ["edgetpu-custom-op", "ethos-u", "DISPATCH_OP", "XC_conv", "MTKEXT_1"])
def test_what_a_compiler_wrote_is_the_accelerators(kind):
    assert is_compiled(kind)
    assert refusals(table(), index(source(), op("a", kind, "x"), a=("float32", None))) == {}
    assert not is_compiled(f"not {kind}")


@pytest.mark.parametrize("dtype", ["string", "resource", "variant"])
def test_strings_and_handles_stay_on_the_host(dtype):
    graph = index(source(), op("a", "GATHER", "x"), op("b", "RELU", "a"), x=(dtype, None))
    assert refusals(table(unknown="accelerator", dtypes=()), graph) == {"a": f"GATHER works on a {dtype}, which stays on the host"}


def test_an_op_of_tensorflow_is_no_custom_op():
    nodes = (Node("x", "Placeholder", (), ("x:0",), kind="input"), Node("a", "Conv2D", ("x:0",), ("a:0",)))
    graph = GraphIndex(nodes, {t: TensorSpec(t) for t in ("x:0", "a:0")}, ("x:0",), ("a:0",))
    assert refusals(table(unknown="accelerator"), graph) == {}


def test_handles_of_a_loop_are_no_state_of_the_host():
    nodes = (
        Node("x", "Placeholder", (), ("x:0",), kind="input"),
        Node("array", "TensorArrayV3", ("x:0",), ("array:0",), group="g"),
        Node("table", "HashTableV2", (), ("table:0",)),
        Node("check", "Assert", ("x:0",)),
    )
    tensors = {t: TensorSpec(t, "resource") for t in ("array:0", "table:0")} | {"x:0": TensorSpec("x:0", "float32")}
    graph = GraphIndex(nodes, tensors, ("x:0",), ("array:0",), groups={"g": Group("g", "TensorArray", ("array",))})
    assert list(refusals(table(unknown="accelerator", dtypes=()), graph)) == ["table"]


def test_a_call_is_refused_for_an_op_of_its_function():
    graph = index(source(), op("a", "WHILE", "x"))
    body = Function("body", ("CONV_2D", "TOPK_V2"), ())
    graph = GraphIndex(graph.nodes, graph.tensors, ("x",), ("a",), functions={"body": body}, calls={"a": ("body",)})
    assert refusals(table(unknown="accelerator"), graph) == {"a": "TOPK_V2 is not supported by mine"}


def test_a_tensor_of_another_dtype_is_refused_and_an_index_is_not():
    graph = index(source(), op("a", "CONV_2D", "x", "w"), op("b", "RELU", "a"), const(), w=("int32", None), b=("float32", None))
    assert refusals(table(), graph) == {"b": "mine takes int8, uint8, int16 (b is float32)"}
    assert refusals(table(dtypes=()), graph) == {}


@pytest.mark.parametrize(
    ("constraint", "tensors", "why"),
    [
        (Constraint("narrow", inputs=("int8",)), {"x": ("int16", None)}, "narrow (x is int16)"),
        (Constraint("narrow", outputs=("int8",)), {"a": ("int16", None)}, "narrow (a is int16)"),
        (Constraint("weights.", weights=("int8",)), {"w": ("int16", None)}, "weights (w is int16)"),
        (Constraint("rank", ranks=(1, 3)), {}, "rank (x has 4 dimensions)"),
        (Constraint("rank", ranks=(1, 4)), {"a": ("int8", ())}, "rank (a has 0 dimensions)"),
        (Constraint("static", static=True), {"a": ("int8", (None, None, 3))}, "static (a is [?, ?, 3])"),
        (Constraint("static", static=True), {"a": ("int8", (None, 2, 3))}, ""),
        (Constraint("scale", upscale=(2,)), {"a": ("int8", (1, 16, 16, 8))}, "scale ([1, 4, 4, 8] becomes [1, 16, 16, 8])"),
        (Constraint("scale", upscale=(2, 4)), {"a": ("int8", (1, 16, 16, 8))}, ""),
        (Constraint("aligned", upscale=(2,)), {"a": ("int8", (1, 7, 7, 8))}, ""),
        (Constraint("scale", upscale=(2,)), {"a": ("int8", (1, None, 9, 8))}, "scale ([1, 4, 4, 8] becomes [1, ?, 9, 8])"),
        (Constraint("other op", ops=("RELU",), inputs=("int16",)), {}, ""),
        (Constraint("excepted", unless=("CONV_2D",), inputs=("int16",)), {}, ""),
        (Constraint("unknown passes", inputs=("int16",), ranks=(1, 1)), {"x": (None, None), "a": (None, None)}, ""),
    ],
)
def test_constraints(constraint, tensors, why):
    graph = index(source(), const(), op("a", "CONV_2D", "x", "w"), **tensors)
    assert refusals(table(dtypes=(), constraints=(constraint,)), graph).get("a", "") == why


def test_inferred_shapes_are_believed():
    graph = index(source(), op("a", "CONV_2D", "x"), a=("int8", (None, None)))
    target = table(constraints=(Constraint("static", static=True),))
    assert list(target.refusals(graph)) == ["a"]
    assert target.refusals(graph, {"a": TensorSpec("a", "int8", (1, 4))}) == {}


def test_a_float_model_gets_one_sentence():
    graph = index(
        source(), op("a", "CONV_2D", "x"), op("b", "CAST", "a"), x=("float32", None), a=("float32", None), b=("int32", None)
    )
    assert table().unsuited(graph) == "the network computes in float32, and mine takes int8, uint8, int16: quantise the model first"
    assert table(dtypes=()).unsuited(graph) == ""
    assert table(dtypes=("int8", "float16")).unsuited(graph) == ""
    mixed = index(source(), op("a", "CONV_2D", "x"), op("b", "CONV_2D", "a"), x=("float32", None), a=("float32", None))
    assert table().unsuited(mixed) == ""


# built in


@pytest.mark.parametrize("name", target_names())
def test_built_in_targets_name_ops_that_exist_and_their_source(name):
    target = read_target(name)
    assert target.name == name
    assert target.path is None
    assert "PyPI" in target.source or "https://" in target.source
    assert set(target.ops) <= {op_name(n, n, "") for n in range(250)}
    assert {op for c in target.constraints for op in (*c.ops, *c.unless)} <= set(target.ops)


def test_there_are_six():
    assert target_names() == ("edgetpu", "ethos-u55", "ethos-u65", "ethos-u85", "openvino", "qualcomm-htp")


@pytest.mark.parametrize("name", ["ethos-u55", "ethos-u65", "ethos-u85"])
def test_tables_of_ethos_u_are_those_of_the_compilers_report(name):
    if importlib.util.find_spec("ethosu") is None:
        pytest.skip("ethos-u-vela is not installed")
    done = subprocess.run([sys.executable, ROOT / "scripts" / "make_targets.py", name], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads((ROOT / f"graphsplit/planning/targets/{name}.json").read_text(encoding="utf-8"))


# files

ASK = {"command": ["c", "{model}"], "refused": "(?P<op>.)(?P<tensor>.)(?P<reason>.)"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a target such as"),
        ("{", "not JSON"),
        ({}, r"\$\.name: is missing"),
        ({"name": ""}, r"\$\.name: the name must be printable"),
        ({"name": "a\x1b[31m"}, r"\$\.name: the name must be printable"),
        ({"name": "a", "opps": {}}, "unknown key 'opps'"),
        ({"name": "a", "ops": {"CONV_2D": "gpu"}}, r"\$\.ops"),
        ({"name": "a", "unknown": "nowhere"}, r"\$\.unknown: .*nowhere"),
        ({"name": "a", "formats": ["onnx"]}, r"\$\.formats\[0\]: 'onnx' is not one of tflite, graphdef"),
        ({"name": "a", "dtypes": ["int8", "i9"]}, r"\$\.dtypes\[1\]: 'i9' is not a dtype"),
        (
            {"name": "a", "constraints": [{"reason": "r", "inputs": ["x"]}]},
            r"\$\.constraints\[0\]\.inputs\[0\]: 'x' is not a dtype",
        ),
        ({"name": "a", "constraints": [{"ops": ["A"]}]}, r"\$\.constraints\[0\]\.reason: is missing"),
        ({"name": "a", "constraints": [{"reason": "r", "rank": 4}]}, "unknown key 'rank'"),
        ({"name": "a", "compiler": {"command": ["c", "{model}"]}}, r"\$\.compiler\.refused: is missing"),
        ({"name": "a", "compiler": ASK | {"command": []}}, r"\$\.compiler\.command: no program"),
        ({"name": "a", "compiler": ASK | {"command": "vela x"}}, r"\$\.compiler\.command"),
        ({"name": "a", "compiler": ASK | {"command": ["c"]}}, r"\$\.compiler\.command: \{model\} is missing"),
        ({"name": "a", "compiler": ASK | {"command": ["c", "{model}\0"]}}, r"\$\.compiler\.command: holds a zero byte"),
        ({"name": "a", "compiler": ASK | {"seconds": 0}}, r"\$\.compiler\.seconds: 0 is not between"),
        ({"name": "a", "compiler": ASK | {"refused": "("}}, r"\$\.compiler\.refused: the pattern does not compile"),
        ({"name": "a", "compiler": ASK | {"refused": "a{99999999999999}"}}, r"\$\.compiler\.refused: the pattern does not compile"),
        ({"name": "a", "compiler": ASK | {"refused": "(" * 900 + ")" * 900}}, r"\$\.compiler\.refused"),
        ({"name": "a", "compiler": ASK | {"refused": "x" * 5000}}, r"\$\.compiler\.refused: a pattern of 5000 characters"),
        (
            {"name": "a", "compiler": ASK | {"refused": "(?P<op>.*)"}},
            r"lacks the named groups tensor, reason; write \(\?P<tensor>\)",
        ),
        ({"name": "a", "compiler": ASK | {"taken": r"\d+"}}, r"\$\.compiler\.taken: the pattern has no group"),
        ({"name": "a", "compiler": ASK | {"shell": True}}, "unknown key 'shell'"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_entry(content, message, tmp_path):
    path = tmp_path / "target.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(gs.FormatError, match=message) as caught:
        read_target(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_names_the_nearest(tmp_path):
    with pytest.raises(gs.OptionError, match="no target named 'etos-u55'; did you mean ethos-u55"):
        read_target("etos-u55")
    with pytest.raises(gs.OptionError, match=r"no target named 'zzz'; there are edgetpu, .*, or the path of a \.json file"):
        read_target("zzz")
    with pytest.raises(gs.OptionError, match="target must be the name of a target"):
        read_target(55)  # type: ignore[arg-type]
    with pytest.raises(gs.FormatError, match="cannot be read"):
        read_target(tmp_path / "none.json")


def test_a_file_may_hold_as_little_as_a_name(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"name": "mine"}')
    target = read_target(str(path))
    assert (target.name, target.formats, target.unknown, target.compiler, target.path) == ("mine", ("tflite",), "host", None, path)
    assert read_target(target) is target


def test_the_name_of_a_compiler_is_that_of_its_program(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"name": "a", "compiler": ASK | {"command": ["/opt/bin/mx_nc", "{model}"]}}))
    compiler = read_target(path).compiler
    assert isinstance(compiler, Compiler)
    assert compiler.name == "mx_nc"
