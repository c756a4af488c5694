"""GraphDefs read by their bytes: what TensorFlow's own parser and importer see in them, the index finds.

Below that: graphs that are none, graphs that ask for too much, and what of a graph a section keeps.
"""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import graph_pb2, node_def_pb2

from graphsplit.errors import FormatError
from graphsplit.formats import load
from graphsplit.formats.graphdef.messages import message
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.reader import GraphDefReader
from graphsplit.graph.index import GraphIndex
from graphsplit.splitting.surgery import plan, split
from tests.formats import raw
from tests.formats.raw import field, number
from tests.graphs import node_of
from tests.shared import SHARED, shared_model

MODELS = sorted(p.name[:-3] for p in (SHARED / "models").glob("*.pb.gz")) or ["any.pb"]


def graph_def(data: bytes) -> graph_pb2.GraphDef:
    return graph_pb2.GraphDef.FromString(data)


def index_of(*nodes: bytes, **rest: Any) -> GraphIndex:
    return GraphDefModel([raw.graph(*nodes, **rest)]).index


# the walk, against TensorFlow's own parse


def same_nodes(read: Iterable[Any], parsed: Iterable[node_def_pb2.NodeDef]) -> None:
    assert [n[:4] for n in read] == [(n.name, n.op, tuple(n.input), n.device) for n in parsed]


def same_attributes(reader: GraphDefReader, parsed: graph_pb2.GraphDef) -> None:
    """Every attribute but the weights, as TensorFlow's messages hold it."""
    for mine, theirs in zip(reader.nodes, parsed.node, strict=True):
        found = reader.attributes(mine)
        assert set(found) == set(theirs.attr) - {"value"}
        for key, value in found.items():
            assert theirs.attr[key].FromString(value.SerializeToString()) == theirs.attr[key], (mine.name, key)


@cache
def parsed(name: str) -> graph_pb2.GraphDef:
    return graph_def(shared_model(name).read_bytes())


@pytest.mark.parametrize("name", MODELS)
def test_shared_models_are_read_as_tensorflow_parses_them(name: str) -> None:
    reader = load(shared_model(name)).reader
    same_nodes(reader.nodes, parsed(name).node)
    same_attributes(reader, parsed(name))
    assert reader.producer_version == parsed(name).versions.producer
    assert set(reader.library.functions) == {f.signature.name for f in parsed(name).library.function}
    for function in parsed(name).library.function:
        same_nodes(reader.library.functions[function.signature.name].nodes, function.node_def)


@pytest.mark.parametrize("name", MODELS)
def test_shared_models_have_the_edges_of_their_file(name: str) -> None:
    """The parts of the index, computed again from TensorFlow's messages in the plainest way."""
    index, nodes = load(shared_model(name)).index, parsed(name).node
    canonical = {
        n.name: ([i if ":" in i else f"{i}:0" for i in n.input if i[0] != "^"], [i[1:] for i in n.input if i[0] == "^"])
        for n in nodes
    }
    assert list(index.name_to_node_map) == [n.name for n in nodes]
    assert dict(index.node_seq) == {n.name: i for i, n in enumerate(nodes)}
    consumers: dict[str, list[str]] = {}
    for n in index.nodes:
        data, after = canonical[n.name]
        assert (list(n.inputs), list(n.control_inputs)) == (data, list(dict.fromkeys(after)))
        assert list(index.edges[n.name]) == list(dict.fromkeys([*(t.rpartition(":")[0] for t in data), *after]))
        for tensor in dict.fromkeys(data):
            consumers.setdefault(tensor, []).append(n.name)
    assert {t: list(c) for t, c in index.consumers.items()} == consumers
    assert index.producer == {t: n.name for n in index.nodes for t in n.outputs}


@pytest.mark.parametrize(
    "name", [pytest.param(m, marks=() if m in ("tiny_ssd_mobilenet_v1_2018.pb", "any.pb") else pytest.mark.slow) for m in MODELS]
)
def test_shared_models_have_the_outputs_that_tensorflow_gives_them(name: str) -> None:
    index = load(shared_model(name)).index
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(parsed(name), name="")
    for op in made.get_operations():
        found = index.name_to_node_map[op.name]
        assert len(found.outputs) == len(op.outputs), op
        assert [index.tensors[t].dtype for t in found.outputs] == [t.dtype.base_dtype.name for t in op.outputs], op
        assert found.stateful == bool(op.op_def.is_stateful)
        if op.type == "Const":
            assert index.tensors[f"{op.name}:0"].shape == tuple(op.outputs[0].shape.as_list())
    assert set(index.inputs) == {f"{op.name}:0" for op in made.get_operations() if op.type == "Placeholder"}


