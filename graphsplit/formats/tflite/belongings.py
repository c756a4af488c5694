"""What belongs to a file beside its graph, and which of it a section keeps: metadata, and label files packed behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphsplit.formats.tflite.flatbuffer import Table
from graphsplit.formats.tflite.metadata import METADATA, Ends, cut_metadata, file_names, label_files
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.graph.text import list_text

__all__ = ["Belongings", "belongings", "label_lines", "left_out"]

#: Metadata that count tensors or buffers of the whole: a plan of its memory, its compressed tensors.
_COUNTING = (b"OfflineMemoryAllocation", b"COMPRESSION_METADATA")


@dataclass(frozen=True, slots=True)
class Belongings:
    """What a section keeps.

    Attributes:
        metadata: Entries of the whole.
        contents: Buffer of the whole → its bytes for the section, where these differ.
        files: Label files by name.
    """

    metadata: tuple[Table, ...]
    contents: Mapping[int, memoryview]
    files: Mapping[str, bytes]


def belongings(
    reader: TFLiteReader, inputs: Sequence[int], outputs: Sequence[int], subgraphs: Sequence[int], held: frozenset[int]
) -> Belongings:
    """What a section keeps.

    Args:
        reader: The whole.
        inputs, outputs: Numbers of the section's tensors.
        subgraphs: Numbers of its subgraphs.
        held: Buffers that its tensors use, which stay as they are.
    """
    first, names = reader.subgraphs[0], reader.names
    same = tuple(inputs) == first.inputs and tuple(outputs) == first.outputs

    def places(own: Sequence[int], side: Sequence[int]) -> list[tuple[int | None, str]]:
        return [(side.index(t) if t in side else None, names[t]) for t in own]

    ends = Ends(places(inputs, first.inputs), places(outputs, first.outputs), (len(first.inputs), len(first.outputs)), subgraphs)
    kept: list[Table] = []
    contents: dict[int, memoryview] = {}
    named: set[str] = set()
    mentioned: set[str] = set()
    for entry in reader.model.tables("metadata"):
        name, buffer = entry.text("name"), entry.number("buffer")
        if name in _COUNTING:
            continue
        if name == METADATA:
            whole = reader.content(buffer)
            mentioned |= file_names(whole)
            content = whole if same else None if buffer in held else cut_metadata(whole, ends)
            if content is None:
                continue
            named |= file_names(memoryview(content))
            contents[buffer] = memoryview(content)
        kept.append(entry)
    if ends.holds_outputs:  # what nothing names is most often labels
        named |= reader.files.keys() - mentioned
    return Belongings(tuple(kept), contents, {name: content for name, content in reader.files.items() if name in named})


def left_out(reader: TFLiteReader, sections: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[str, ...]:
    """Sentences on what no section keeps.

    Args:
        reader: The whole.
        sections: Inputs and outputs of each, by name.
    """
    every = range(len(reader.subgraphs))
    kept = [
        belongings(reader, [reader.numbers[t] for t in inputs], [reader.numbers[t] for t in outputs], every, frozenset())
        for inputs, outputs in sections
    ]
    names = [m.text("name") for m in reader.model.tables("metadata")]
    there = {m.text("name") for own in kept for m in own.metadata}
    lost = [name.decode("utf-8", "backslashreplace") for name in dict.fromkeys(names) if name not in there]
    notes = [f"{name} of the file describes the whole only: no section has it" for name in lost]
    if files := [name for name in reader.files if not any(name in own.files for own in kept)]:
        notes.append(f"packed behind the file, and in no section: {list_text(files, 10)}")
    return tuple(notes)


def label_lines(reader: TFLiteReader) -> tuple[str, ...]:
    """The lines of the first label file that metadata name for an output; none if there is none."""
    for entry in reader.model.tables("metadata"):
        for name in label_files(reader.content(entry.number("buffer"))) if entry.text("name") == METADATA else ():
            if name in reader.files:
                return tuple(reader.files[name].decode("utf-8-sig", "backslashreplace").splitlines())
    return ()
