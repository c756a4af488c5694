"""Flatbuffers whose offsets, lengths and fields are lies: each kind is refused with the place, none is followed."""

from __future__ import annotations

import struct
import time

import pytest

from graphsplit.formats.tflite.flatbuffer import FlatError, Table, root, verify
from graphsplit.formats.tflite.schema import fields

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import Built, chain, everything


def model(content: bytes | bytearray) -> Table:
    return root(memoryview(bytes(content)), "Model")


def place(table: Table, name: str) -> int:
    """Where a field of a table stands in the file."""
    return table.place(name)


def target(table: Table, name: str) -> int:
    """Where what a field leads to begins."""
    found = table.target(name)
    assert found is not None
    return found


def refused(content: bytearray, match: str) -> None:
    with pytest.raises(FlatError, match=match):
        verify(model(content))


@pytest.fixture
def content() -> bytearray:
    return bytearray(everything().bytes())


def test_what_the_schemas_own_code_writes_is_let_through_and_read_as_it_was_written(content):
    whole = model(content)
    verify(whole)
    assert whole.text("description") == b"built for a test"
    assert whole.number("version") == 3
    graph = whole.tables("subgraphs")[0]
    names = [t.text("name") for t in graph.tables("tensors")]
    assert names[:4] == [b"x", b"w", b"w", b"fc"]
    assert [len(whole.tables("subgraphs")[i : i + 2]) for i in (0, 2)] == [2, 1]
    first = graph.tables("operators")[0]
    assert first.numbers("inputs") == (0, 1, -1)
    options = first.table("builtin_options")
    assert options is not None
    assert options.kind == "FullyConnectedOptions"
    assert first.table("builtin_options_2") is None
    assert not first.has("custom_options")
    assert first.raw("custom_options").nbytes == 0
    assert graph.tables("tensors")[0].text("name") == b"x"
    with pytest.raises(IndexError):
        graph.tables("tensors")[99]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 20, 60])
def test_a_file_of_a_few_bytes_has_no_root(content, length):
    refused(content[:length], "an offset leads to byte|no Model at")


