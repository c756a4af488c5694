"""What belongs to a TFLite section beside its operators: scales that are tensors, scratch memory, variables, code, metadata."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from importlib import resources
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers

import graphsplit as gs
from graphsplit.errors import FormatError
from graphsplit.formats.tflite.model import TFLiteModel
from graphsplit.formats.tflite.schema import fields
from graphsplit.formats.tflite.validation import TENSOR_FIELDS
from tests.formats.tflite.builder import Built


def sections(built: bytes | Built, cut: str) -> gs.Parts:
    whole = TFLiteModel(built if isinstance(built, bytes) else built.bytes())
    return gs.split(whole, cut)


# scales that are tensors


def blocks(scales: int, block: int = 4, zeros: int | None = None) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    quantization.details = schema.BlockwiseQuantizationT()
    quantization.details.scales, quantization.details.blockSize = scales, block
    quantization.details.zeroPoints = -1 if zeros is None else zeros
    return quantization


def blockwise(*, scales: int | None = None, block: int = 4, held: int = 4) -> Built:
    """x ─▶ RELU r ─▶ FULLY_CONNECTED y, whose weights have scales in a tensor after them that no operator names."""
    built = Built()
    graph = built.main
    x = graph.tensor("x", [1, 8])
    for number in range(3):
        graph.tensor(f"unused_{number}", [1], value=[0])
    r = graph.relu(x, "r")
    w = graph.tensor("w", [2, 8], "int8", value=np.ones((2, 8)), quantization=blocks(7 if scales is None else scales, block))
    y = graph.tensor("y", [1, 2])
    assert graph.tensor("w/scales", [held], "float16", value=np.ones(held)) == 7
    graph.op("FULLY_CONNECTED", [r, w, -1], [y])
    graph.ends([x], [y])
    return built


def test_scales_go_with_the_weights_and_are_renumbered():
    main, post = sections(blockwise(), "r")
    assert len(main.model.reader.subgraphs[0].tensors) == 2
    graph = post.model.reader.subgraphs[0]
    names = post.model.reader.names
    details = graph.tensors[names.index("w")].table("quantization").table("details")
    assert (details.number("scales"), details.number("block_size")) == (names.index("w/scales"), 4)
    assert len(post.model.reader.content(graph.tensors[names.index("w/scales")].number("buffer"))) == 8


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scales": 1_000_000}, "the quantisation of tensor 5 names tensor 1000000; there are 8"),
        ({"scales": 0}, "the quantisation of tensor 5 is in tensor 0, which is not a constant"),
        ({"block": 0}, "tensor 5 is quantised in blocks of 0"),
        ({"block": -3}, "tensor 5 is quantised in blocks of -3"),
        ({"block": 1}, "tensor 5 has 16 blocks and 4 scales"),
        ({"held": 3}, "tensor 5 has 4 blocks and 3 scales"),
    ],
)
def test_scales_that_native_code_would_read_out_of_bounds_are_refused(change, text):
    with pytest.raises(FormatError, match=text):
        TFLiteModel(blockwise(**change).bytes()).index  # noqa: B018


#: Integers of the schema that are no index: counts, sizes, enums, axes. Whoever adds a field to the schema decides here.
_INDICES = TENSOR_FIELDS | {
    ("Metadata", "buffer"), ("Model", "metadata_buffer"), ("Operator", "inputs"), ("Operator", "intermediates"),
    ("Operator", "opcode_index"), ("Operator", "outputs"), ("SignatureDef", "subgraph_index"), ("SubGraph", "inputs"),
    ("SubGraph", "outputs"), ("Tensor", "buffer"), ("TensorMap", "tensor_index"),
    # of subgraphs
    ("CallOnceOptions", "init_subgraph_index"), ("CallOptions", "subgraph"), ("IfOptions", "else_subgraph_index"),
    ("IfOptions", "then_subgraph_index"), ("StableHLOCompositeOptions", "decomposition_subgraph_index"),
    ("StablehloCaseOptions", "branch_subgraph_indices"), ("StablehloCustomCallOptions", "called_computations"),
    ("StablehloReduceOptions", "body_subgraph_index"), ("StablehloReduceWindowOptions", "body_subgraph_index"),
    ("StablehloScatterOptions", "update_computation_subgraph_index"), ("StablehloSortOptions", "comparator_subgraph_index"),
    ("StablehloWhileOptions", "body_subgraph_index"), ("StablehloWhileOptions", "cond_subgraph_index"),
    ("WhileOptions", "body_subgraph_index"), ("WhileOptions", "cond_subgraph_index"),
    # of buffers in other files, which are refused
    ("Tensor", "external_buffer"), ("ExternalBuffer", "id"), ("ExternalBuffer", "group"),
    # of debug metadata, which is copied whole
    ("Operator", "debug_metadata_index"), ("SubGraph", "debug_metadata_index"),
}  # fmt: skip
_NUMBERS = 128  # other integer fields of 32 and 64 bits; each was looked at and is a count, a size, an axis, a flag or a seed


def _tables() -> list[str]:
    return list(json.loads((resources.files("graphsplit.formats.tflite") / "schema.json").read_text())["tables"])


def test_every_field_of_the_schema_that_may_be_an_index_was_looked_at():
    wide = {"int32", "uint32", "int64", "uint64", "[int32]", "[uint32]", "[int64]"}
    found = {(kind, f.name) for kind in _tables() for f in fields(kind).values() if f.kind in wide}
    assert found >= _INDICES
    others = found - _INDICES
    assert len(others) == _NUMBERS, "classify the new fields, in _INDICES and the writer if they are an index: " + str(
        sorted(others)
    )


# scratch memory of custom ops


def test_scratch_memory_of_a_compilers_op_is_legal_and_stays_with_it():
    built = Built()
    graph = built.main
    x = graph.tensor("x", [1, 4])
    r = graph.relu(x, "r")
    scratch = graph.tensor("scratch", [100], "uint8")
    y = graph.tensor("y", [1, 4])
    graph.op("ethos-u", [r, scratch], [y], custom=b"\x01")
    z = graph.relu(y, "z")
    graph.ends([x], [z])
    parts = sections(built, "y")
    assert [n.op for n in parts["main"].model.index.nodes] == ["Placeholder", "RELU", "ethos-u"]
    assert "scratch" in parts["main"].model.reader.names
    assert "scratch" not in parts["post"].model.reader.names
    graph.op("ADD", [y, scratch], [graph.tensor("a", [1, 4])])
    with pytest.raises(FormatError, match="nothing outputs 'scratch'"):
        TFLiteModel(built.bytes()).index  # noqa: B018  # an ADD has no scratch memory


# variables


def counting(*names: str) -> Built:
    """x ─▶ RELU r ─▶ + total(of all runs) ─▶ y ─▶ RELU z, for each name one after the other; total begins at 1."""
    built = Built()
    graph, start = built.main, built.graph("start")
    last = x = graph.tensor("x", [1, 4])
    one = start.tensor("one", [1, 4], value=np.ones((1, 4)))
    graph.op("CALL_ONCE", [], [], initSubgraphIndex=1)
    for name in names:
        handle = graph.tensor(f"{name}/handle", [], "resource")
        inner = start.tensor(f"{name}/handle", [], "resource")
        start.op("VAR_HANDLE", [], [inner], sharedName=name, container="")
        start.op("ASSIGN_VARIABLE", [inner, one], [])
        graph.op("VAR_HANDLE", [], [handle], sharedName=name, container="")
        r = graph.relu(last, f"{name}/r")
        before = graph.tensor(f"{name}/before", [1, 4])
        graph.op("READ_VARIABLE", [handle], [before])
        y = graph.add(before, r, f"{name}/y")
        graph.op("ASSIGN_VARIABLE", [handle, y], [])
        last = graph.relu(y, f"{name}/z")
    end = graph.relu(last, "end")
    start.ends([], [])
    graph.ends([x], [end])
    return built


def test_variables_stay_together_with_what_sets_them_and_every_run_is_proven():
    pytest.importorskip("ai_edge_litert")
    content = counting("a").bytes()
    whole = TFLiteModel(content)
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for expected in (2.0, 3.0, 4.0):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.ones((1, 4), np.float32))
        interpreter.invoke()
        assert interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, 0] == expected
    for cut in ("a/r", "a/z"):
        parts = gs.split(whole, cut)
        report = gs.verify(whole, parts, isolate=False)
        assert (report.equal, report.runs) == (True, 3)
    assert {n.op for n in gs.split(whole, "a/r")["post"].model.index.nodes} >= {"CALL_ONCE", "ASSIGN_VARIABLE", "READ_VARIABLE"}
    assert {n.op for n in gs.split(whole, "a/z")["post"].model.index.nodes} == {"Placeholder", "RELU"}


def test_what_one_initialiser_sets_is_one_group():
    whole = TFLiteModel(counting("a", "b").bytes())
    (group,) = whole.index.groups.values()
    assert len(group.nodes) == 7
    parts = gs.split(whole, "a/z")
    assert [n.op for n in parts["main"].model.index.nodes].count("READ_VARIABLE") == 2, "main ends after all of it"
    assert gs.verify(whole, parts, isolate=False).equal


def test_a_section_without_what_sets_its_variable_is_seen():
    whole = TFLiteModel(counting("a").bytes())
    parts = gs.split(whole, "a/z")
    without = counting("a")
    main = without.model.subgraphs[0]
    main.operators = [o for o in main.operators if not isinstance(o.builtinOptions, schema.AssignVariableOptionsT)]
    other = gs.split(TFLiteModel(without.bytes()), "a/z")
    wrong = parts.replaced("main", other["main"].model, {"x": "x", "a/z": "a/z"})
    assert not gs.verify(whole, wrong, isolate=False).equal


# what lies behind the flatbuffer


def dispatched() -> bytes:
    """x ─▶ RELU r ─▶ DISPATCH_OP y ─▶ RELU z, with code behind the flatbuffer."""
    code = bytes(range(256)) * 4

    def file(offset: int) -> bytes:
        built = Built()
        graph = built.main
        x = graph.tensor("x", [1, 4])
        r = graph.relu(x, "r")
        y = graph.tensor("y", [1, 4])
        builder = flexbuffers.Builder()
        with builder.Map():
            builder.Key("bytecode_offset")
            builder.UInt(offset, byte_width=8)
            builder.Key("bytecode_size")
            builder.UInt(len(code), byte_width=8)
            builder.Key("name")
            builder.String("part")
        graph.op("DISPATCH_OP", [r], [y], custom=bytes(builder.Finish()))
        graph.ends([x], [graph.relu(y, "z")])
        return built.bytes()

    at = len(file(2**20))
    content = file(at)
    assert len(content) == at
    return content + code


def test_code_of_an_accelerator_moves_with_its_operator():
    content = dispatched()
    parts = sections(content, "r")
    post = parts["post"].model
    (operator,) = (o for o in post.reader.subgraphs[0].operators if o.op == "DISPATCH_OP")
    stated = flexbuffers.GetRoot(bytearray(operator.table.raw("custom_options"))).Value
    data = post.serialized()
    assert data[stated["bytecode_offset"] :][: stated["bytecode_size"]] == bytes(range(256)) * 4
    assert stated["bytecode_offset"] % 64 == 0
    assert b"\x00\x01\x02\x03\x04" not in parts["main"].model.serialized()


def test_a_file_that_is_not_cut_stays_byte_for_byte():
    content = dispatched()
    (part,) = gs.split(TFLiteModel(content), shapes=False)
    assert part.model.serialized() == content


def test_code_that_leads_out_of_the_file_is_refused():
    with pytest.raises(FormatError, match="the code of a DISPATCH_OP lies at"):
        sections(dispatched()[:-100], "r")


def custom(tail: bytes) -> bytes:
    built = Built()
    graph = built.main
    x = graph.tensor("x", [1, 4])
    r = graph.relu(x, "r")
    y = graph.tensor("y", [1, 4])
    graph.op("MyCode", [r], [y], custom=b"\x01")
    z = graph.relu(y, "z")
    graph.ends([x], [graph.relu(z, "end")])
    return built.bytes() + tail


def test_bytes_that_only_an_unknown_op_can_explain_are_not_lost_in_silence():
    with pytest.raises(FormatError, match=r"600 bytes behind the flatbuffer belong to an op .* \(MyCode, perhaps\)"):
        sections(custom(b"code" * 150), "z")
    for harmless in (b"", bytes(16), packed({"labels.txt": "cat\n"})):
        assert len(sections(custom(harmless), "z")) == 2


def packed(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_metadata_that_count_tensors_stay_with_the_whole_only():
    built = Built()
    graph = built.main
    x = graph.tensor("x", [1, 4])
    r = graph.relu(x, "r")
    graph.ends([x], [graph.relu(r, "z")])
    for name in ("OfflineMemoryAllocation", "COMPRESSION_METADATA", "min_runtime_version"):
        built.metadata(name, struct.pack("<4i", 1, 0, 3, -1))
    kept = {m.text("name") for m in sections(built, "r")["main"].model.reader.model.tables("metadata")}
    assert kept == {b"min_runtime_version"}
    (part,) = gs.split(TFLiteModel(built.bytes()), shapes=False)
    assert len(part.model.reader.model.tables("metadata")) == 3
