"""The op table against the registry it was made from, and against what TensorFlow makes of every op it knows."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2

from graphsplit.formats.graphdef.indexing import index_graph
from graphsplit.formats.graphdef.ops import NEEDS_TRUST, OpInfo, op_table, port_dtypes
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.formats.graphdef.specs import output_dtypes
from graphsplit.graph.index import itemsize

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_op_table.py"
# Ops whose ports differ between the table's version of TensorFlow and another that the package is tested with.
# Between TensorFlow 2.16 and the version of the table.
CHANGED = frozenset({"CustomAggregator", "TensorListGetItem", "XlaSparseDenseMatmulWithCsrInput"})
# Ops that keep a value though the registry does not call them stateful.
UNMARKED = frozenset({"Batch", "BatchFunction", "CustomAggregator", "Unbatch", "UnbatchGrad"})
# Reviewed, and known to other versions of TensorFlow or to plug-ins only.
ELSEWHERE = """
AutoReloadVariable InitializeTRTResource SerializeTRTResource TfLiteSubgraphExecute _MklAdd _MklAddN _MklAddV2 _MklIdentity
_MklInputConversion _MklLRN _MklLRNGrad _MklMaximum _MklMul _MklReshape _MklSlice _MklSquaredDifference _MklSub _MklToTf
"""


@cache
def script(name: str = "make_op_table") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPT.with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def made() -> Any:
    return script().table()


def test_the_table_is_what_the_script_makes() -> None:
    if tf.__version__ != op_table().version:
        pytest.skip(f"the table is of TensorFlow {op_table().version}, installed is {tf.__version__}")
    assert script().TABLE.read_text(encoding="utf-8") == script().render(made())


def test_the_ops_that_run_on_the_cpu_only_are_what_the_script_finds() -> None:
    if tf.__version__ != op_table().version:
        pytest.skip(f"the table is of TensorFlow {op_table().version}, installed is {tf.__version__}")
    ops = script().cpu_ops()
    assert script().CPU_OPS.read_text(encoding="utf-8") == script().render_cpu_ops(ops)
    assert {"CTCGreedyDecoder", "CTCBeamSearchDecoder", "DecodeJpeg"} <= set(ops)
    assert set(ops).isdisjoint({"Conv2D", "MatMul", "Reshape", "Switch", "NonMaxSuppressionV3", "QuantizedConv2D", "_Retval"})


def test_the_table_agrees_with_another_version() -> None:
    """Ops come and go; those that both versions have keep their ports, dtypes and state."""
    here = made()["ops"]
    different = {op for op, entry in op_table().ops.items() if op in here and here[op] != entry}
    assert different <= CHANGED
    assert len(set(here) & set(op_table().ops)) > 1000
    numbers = {int(n): name for n, name in made()["dtypes"].items()}
    assert all(numbers.get(n, name) == name for n, name in op_table().dtypes.items())


def test_the_table_is_readable_line_by_line() -> None:
    """So that another TensorFlow shows as a change of a few lines."""
    text = script().TABLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) == len(op_table().ops) + 2
    assert json.loads(text)["tensorflow"] == op_table().version


# effects


def test_every_op_of_the_installed_tensorflow_has_been_reviewed() -> None:
    """Whoever meets this: read the kernels of these ops, and name them in scripts/op_effects.py."""
    assert script("op_effects").unreviewed(made()["ops"]) == []


def test_an_op_that_nobody_has_reviewed_stops_the_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    table = {**made(), "ops": {**made()["ops"], "QuantizedReadBlob": {"in": [], "out": []}, "Relu7": {"in": [], "out": []}}}
    monkeypatch.setattr(script(), "table", lambda: table)
    monkeypatch.setattr("sys.argv", ["make_op_table.py", "--stdout"])
    assert script().main() == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert "nobody has reviewed what these ops do; add them to op_effects.py: QuantizedReadBlob, Relu7" in written.err


def test_a_pattern_never_lets_an_op_through() -> None:
    for pattern, effects in script("op_effects").PATTERNS:
        assert not NEEDS_TRUST.isdisjoint(effects.split()), pattern


def test_every_op_is_reviewed_once_and_under_a_name_that_exists() -> None:
    effects = script("op_effects")
    harmless = effects.HARMLESS.split()
    assert [op for op in harmless if effects.effects_of(op)] == []
    for names in (harmless, *(names.split() for names in effects.NAMED.values())):
        assert len(names) == len(set(names))
        assert set(names) - op_table().ops.keys() <= set(ELSEWHERE.split())
    assert {op for op, entry in op_table().ops.items() if entry.get("effects", []) != list(effects.effects_of(op))} == set()


def test_what_keeps_a_value_is_neither_copied_nor_reordered() -> None:
    keeps = {op for op in op_table().ops if "state" in info(op).effects}
    assert all(info(op).stateful for op in keeps)
    assert {op for op in keeps if not op_table().ops[op].get("stateful")} == UNMARKED
    assert {op for op in op_table().ops if info(op).shared and NEEDS_TRUST.isdisjoint(info(op).effects)} <= keeps


def info(op: str) -> OpInfo:
    found = op_table().get(op)
    assert found is not None
    return found


@pytest.mark.parametrize(("number", "name"), sorted(op_table().dtypes.items()))
def test_every_dtype_has_its_size(number: int, name: str) -> None:
    try:
        dtype = tf.dtypes.as_dtype(number)
    except TypeError:
        pytest.skip(f"{name} is unknown to this TensorFlow's Python")
    assert dtype.name == name
    if name in ("string", "resource", "variant"):
        assert itemsize(name) is None
    else:
        size = itemsize(name)
        assert size is not None
        assert -(-size // 1) == dtype.size or name in (
            "int2",
            "uint2",
            "int4",
            "uint4",
        )  # half and quarter bytes take a whole one there


# notation


def attr(**given: Any) -> Any:
    values = {
        key: attr_value_pb2.AttrValue(i=v)
        if isinstance(v, int)
        else attr_value_pb2.AttrValue(type=v.as_datatype_enum)
        if isinstance(v, tf.DType)
        else attr_value_pb2.AttrValue(list={"type": [d.as_datatype_enum for d in v]})
        for key, v in given.items()
    }
    return values.get


@pytest.mark.parametrize(
    ("notation", "given", "ports"),
    [
        (["float32", "int32"], {}, ["float32", "int32"]),
        (["@T"], {"T": tf.uint8}, ["uint8"]),
        (["@T"], {}, [None]),
        (["@Tidx"], {}, ["int64"]),
        (["N*float32"], {"N": 3}, ["float32"] * 3),
        (["N*@T", "bool"], {"N": 2, "T": tf.string}, ["string", "string", "bool"]),
        (["N*@T"], {"N": 0, "T": tf.string}, []),
        (["few*@T"], {"T": tf.string}, ["string"] * 4),
        (["@Tout[]"], {"Tout": [tf.float32, tf.resource]}, ["float32", "resource"]),
        (["@Tout[]"], {"Tout": []}, []),
        (["@Tout[]"], {}, []),
        ([""], {}, [None]),
        ([], {}, []),
    ],
)
def test_the_notation_of_ports(notation: list[str], given: dict[str, Any], ports: list[str | None]) -> None:
    assert port_dtypes(notation, attr(**given), {"Tidx": "int64", "few": 4}) == ports


def test_a_reference_counts_as_what_it_refers_to() -> None:
    assert port_dtypes(["@T"], lambda _: attr_value_pb2.AttrValue(type=101), {}) == ["float32"]


@pytest.mark.parametrize("count", [-1, 2**31, -(2**63), 1_000_001])
def test_an_absurd_number_of_ports_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"^attribute 'N' asks for {count} ports$"):
        port_dtypes(["N*@T"], attr(N=count, T=tf.float32), {})


# every op of the registry, in a graph of TensorFlow's


FLOAT = tf.float32.as_datatype_enum
# TensorFlow 2.21 itself dies when it imports these with empty lists of fused ops.
DEADLY = {"_FusedQuantizedConv2D", "_FusedQuantizedDepthwiseConv2D", "_QuantizedMatMul"}


def values(op: Any) -> dict[str, attr_value_pb2.AttrValue] | None:
    """Attributes of an op that have no default, each with a value that it might take; None for one that wants a function."""
    found = {}
    for a in op.attr:
        if a.HasField("default_value"):
            continue
        value = attr_value_pb2.AttrValue()
        allowed = a.allowed_values.list
        if a.type == "type":
            value.type = allowed.type[-1] if allowed.type else FLOAT
        elif a.type == "list(type)":
            value.list.type.extend([allowed.type[0] if allowed.type else FLOAT] * max(a.minimum, 2))
        elif a.type == "int":
            value.i = max(a.minimum, 2)
        elif a.type == "list(int)":
            value.list.i.extend([1] * max(a.minimum, 4))
        elif a.type == "string":
            value.s = allowed.s[0] if allowed.s else b"ab,bc->ac" if a.name == "equation" else b"x"
        elif a.type == "list(string)":
            value.list.s.extend([b"x"] * max(a.minimum, 1))
        elif a.type == "float":
            value.f = 0.5
        elif a.type == "bool":
            value.b = False
        elif a.type == "shape":
            value.shape.dim.add(size=2)
        elif a.type == "list(shape)":
            value.list.shape.add().dim.add(size=2)
        elif a.type == "tensor":
            value.tensor.CopyFrom(tf.make_tensor_proto([1.0]))
        else:
            return None
        found[a.name] = value
    return found


def graph_of(op: Any, attrs: dict[str, attr_value_pb2.AttrValue]) -> graph_pb2.GraphDef:
    """The op, fed by placeholders."""
    stated = {a.name: a.default_value for a in op.attr if a.HasField("default_value")} | attrs
    dtypes: list[int] = []
    for arg in op.input_arg:
        if arg.type_list_attr:
            dtypes += stated[arg.type_list_attr].list.type
        else:
            dtype = stated[arg.type_attr].type if arg.type_attr else arg.type
            dtypes += [dtype] * (stated[arg.number_attr].i if arg.number_attr else 1)
    graph = graph_pb2.GraphDef()
    graph.versions.producer = tf.version.GRAPH_DEF_VERSION
    for i, dtype in enumerate(dtypes):
        graph.node.add(name=f"x{i}", op="Placeholder").attr["dtype"].type = dtype % 100
    node = graph.node.add(name="op", op=op.name, input=[f"x{i}" for i in range(len(dtypes))])
    for key, value in attrs.items():
        node.attr[key].CopyFrom(value)
    return graph


def registry() -> Iterator[Any]:
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    yield from op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())).op


@pytest.mark.parametrize("stated", ["what must be", pytest.param("everything", marks=pytest.mark.slow)])
def test_every_op_that_can_be_imported_has_the_ports_that_tensorflow_gives_it(stated: str) -> None:
    """Stating what must be is what an export does that strips defaults.

    Ops that take functions or what no placeholder can stand for are left out; at the end it is seen that most are there.
    """
    imported, kinds, wrong = set(), set(), []
    for op in registry():
        attrs = values(op)
        if attrs is None or op.name in DEADLY or op_table().get(op.name) is None:
            continue
        if op.name in CHANGED and tf.__version__ != op_table().version:
            continue
        if stated == "everything":
            attrs |= {a.name: a.default_value for a in op.attr if a.HasField("default_value") and a.type != "func"}
        graph = graph_of(op, attrs)
        try:
            with tf.Graph().as_default() as made:
                tf.graph_util.import_graph_def(graph, name="")
        except (ValueError, tf.errors.OpError):
            continue
        expected = [t.dtype.base_dtype.name for t in made.get_operation_by_name("op").outputs]
        reader = GraphDefReader(graph.SerializeToString())
        found = index_graph(reader).name_to_node_map["op"]
        dtypes = output_dtypes(reader, reader.by_name["op"])
        if dtypes != expected or len(found.outputs) != len(expected) or found.stateful != stateful(made, op):
            wrong.append((op.name, expected, dtypes, found))
        imported.add(op.name)
        for arg in op.output_arg:
            kinds.add("number" if arg.number_attr else "list" if arg.type_list_attr else "type" if arg.type_attr else "fixed")
    assert wrong == []
    assert kinds == {"number", "list", "type", "fixed"}
    assert len(imported) > 1400, len(imported)


def stateful(graph: tf.Graph, op: Any) -> bool:
    if op.name in UNMARKED:
        return True
    return bool(graph.get_operation_by_name("op").op_def.is_stateful or any(a.is_ref for a in (*op.input_arg, *op.output_arg)))


def test_an_op_that_nobody_knows_has_the_ports_that_are_read() -> None:
    graph = graph_pb2.GraphDef()
    graph.node.add(name="custom", op="TFLite_Detection_PostProcess").attr["_output_types"].list.type.extend([FLOAT] * 4)
    graph.node.add(name="mystery", op="MyOwnOp")
    graph.node.add(name="last", op="MyOwnOp", input=["mystery"])
    for port in (0, 3):
        graph.node.add(name=f"r{port}", op="Identity", input=[f"mystery:{port}"])
    index = index_graph(GraphDefReader(graph.SerializeToString()))
    assert index.name_to_node_map["custom"].outputs == tuple(f"custom:{i}" for i in range(4))
    assert [index.tensors[t].dtype for t in index.name_to_node_map["custom"].outputs] == ["float32"] * 4
    assert index.name_to_node_map["mystery"].outputs == tuple(f"mystery:{i}" for i in range(4))
    assert index.tensors["mystery:3"].dtype is None
    assert index.outputs[-1:] == ("r3:0",)
    assert "last:0" in index.outputs  # else the last op of a model would be lost without a word


def test_a_function_as_an_op_has_the_ports_of_its_signature() -> None:
    """An old way to call a function; number and dtypes may depend on attributes of the node."""
    graph = graph_pb2.GraphDef()
    signature = graph.library.function.add().signature
    signature.name = "many"
    signature.output_arg.add(name="fixed", type=tf.int32.as_datatype_enum)
    signature.output_arg.add(name="of", type_attr="T")
    signature.output_arg.add(name="n", type_attr="T", number_attr="N")
    signature.output_arg.add(name="list", type_list_attr="L")
    node: node_def_pb2.NodeDef = graph.node.add(name="call", op="many")
    node.attr["T"].type = tf.string.as_datatype_enum
    node.attr["N"].i = 2
    node.attr["L"].list.type.extend([FLOAT, tf.bool.as_datatype_enum])
    index = index_graph(GraphDefReader(graph.SerializeToString()))
    assert [index.tensors[t].dtype for t in index.name_to_node_map["call"].outputs] == [
        "int32", "string", "string", "string", "float32", "bool",
    ]  # fmt: skip
    assert index.calls == {"call": ("many",)}


def test_a_call_that_gives_nothing_gives_nothing() -> None:
    graph = graph_pb2.GraphDef()
    graph.library.function.add().signature.name = "quiet"
    for name, op in (("a", "PartitionedCall"), ("b", "StatefulPartitionedCall"), ("c", "quiet")):
        node = graph.node.add(name=name, op=op)
        if op != "quiet":
            node.attr["f"].func.name = "quiet"
            node.attr["Tout"].list.SetInParent()
    graph.node.add(name="y", op="NoOp", input=["^a", "^b", "^c"])
    index = index_graph(GraphDefReader(graph.SerializeToString()))
    assert {n.name: n.outputs for n in index.nodes} == {"a": (), "b": (), "c": (), "y": ()}