@pytest.mark.parametrize("offset", [0, 5, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_root_outside_of_the_file_or_in_its_header_is_refused(content, offset):
    struct.pack_into("<I", content, 0, offset)
    refused(content, "an offset leads to byte|no Model at|is outside|does not know|does not fit")


@pytest.mark.parametrize("offset", [-(2**31), -(10**6), 10**6, 2**31 - 1])
def test_a_vtable_outside_of_the_file_is_refused(content, offset):
    struct.pack_into("<i", content, model(content).at, offset)
    refused(content, r"an offset leads to byte -?[\d,]+, the file has")


@pytest.mark.parametrize(("slot", "value"), [(0, 0), (0, 2), (0, 5), (0, 65_534), (2, 0), (2, 3), (2, 65_535)])
def test_a_vtable_whose_sizes_are_impossible_is_refused(content, slot, value):
    struct.pack_into("<H", content, model(content).layout.at + slot, value)
    refused(content, "no Model at|does not know|is outside of it")


@pytest.mark.parametrize("value", [1, 3, 60_000])
def test_a_field_outside_of_its_table_is_refused(content, value):
    slot = fields("Model")["subgraphs"].slot
    struct.pack_into("<H", content, model(content).layout.at + 4 + 2 * slot, value)
    refused(content, r"Model.subgraphs at byte \d+ is outside of it")


def test_a_field_that_only_a_newer_schema_has_is_refused_and_an_unset_one_is_not():
    from flatbuffers import Builder

    for value, fine in ((0, True), (7, False)):
        builder = Builder(64)
        builder.StartObject(len(fields("Model")) + 3)
        builder.PrependInt32Slot(0, 3, 0)
        builder.PrependInt32Slot(len(fields("Model")) + 2, value, 0)
        builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
        made = bytearray(builder.Output())
        if fine:
            verify(model(made))
        else:
            refused(made, rf"Model at byte \d+ has a field number {len(fields('Model')) + 2} that this version does not know")


@pytest.mark.parametrize("union", ["builtin_options_type", "builtin_options"])
def test_an_option_of_an_unknown_kind_is_refused(content, union):
    first = model(content).tables("subgraphs")[0].tables("operators")[0]
    content[place(first, "builtin_options_type")] = 255 if union == "builtin_options_type" else 0
    refused(content, r"Operator.builtin_options at byte [\d,]+ is of a kind \(\d+\) that this version does not know")


@pytest.mark.parametrize("name", ["subgraphs", "buffers", "operator_codes", "description", "signature_defs"])
@pytest.mark.parametrize("offset", [2**20, 2**31, 2**32 - 8])
def test_an_offset_that_leads_out_of_the_file_is_refused(content, name, offset):
    struct.pack_into("<I", content, place(model(content), name), offset)
    refused(content, r"an offset leads to byte|does not fit into")


@pytest.mark.parametrize("length", [10**6, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_list_longer_than_the_file_is_refused_at_once(content, length):
    whole = model(content)
    graph = whole.tables("subgraphs")[0]
    lists = [(whole, "subgraphs"), (graph, "tensors"), (graph, "inputs"), (graph.tables("tensors")[0], "shape"), (graph, "name")]
    lists += [(whole.tables("buffers")[1], "data")]
    began = time.process_time()
    for table, name in lists:
        other = bytearray(content)
        struct.pack_into("<I", other, target(table, name), length)
        refused(other, rf"a list of {length:,} at byte [\d,]+ does not fit into [\d,]+ bytes")
    assert time.process_time() - began < 2


def test_a_string_without_an_end_is_refused(content):
    graph = model(content).tables("subgraphs")[0]
    at = target(graph, "name")
    content[at + 4 + len("main")] = 65
    refused(content, r"SubGraph.name at byte [\d,]+ does not end")


def test_a_table_that_is_reached_twice_is_looked_at_once_and_one_that_reaches_itself_comes_to_an_end(content):
    """Tensor.variant_tensors is the one list that leads from a table to its own kind."""
    built = Built()
    x = built.main.tensor("x", [1, 4])
    inner = chain().main.table.tensors[0]
    from ai_edge_litert import schema_py_generated as schema

    variant = schema.VariantSubTypeT()
    variant.shape = [1]
    inner.variantTensors = [variant]
    built.model.subgraphs[0].tensors.append(inner)
    built.main.ends([x], [built.main.relu(x, "y")])
    content = bytearray(built.bytes())
    graph = model(content).tables("subgraphs")[0]
    tensors = target(graph, "tensors")
    # All tensors become the first one; the subgraph's list of operators becomes its list of tensors, seen as operators.
    first = tensors + 4 + struct.unpack_from("<I", content, tensors + 4)[0]
    for number in range(len(graph.tables("tensors"))):
        here = tensors + 4 + 4 * number
        if first > here:
            struct.pack_into("<I", content, here, first - here)
    verify(model(content))


def test_the_value_of_a_list_of_tables_that_points_to_itself_is_read_as_no_table(content):
    graph = model(content).tables("subgraphs")[0]
    at = target(graph, "tensors")
    struct.pack_into("<I", content, at + 4, 0)
    refused(content, "no Tensor at|an offset leads to byte|does not know|is outside|does not end|does not fit")


def test_tables_in_tables_end_somewhere():
    """A schema without circles can be no deeper than it is; that a circle would be seen is shown on one made for it."""
    from graphsplit.formats.tflite import flatbuffer as flat

    assert flat._DEEPEST > 7
    content = chain().bytes()
    deepest, flat._DEEPEST = flat._DEEPEST, 1
    try:
        refused(bytearray(content), "tables are nested more than 1 deep")
    finally:
        flat._DEEPEST = deepest


def test_twenty_thousand_tensors_take_seconds_not_minutes():
    built = chain()
    for _ in range(20_000):
        built.main.tensor("t", [1])
    content = built.bytes()
    began = time.process_time()
    verify(model(content))
    assert time.process_time() - began < 15