letters = st.text(st.sampled_from("abcXYZ019_./-"), min_size=1, max_size=8)
dtypes = st.sampled_from([tf.float32, tf.int32, tf.string, tf.resource]).map(lambda d: d.as_datatype_enum)


@st.composite
def graph_defs(draw: st.DrawFn) -> graph_pb2.GraphDef:
    """Any nodes with any attributes; inputs that may or may not be there."""
    made = graph_pb2.GraphDef()
    there = draw(st.lists(letters, min_size=1, max_size=8, unique=True))
    for name in there:
        inputs = draw(st.lists(st.sampled_from(there) | letters, max_size=4))
        ports = [draw(st.sampled_from(["", ":0", ":1", ":12"])) for _ in inputs]
        made.node.add(
            name=name,
            op=draw(st.sampled_from(["NoOp", "Identity", "Split", "Const", "My_Op"])),
            input=[
                *map("".join, zip(inputs, ports, strict=True)),
                *(f"^{c}" for c in draw(st.lists(st.sampled_from(there), max_size=2))),
            ],
            device=draw(st.sampled_from(["", "/cpu:0"])),
        )
        for key in draw(st.lists(letters, max_size=5, unique=True)):
            value = made.node[-1].attr[key]
            match draw(st.integers(0, 9)):
                case 0:
                    value.s = draw(st.binary(max_size=9))
                case 1:
                    value.i = draw(st.integers(-(2**63), 2**63 - 1))
                case 2:
                    value.f = draw(st.floats(width=32, allow_nan=False))
                case 3:
                    value.b = draw(st.booleans())
                case 4:
                    value.type = draw(dtypes)
                case 5:
                    value.shape.dim.add(size=draw(st.integers(-1, 2**40)), name=draw(letters))
                case 6:
                    value.tensor.CopyFrom(tf.make_tensor_proto(np.arange(draw(st.integers(0, 5)), dtype=np.float32)))
                case 7:
                    value.func.name = draw(letters)
                    value.func.attr["T"].type = draw(dtypes)
                case 8:
                    value.list.type.extend(draw(st.lists(dtypes, max_size=3)))
                    value.list.i.extend(draw(st.lists(st.integers(-9, 300), max_size=3)))
                    value.list.f.extend([0.5] * draw(st.integers(0, 2)))
                case 9:
                    value.placeholder = draw(letters)
    made.versions.producer = draw(st.integers(0, 3000))
    for name in draw(st.lists(letters, max_size=3, unique=True)):
        made.library.function.add(node_def=made.node[:2]).signature.name = name
    return made


@settings(max_examples=70, deadline=None)
@given(graph_defs())
def test_random_graphs_are_read_as_tensorflow_parses_them(made: graph_pb2.GraphDef) -> None:
    reader = GraphDefReader(made.SerializeToString())
    same_nodes(reader.nodes, made.node)
    same_attributes(reader, made)
    assert reader.producer_version == made.versions.producer
    assert list(reader.library.functions) == [f.signature.name for f in made.library.function]
    for function in made.library.function:
        same_nodes(reader.library.functions[function.signature.name].nodes, function.node_def)


# text


@settings(max_examples=50, deadline=None)
@given(graph_defs())
def test_random_graphs_are_read_from_text_as_tensorflow_parses_them(made: graph_pb2.GraphDef) -> None:
    parsed = text_format.Parse(text_format.MessageToString(made), message("GraphDef")())
    assert graph_def(parsed.SerializeToString()) == made


def test_text_and_bytes_of_a_model_are_the_same_model(tmp_path: Path) -> None:
    made = graph_def(shared_model("tiny_ssd_mobilenet_v1_2018.pb").read_bytes())
    for large in made.node:
        if large.op == "Const" and large.ByteSize() > 1000:
            large.attr["value"].tensor.tensor_content = b'\0\xff\n"'
    path = tmp_path / "model.pb"  # no name says that it is text
    path.write_text(text_format.MessageToString(made))
    whole = load(path)
    assert whole.format == "pbtxt"
    assert whole.graph_def == made
    assert whole.index.nodes == load(shared_model("tiny_ssd_mobilenet_v1_2018.pb")).index.nodes


def repeated(made: Any) -> bool:
    return bool(made.is_repeated if hasattr(made, "is_repeated") else made.label == made.LABEL_REPEATED)


