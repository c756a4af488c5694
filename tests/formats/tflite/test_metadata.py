"""Metadata and packed label files: each section keeps what describes its inputs and outputs.

x "image" (mean, std) ─▶ RELU r ─▶ RELU y "boxes"
                         r ─▶ RELU z "scores" ─▶ labels.txt
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from flatbuffers import Builder  # noqa: E402

import graphsplit as gs  # noqa: E402
from graphsplit.detection.labels import packed_labels  # noqa: E402
from graphsplit.formats.tflite.belongings import label_lines  # noqa: E402
from graphsplit.formats.tflite.building import write_bytes, write_table, write_vector  # noqa: E402
from graphsplit.formats.tflite.flatbuffer import Table, root, verify  # noqa: E402
from graphsplit.formats.tflite.metadata import METADATA, exchanged  # noqa: E402
from graphsplit.formats.tflite.model import TFLiteModel  # noqa: E402
from graphsplit.formats.tflite.schema import fields, union_member  # noqa: E402
from tests.formats.tflite.builder import Built  # noqa: E402


def written(builder: Builder, kind: str, values: Mapping[str, Any]) -> int:
    """A table from plain data: lists of dicts are tables, a dict with "is" is the member of a union."""
    offsets: dict[str, Any] = {}
    for name, value in values.items():
        known = fields(kind)[name]
        if isinstance(value, str):
            offsets[name] = builder.CreateString(value)
        elif isinstance(value, list) and known.kind == "[string]":
            offsets[name] = write_vector(builder, [builder.CreateString(v) for v in value])
        elif isinstance(value, list) and known.kind == "[float32]":
            offsets[name] = write_bytes(builder, memoryview(struct.pack(f"<{len(value)}f", *value)), 4)
        elif isinstance(value, list):
            offsets[name] = write_vector(builder, [written(builder, known.kind[1:-1], v) for v in value])
        elif isinstance(value, bytes):
            offsets[name] = write_bytes(builder, memoryview(value), 1, 16)
        elif isinstance(value, dict):
            member = value.get("is", known.kind)
            offsets[name] = written(builder, member, {k: v for k, v in value.items() if k != "is"})
            if "is" in value:
                union = known.kind.removeprefix("union ")
                offsets[f"{name}_type"] = next(n for n in range(1, 20) if union_member(union, n) == member)
        else:
            offsets[name] = value
    return write_table(builder, kind, offsets)


NORMALISED = {"options": {"is": "NormalizationOptions", "mean": [127.5], "std": [128.0]}}
LABELS = {"name": "labels.txt", "type": 3}
CONTENT: dict[str, Any] = {
    "name": "detector",
    "license": "Apache",
    "subgraph_metadata": [
        {
            "input_tensor_metadata": [{"name": "image", "process_units": [NORMALISED], "dimension_names": ["batch", "width"]}],
            "output_tensor_metadata": [{"name": "boxes"}, {"name": "scores", "associated_files": [LABELS]}],
            "output_tensor_groups": [
                {"name": "detections", "tensor_names": ["boxes", "scores"]},
                {"name": "some", "tensor_names": ["scores"]},
            ],
            "custom_metadata": [{"name": "anchors", "data": b"\x01" * 20}],
        }
    ],
    "min_parser_version": "1.0.0",
}


def metadata(content: Mapping[str, Any] = CONTENT) -> bytes:
    builder = Builder(1024)
    builder.Finish(written(builder, "ModelMetadata", content), file_identifier=b"M001")
    return bytes(builder.Output())


def model(
    content: bytes | None = None, files: Mapping[str, str] | None = None, compression: int = zipfile.ZIP_STORED
) -> TFLiteModel:
    built = Built()
    graph = built.main
    x = graph.tensor("x", [1, 4])
    r = graph.relu(x, "r")
    graph.ends([x], [graph.relu(r, "y"), graph.relu(r, "z")])
    built.metadata("TFLITE_METADATA", metadata() if content is None else content)
    stream = io.BytesIO()
    stream.write(built.bytes())
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, text in ({"labels.txt": "cat\ndog\n", "notes.txt": "n"} if files is None else files).items():
            archive.writestr(name, text)
    return TFLiteModel(stream.getvalue())


def described(section: TFLiteModel) -> Table:
    (entry,) = (m for m in section.reader.model.tables("metadata") if m.text("name") == METADATA)
    table = root(section.reader.content(entry.number("buffer")), "ModelMetadata")
    verify(table)
    return table


def names(graph: Table, side: str) -> list[bytes]:
    return [t.text("name") for t in graph.tables(f"{side}_tensor_metadata")]


def packed(section: TFLiteModel) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(section.serialized())) as archive:
        return {n: archive.read(n) for n in archive.namelist()}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_mean_and_std_go_with_the_input_and_labels_with_the_output_that_they_name(compression):
    whole = model(compression=compression)
    main, post = parts = gs.split(whole, "r")
    before, after = (described(part.model).tables("subgraph_metadata")[0] for part in (main, post))
    assert (names(before, "input"), names(before, "output")) == ([b"image"], [b"r"])
    assert (names(after, "input"), names(after, "output")) == ([b"r"], [b"boxes", b"scores"])
    (unit,) = before.tables("input_tensor_metadata")[0].tables("process_units")
    options = unit.table("options")
    assert options is not None
    assert (options.numbers("mean"), options.numbers("std")) == ((127.5,), (128.0,))
    assert before.tables("input_tensor_metadata")[0].texts("dimension_names") == (b"batch", b"width")
    assert not before.has("custom_metadata")
    assert after.tables("custom_metadata")[0].raw("data") == b"\x01" * 20
    assert packed(post.model) == {"labels.txt": b"cat\ndog\n", "notes.txt": b"n"}
    assert not zipfile.is_zipfile(io.BytesIO(main.model.serialized()))
    assert described(main.model).text("license") == b"Apache"
    assert gs.verify(whole, parts, isolate=False).equal
    assert parts.plan is not None
    assert parts.plan.notes == ()


def test_labels_go_to_the_section_of_their_output_and_groups_only_where_they_are_whole():
    whole = model()
    parts = gs.split(whole, "z")
    main, post = (described(p.model).tables("subgraph_metadata")[0] for p in parts)
    assert names(main, "output")[0] == b"scores"
    assert [g.text("name") for g in main.tables("output_tensor_groups")] == [b"some"]
    assert [g.text("name") for g in post.tables("output_tensor_groups")] == []
    assert list(packed(parts["main"].model)) == ["labels.txt"]
    assert parts.plan is not None
    assert parts.plan.notes[-1:] == ("packed behind the file, and in no section: notes.txt",)


def test_every_section_loads_and_knows_its_labels():
    for part in gs.split(model(), "r"):
        Interpreter(model_content=part.model.serialized()).allocate_tensors()
    assert model().labels == ("cat", "dog")
    assert gs.split(model(), "r")["post"].model.labels == ("cat", "dog")
    assert gs.split(model(), "r")["main"].model.labels == ()


def test_the_same_split_has_the_same_bytes():
    one, two = (gs.split(model(), "r")["post"].model.serialized() for _ in range(2))
    assert one == two


def test_metadata_that_do_not_fit_the_model_are_left_out_and_said():
    three = {"subgraph_metadata": [{"output_tensor_metadata": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}]}
    damaged = metadata()[:40]
    for content in (metadata(three), damaged, b"", b"\xff" * 64):
        parts = gs.split(model(content), "r")
        assert not list(parts["post"].model.reader.model.tables("metadata"))
        assert parts.plan is not None
        assert parts.plan.notes[:1] == ("TFLITE_METADATA of the file describes the whole only: no section has it",)


def test_a_damaged_or_huge_archive_is_no_error():
    good = model()
    data = good.serialized()
    for content in (data[:-10], data[: good.reader.end] + b"PK\x03\x04" + bytes(40), data + b"tail"):
        whole = TFLiteModel(content)
        assert len(gs.split(whole, "r")) == 2
        assert set(whole.reader.files) <= {"labels.txt", "notes.txt"}
    bomb = model(files={"labels.txt": "a" * (65 * 2**20)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb.serialized()) < 2**20
    assert not bomb.reader.files
    assert not label_lines(bomb.reader)


def test_a_file_that_is_not_cut_keeps_everything():
    whole = model()
    (part,) = gs.split(whole, shapes=False)
    assert part.model.serialized() == whole.serialized()


def test_metadata_of_another_subgraph_are_exchanged_with_it_or_describe_nothing():
    two = metadata({"subgraph_metadata": [{"name": "first"}, {"name": "second"}]})

    def order(content: bytes) -> list[bytes]:
        return [g.text("name") for g in root(memoryview(content), "ModelMetadata").tables("subgraph_metadata")]

    assert order(exchanged(memoryview(two), 1)) == [b"second", b"first"]
    assert order(exchanged(memoryview(two), 2)) == []
    assert exchanged(memoryview(b"\xff" * 30), 1) == b"\xff" * 30


def test_classes_of_packed_labels():
    assert packed_labels(("cat", "???", "dog"), first=0) == {0: "cat", 2: "dog"}
    assert packed_labels(("???", "cat", "dog"), first=0) == {0: "cat", 1: "dog"}
    assert packed_labels(("cat", "dog", ""), first=1) == {1: "cat", 2: "dog"}


def test_the_schema_of_metadata_is_that_of_the_library():
    pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated", reason="mediapipe is not installed")
    from mediapipe.tasks.metadata import metadata_schema_py_generated as library

    for part in gs.split(model(), "r"):
        (entry,) = part.model.reader.model.tables("metadata")
        read = library.ModelMetadataT.InitFromObj(
            library.ModelMetadata.GetRootAs(bytes(part.model.reader.content(entry.number("buffer"))))
        )
        (graph,) = read.subgraphMetadata
        assert len(graph.inputTensorMetadata) == len(part.inputs)
        assert len(graph.outputTensorMetadata) == len(part.outputs)
