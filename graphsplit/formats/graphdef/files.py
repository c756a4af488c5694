"""GraphDef files, binary and text → models."""

from __future__ import annotations

from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef.messages import message
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.payloads import open_payloads
from graphsplit.formats.source import read_source

__all__ = ["load_graphdef", "load_pbtxt"]


def load_graphdef(path: Path) -> GraphDefModel:
    """A binary GraphDef. Large weights are not read until they are copied.

    Raises FormatError for a file that is not one.
    """
    file = open_payloads(path)
    if not file.data:
        raise FormatError("cannot be read: it is empty", path=path)
    return _checked(GraphDefModel([file.range()], path=path, source=file.source))


def load_pbtxt(path: Path) -> GraphDefModel:
    """A GraphDef in protobuf's text format.

    Raises FormatError for text that does not parse, with line and column.
    """
    from google.protobuf import text_format

    try:
        data, source = read_source(path)
        graph = text_format.Parse(data[:].decode("utf-8-sig"), message("GraphDef")())
    except FormatError:  # a ValueError, too
        raise
    except (text_format.ParseError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FormatError(f"not a GraphDef in text form: {error}", path=path) from error
    content = graph.SerializeToString(deterministic=True)
    return _checked(GraphDefModel([content], path=path, source=source.summed(data), format="pbtxt"))


def _checked(model: GraphDefModel) -> GraphDefModel:
    """A model whose walk has succeeded and found nodes."""
    nodes = model.reader.nodes
    if not nodes:
        raise FormatError("no node in it; this is not a GraphDef, or an empty one", path=model.path)
    nameless = sum(1 for n in nodes if not n.name or not n.op)
    if nameless > len(nodes) // 2:
        raise FormatError("a protobuf message, but not a GraphDef (its nodes have neither name nor op)", path=model.path)
    return model
