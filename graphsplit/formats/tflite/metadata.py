"""TFLite's metadata: what each input and output means, and which label files are packed behind the file.

    input 0   image, mean 127.5, std 127.5
    output 0  scores ─▶ labels.txt

A section keeps what describes it: that of an input of the whole where the input enters, that of an output, with its files, where
the output is computed. Tensors at borders are described by their names. What describes several outputs at once goes where all are.

Schema: https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from graphsplit.formats.tflite.building import copy_table, write_table, write_vector
from graphsplit.formats.tflite.flatbuffer import SCALARS, FlatError, Table, root, verify

if TYPE_CHECKING:
    from flatbuffers import Builder

__all__ = ["METADATA", "Ends", "cut_metadata", "exchanged", "file_names", "label_files"]

METADATA = b"TFLITE_METADATA"  #: name of the metadata that describe inputs and outputs by their places
_IDENTIFIER = b"M001"
_LABELS = (2, 3)  # of axes, of values

End: TypeAlias = tuple[int | None, str]


@dataclass(frozen=True, slots=True)
class Ends:
    """Inputs and outputs of a section.

    Attributes:
        inputs, outputs: Of each its place among those of the whole, None for a border, and its name.
        whole: How many inputs and outputs the whole has.
        subgraphs: Numbers in the whole of the subgraphs of the section.
    """

    inputs: Sequence[End]
    outputs: Sequence[End]
    whole: tuple[int, int]
    subgraphs: Sequence[int]

    @property
    def holds_inputs(self) -> bool:
        """Whether every input of the whole enters here."""
        return {p for p, _ in self.inputs} >= set(range(self.whole[0]))

    @property
    def holds_outputs(self) -> bool:
        """Whether every output of the whole is computed here."""
        return {p for p, _ in self.outputs} >= set(range(self.whole[1]))


def _read(content: memoryview) -> Table:
    """The metadata, examined once. Raises FlatError."""
    table = root(content, "ModelMetadata")
    verify(table)
    return table


def file_names(content: memoryview) -> frozenset[str]:
    """Names of the files that metadata mention; none for metadata of a later schema or damaged ones."""
    try:
        return frozenset(_name(t) for t in _walk(_read(content)) if t.kind == "AssociatedFile")
    except FlatError:
        return frozenset()


def label_files(content: memoryview) -> tuple[str, ...]:
    """Names of the files with the labels of outputs, in their order."""
    try:
        graphs = _read(content).tables("subgraph_metadata")
        of_outputs = graphs[0].tables("output_tensor_metadata") if len(graphs) else ()
        files = [f for o in of_outputs for f in o.tables("associated_files") if f.number("type") in _LABELS]
        return tuple(dict.fromkeys(map(_name, files)))
    except FlatError:
        return ()


def exchanged(content: memoryview, graph: int) -> bytes:
    """Metadata of a file whose first subgraph and another one have changed places; the bytes stay as many."""
    data = bytearray(content)
    try:
        graphs = _read(content).tables("subgraph_metadata")
        first, other = graphs.at + 4, graphs.at + 4 + 4 * graph
        if graph >= len(graphs):
            struct.pack_into("<I", data, graphs.at, 0)  # nothing describes it
        elif (here := graphs[0].at) > other:
            struct.pack_into("<I", data, first, graphs[graph].at - first)
            struct.pack_into("<I", data, other, here - other)
    except FlatError:
        pass
    return bytes(data)


def cut_metadata(content: memoryview, ends: Ends) -> bytes | None:
    """The metadata of a section; None if they do not describe its whole, or are of a later schema."""
    from flatbuffers import Builder

    try:
        model = _read(content)
        graphs = model.tables("subgraph_metadata")
        counts = [(len(g.tables("input_tensor_metadata")), len(g.tables("output_tensor_metadata"))) for g in graphs[:1]]
        if any(n not in (0, w) for count in counts for n, w in zip(count, ends.whole, strict=True)):
            return None
        builder = Builder(2 * len(content) + 1024)
        kept = [
            _subgraph(builder, graphs[n], ends) if n == 0 else copy_table(builder, graphs[n])
            for n in ends.subgraphs
            if n < len(graphs)
        ]
        builder.Finish(copy_table(builder, model, {"subgraph_metadata": write_vector(builder, kept)}), file_identifier=_IDENTIFIER)
    except FlatError:
        return None
    return bytes(builder.Output())


def _subgraph(builder: Builder, graph: Table, ends: Ends) -> int:
    change = {}
    for side, tensors in (("input", ends.inputs), ("output", ends.outputs)):
        known = graph.tables(f"{side}_tensor_metadata")
        if not len(known):
            continue
        change[f"{side}_tensor_metadata"] = write_vector(builder, [_tensor(builder, known, end) for end in tensors])
        names = {known[p].text("name") for p, _ in tensors if p is not None}
        groups = [g for g in graph.tables(f"{side}_tensor_groups") if names.issuperset(g.texts("tensor_names"))]
        change[f"{side}_tensor_groups"] = write_vector(builder, [copy_table(builder, g) for g in groups]) if groups else 0
    if not ends.holds_inputs:
        change["input_process_units"] = 0
    if not ends.holds_outputs:
        change |= {"output_process_units": 0, "custom_metadata": 0, "associated_files": 0}
    return copy_table(builder, graph, change)


def _tensor(builder: Builder, known: Sequence[Table], end: End) -> int:
    place, name = end
    if place is not None:
        return copy_table(builder, known[place])
    return write_table(builder, "TensorMetadata", {"name": builder.CreateString(name)})


def _name(file: Table) -> str:
    return file.text("name").decode("utf-8", "backslashreplace")


def _walk(table: Table) -> Iterator[Table]:
    """A table and all in it."""
    yield table
    for field in table.fields:
        if not field.kind or field.kind in SCALARS or field.kind == "string":
            continue
        if field.kind.startswith("["):
            for member in table.tables(field.name) if field.kind[1:-1] not in (*SCALARS, "string") else ():
                yield from _walk(member)
        elif (inner := table.table(field.name)) is not None:
            yield from _walk(inner)