def test_our_messages_are_those_of_tensorflow() -> None:
    """Every field by name, number and type, so that text is read in full and nothing is lost when bytes are written again."""
    seen = set()
    newest = tf.__version__ == op_table().version  # an older one lacks what came since

    def same(mine: Any, theirs: Any) -> None:
        if theirs.full_name in seen:
            return
        seen.add(theirs.full_name)
        own, other = {f.name: f.number for f in mine.fields}, {f.name: f.number for f in theirs.fields}
        assert own == other if newest else other.items() <= own.items()
        for b in theirs.fields:
            a = mine.fields_by_name[b.name]
            assert (a.type, repeated(a)) == (b.type, repeated(b)), b.full_name
            assert (a.containing_oneof is None) == (b.containing_oneof is None), b.full_name
            if b.message_type is not None:
                same(a.message_type, b.message_type)
            if b.enum_type is not None:
                own, other = ({v.name: v.number for v in e.enum_type.values} for e in (a, b))
                assert own == other if newest else other.items() <= own.items()

    same(message("GraphDef").DESCRIPTOR, graph_pb2.GraphDef.DESCRIPTOR)
    assert len(seen) > 30


# names of tensors


def test_inputs_are_written_in_full() -> None:
    index = index_of(
        raw.node("t", "Split", attrs={"num_split": raw.integer(3), "T": raw.kind(1)}),
        raw.node("a", "AddN", "t", "t:0", "t:00", "t:1", "t:01", "^t", "^t"),
        raw.node("b", "AddN", "a", "t:2", "a", "^a", "^t"),
    )
    assert index.name_to_node_map["a"].inputs == ("t:0", "t:0", "t:0", "t:1", "t:1")
    assert index.name_to_node_map["a"].control_inputs == ("t",)
    assert index.edges == {"t": (), "a": ("t",), "b": ("a", "t")}
    assert index.consumers == {"t:0": ("a",), "t:1": ("a",), "a:0": ("b",), "t:2": ("b",)}


def test_a_name_with_a_colon_is_a_name_where_such_a_node_exists() -> None:
    """Other exporters write such names; a port is split off only where the suffix is digits and no node has the whole name."""
    index = index_of(
        raw.node("scope:x", "My"),
        raw.node("scope:1", "My"),
        raw.node("r", "Reads", "scope:x", "scope:1", "scope:1:2", "scope:x:0"),
    )
    assert index.name_to_node_map["r"].inputs == ("scope:x:0", "scope:1:0", "scope:1:2", "scope:x:0")


def test_a_reader_is_rewired_however_it_writes_the_name() -> None:
    whole = GraphDefModel([
        raw.graph(
            raw.placeholder("x", raw.FLOAT, 4),
            raw.const("axis", bytes(4), dtype=raw.INT32),
            raw.node("s", "Split", "axis", "x", attrs={"num_split": raw.integer(2), "T": raw.kind(1)}),
            raw.node("y", "AddN", "s:1", "s:01", "s", "s:00", attrs={"N": raw.integer(4), "T": raw.kind(1)}),
        )
    ])  # fmt: skip
    parts = split(whole, outputs="s:0,s:1", shapes=False)
    assert list(node_of(parts["post"], "y").input) == ["s_port_1:0", "s_port_1:0", "s", "s:00"]
    feeds = {"x:0": np.float32([1, 2, 3, 4])}
    assert list(run(parts["main"].model, feeds, ["s:0"])[0]) == [1, 2]


def run(whole: GraphDefModel, feeds: Any, fetches: list[str]) -> list[Any]:
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(whole.graph_def, name="")
    with tf.compat.v1.Session(graph=made) as session:
        return list(session.run(fetches, feeds))


# order, repetition and unknown fields

PLAIN = [
    raw.placeholder("x", raw.FLOAT, -1, 2),
    raw.node("y", "AddN", "x", "x:0", "^x", device="/cpu:0", attrs={"N": raw.integer(2), "T": raw.kind(raw.FLOAT)}),
]


@pytest.mark.parametrize("order", ["noida", "adion", "iadno", "danoi"])
def test_fields_may_come_in_any_order(order: str) -> None:
    attrs = {"N": raw.integer(2), "T": raw.kind(raw.FLOAT)}
    index = index_of(PLAIN[0], raw.node("y", "AddN", "x", "x:0", "^x", device="/cpu:0", attrs=attrs, order=order))
    assert index.nodes == index_of(*PLAIN).nodes


def test_library_and_versions_may_come_first_or_between() -> None:
    pieces = [field(1, PLAIN[0]), field(2, raw.library(raw.function("f"))), field(1, PLAIN[1]), raw.versions(1987)]
    for turn in range(4):
        reader = GraphDefReader(b"".join(pieces[turn:] + pieces[:turn]))
        assert sorted(n.name for n in reader.nodes) == ["x", "y"]
        assert (reader.producer_version, list(reader.library.functions)) == (1987, ["f"])


