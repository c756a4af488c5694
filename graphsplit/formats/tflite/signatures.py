"""Which signature of a TFLite file is read: the subgraph of the chosen one becomes the first, in a copy of the bytes.

Interpreters run the first subgraph, and so does everything that reads a file here. The copy differs in a few numbers only: two
places in the list of subgraphs are exchanged, which nothing calls, and of the list of signatures the chosen one is left.
"""

from __future__ import annotations

import struct

from graphsplit.formats.tflite.flatbuffer import FlatError, Table
from graphsplit.formats.tflite.metadata import METADATA, exchanged
from graphsplit.formats.tflite.reader import TFLiteReader
from graphsplit.formats.tflite.validation import TFLiteError

__all__ = ["first_signature", "signature_names", "with_first"]


def signature_names(reader: TFLiteReader) -> tuple[str, ...]:
    """The keys of all signatures, in file order."""
    return tuple(map(_key, reader.model.tables("signature_defs")))


def first_signature(reader: TFLiteReader) -> str | None:
    """The key of the signature of the first subgraph, the one that is read if none is chosen; None if it has none."""
    return next((_key(s) for s in reader.model.tables("signature_defs") if not s.number("subgraph_index")), None)


def with_first(reader: TFLiteReader, name: str) -> bytes:
    """The file with that signature alone, its subgraph the first.

    Raises:
        FlatError: The list of subgraphs overlaps what it lists.
        TFLiteError: Another subgraph calls the one of the signature, so that it cannot stand for the whole.
    """
    signatures = reader.model.tables("signature_defs")
    place = signature_names(reader).index(name)
    graph = signatures[place].number("subgraph_index")
    data = bytearray(reader.data)

    def write(at: int, value: int) -> None:
        struct.pack_into("<I", data, at, value)

    if graph:
        callers = [i for i, g in enumerate(reader.subgraphs) if any(graph in o.calls for o in g.operators)]
        if callers:
            raise TFLiteError(
                f"subgraph {graph} of signature {name!r} is also called by subgraph {callers[0]}, so it cannot run alone"
            )
        graphs = reader.model.tables("subgraphs")
        first, other = graphs.at + 4, graphs.at + 4 + 4 * graph
        here, there = graphs[0].at, graphs[graph].at
        if here < other:
            raise FlatError("the list of subgraphs overlaps one of them")
        write(first, there - first)
        write(other, here - other)
        write(signatures[place].place("subgraph_index"), 0)
        for entry in reader.model.tables("metadata"):
            if entry.text("name") == METADATA and (content := reader.content(entry.number("buffer"))):
                at = reader.place(entry.number("buffer"))
                data[at : at + len(content)] = exchanged(content, graph)
    start = signatures.at + 4
    write(signatures.at, 1)
    write(start, signatures[place].at - start)
    return bytes(data)


def _key(signature: Table) -> str:
    return signature.text("signature_key").decode("utf-8", "backslashreplace")