def test_what_protobuf_merges_is_merged() -> None:
    """Two libraries are one; of two versions the last counts, and one that does not say leaves the other."""
    data = (
        field(1, PLAIN[0]) + raw.versions(5) + field(2, raw.library(raw.function("f"))) + field(2, raw.library(raw.function("g")))
    )
    data += raw.versions(24) + field(4, number(2, 12))
    reader, theirs = GraphDefReader(data), graph_def(data)
    assert list(reader.library.functions) == [f.signature.name for f in theirs.library.function] == ["f", "g"]
    assert reader.producer_version == theirs.versions.producer == 24


def test_the_last_attribute_of_a_name_counts() -> None:
    """As in TensorFlow; reading the first instead would hide what is run."""
    twice = raw.node(
        "y", "PrintV2", "x", attrs={"output_stream": raw.text("stderr")}, more=raw.attr("output_stream", raw.text("file:///tmp/x"))
    )
    reader = GraphDefReader(raw.graph(raw.placeholder("x", raw.STRING), twice))
    assert reader.attribute(reader.by_name["y"], "output_stream").s == b"file:///tmp/x"
    assert reader.attributes(reader.by_name["y"])["output_stream"].s == b"file:///tmp/x"
    assert graph_def(bytes(reader.data)).node[1].attr["output_stream"].s == b"file:///tmp/x"
    assert reader.outside == ("y",)


def test_lists_are_read_packed_and_unpacked() -> None:
    packed = raw.listed(raw.field(6, bytes([1, 3])))
    unpacked = raw.listed(number(6, 1), number(6, 3))
    for value in (packed, unpacked):
        index = index_of(
            raw.node("c", "PartitionedCall", attrs={"Tout": value, "f": raw.func("f")}), library=raw.library(raw.function("f"))
        )
        assert [index.tensors[t].dtype for t in index.name_to_node_map["c"].outputs] == ["float32", "int32"]


def test_unknown_fields_of_nodes_are_kept() -> None:
    """Of a node that is copied, and of one that has to be changed."""
    more = field(6, field(1, "origin")) + field(99, b"future") + number(98, 7)
    whole = GraphDefModel([
        raw.graph(
            PLAIN[0],
            raw.node("a", "Relu", "x", attrs={"T": raw.kind(1)}, more=more),
            raw.node("b", "Relu", "a", "^a", attrs={"T": raw.kind(1)}, more=more),
            raw.node("c", "Relu", "b", "^a", attrs={"T": raw.kind(1)}, more=more),
        )
    ])  # fmt: skip
    parts = split(whole, outputs="b", shapes=False)
    assert more in parts["main"].model.serialized()
    assert [n.name for n in parts["post"].model.reader.nodes] == ["b", "c"]
    assert parts["post"].model.index.name_to_node_map["c"].control_inputs == ()
    assert parts["post"].model.serialized().endswith(more + raw.versions())
    assert parts["main"].model.serialized().count(more) == 2


# shapes and dtypes that the file states


@pytest.mark.parametrize(
    ("producer", "dims", "shape"),
    [(0, (), None), (21, (), None), (22, (), ()), (24, (), ()), (21, (-1, 3), (None, 3)), (2474, (-1, 0, 3), (None, 0, 3))],
)
def test_a_placeholder_of_an_old_producer_without_dimensions_is_unknown(producer: int, dims: tuple[int, ...], shape: Any) -> None:
    """Below version 22 shape [] was what an unknown shape was written as; TensorFlow goes by that, too."""
    data = raw.graph(raw.placeholder("x", raw.FLOAT, *dims), producer=producer)
    assert GraphDefModel([data]).index.tensors["x:0"].shape == shape
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(graph_def(data), name="")
    tensor = made.get_tensor_by_name("x:0")
    assert (None if tensor.shape.rank is None else tuple(tensor.shape.as_list())) == shape


def test_shapes_are_read_where_they_are_stated() -> None:
    unknown = raw.field(7, number(3, 1))
    index = index_of(
        raw.node("any", "Placeholder", attrs={"dtype": raw.kind(1), "shape": unknown}),
        raw.node("bare", "Placeholder", attrs={"dtype": raw.kind(1)}),
        raw.const("scalar", bytes(4)),
        raw.const("matrix", bytes(24), 2, 3),
        raw.node("hint", "Relu", "any", attrs={"T": raw.kind(1), "_output_shapes": raw.listed(raw.field(7, raw.dims(-1, 7)))}),
        raw.node("silent", "Relu", "any", attrs={"T": raw.kind(1)}),
    )
    assert {t: s.shape for t, s in index.tensors.items()} == {
        "any:0": None, "bare:0": None, "scalar:0": (), "matrix:0": (2, 3), "hint:0": None, "silent:0": None,
    }  # fmt: skip


def test_a_constant_states_its_shape_in_its_last_value() -> None:
    first, last = (raw.field(8, number(1, 1) + field(2, raw.dims(n))) for n in (3, 5))
    twice = raw.node("c", "Const", attrs={"dtype": raw.kind(1), "value": first}, more=raw.attr("value", last))
    assert index_of(twice).tensors["c:0"].shape == (5,)
    assert index_of(raw.node("c", "Const", attrs={"dtype": raw.kind(1)})).tensors["c:0"].shape is None


# no weight is decoded


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 64, raw.varint(2**60), b"\x0a\xff\xff\xff\x7f", b"\x0b\x0c" * 9],
    ids=["noise", "number", "length", "groups"],
)
def test_nobody_looks_into_a_weight(content: bytes) -> None:
    """A tensor whose bytes are no message: TensorFlow refuses it, an index, a plan and sections are made all the same."""
    broken = raw.node("w", "Const", attrs={"dtype": raw.kind(1), "value": raw.field(8, field(2, raw.dims(2)) + field(4, content))})
    worse = raw.node("v", "Const", attrs={"dtype": raw.kind(1), "value": content})
    whole = GraphDefModel([
        raw.graph(PLAIN[0], broken, worse, raw.node("a", "AddN", "x", "w", "v", attrs={"N": raw.integer(3), "T": raw.kind(1)}),
                  raw.identity("y", "a"))
    ])  # fmt: skip
    assert whole.index.tensors["w:0"].shape == (2,)
    assert whole.index.tensors["w:0"].dtype == "float32"
    parts = split(whole, outputs="a", shapes=False)
    assert content in parts["main"].model.serialized()
    with pytest.raises(FormatError, match=r"node 'v' is damaged: "):
        whole.index.tensors["v:0"]


def sparse_graph(path: Path, size: int) -> None:
    """x ─▶ y with a constant of so many bytes that are never written: a hole in the file."""
    before = number(1, raw.FLOAT) + field(2, raw.dims(size // 4)) + b"\x22" + raw.varint(size)
    value_length = len(before) + size
    tensor = b"\x42" + raw.varint(value_length)
    entry = field(1, "value") + b"\x12" + raw.varint(len(tensor) + value_length) + tensor
    entry_length = len(entry) + value_length
    head = field(1, "w") + field(2, "Const") + raw.attr("dtype", raw.kind(1)) + b"\x2a" + raw.varint(entry_length) + entry + before
    first = field(1, raw.placeholder("x", raw.FLOAT, -1))
    rest = field(1, raw.node("a", "AddV2", "x", "w", attrs={"T": raw.kind(1)})) + field(1, raw.identity("y", "a")) + raw.versions()
    with path.open("wb") as file:
        file.write(first + b"\x0a" + raw.varint(len(head) + size) + head)
        file.truncate(file.tell() + size)
        file.seek(0, 2)
        file.write(rest)


def test_a_constant_of_200_mb_costs_nothing_to_index(tmp_path: Path) -> None:
    path = tmp_path / "large.pb"
    sparse_graph(path, 200 * 2**20)
    GraphDefModel([raw.graph(*PLAIN)]).index  # noqa: B018  # tables that are read once
    tracemalloc.start()
    try:
        whole = load(path)
        made = plan(whole, outputs="a")
        parts = split(whole, made, shapes=False)
        assert whole.index.tensors["w:0"].shape == (50 * 2**20,)
        assert sum(p.model.nbytes for p in parts) > 200 * 2**20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000


def test_a_constant_of_a_gigabyte_stays_out_of_memory(tmp_path: Path) -> None:
    """In a process of its own, where the most memory it ever held can be seen. TensorFlow is not imported either."""
    path = tmp_path / "large.pb"
    sparse_graph(path, 2**30)
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    code = """
import re, sys
from pathlib import Path
import graphsplit as gs
model = gs.load(sys.argv[1])
gs.plan(model, outputs="a")
assert "tensorflow" not in sys.modules
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=120, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150 * 1024


def test_two_gigabytes_cannot_be_one_message(tmp_path: Path) -> None:
    path = tmp_path / "huge.pb"
    sparse_graph(path, 2**31)
    with pytest.raises(
        FormatError, match=r"huge\.pb: 2,147,483,\d{3} bytes: a GraphDef of 2 GiB or more cannot be one protobuf message$"
    ):
        load(path)
