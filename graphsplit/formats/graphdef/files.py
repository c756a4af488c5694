"""GraphDef files, binary and text → models."""

from __future__ import annotations

import mmap
from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef.messages import message
from graphsplit.formats.graphdef.model import GraphDefModel

__all__ = ["load_graphdef", "load_pbtxt"]


def load_graphdef(path: Path) -> GraphDefModel:
    """A binary GraphDef, mapped into memory; the weights are never read unless they are copied.

    Raises FormatError for a file that is not one.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError) as error:
            raise FormatError(f"cannot be read: {error}", path=path) from error
    return _checked(GraphDefModel([data], path=path))


def load_pbtxt(path: Path) -> GraphDefModel:
    """A GraphDef in protobuf's text format.

    Raises FormatError for text that does not parse, with line and column.
    """
    from google.protobuf import text_format

    try:
        graph = text_format.Parse(path.read_text(encoding="utf-8-sig"), message("GraphDef")())
    except (text_format.ParseError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FormatError(f"not a GraphDef in text form: {error}", path=path) from error
    return _checked(GraphDefModel([graph.SerializeToString(deterministic=True)], path=path, source=path, format="pbtxt"))


def _checked(model: GraphDefModel) -> GraphDefModel:
    """A model whose walk has succeeded and found nodes."""
    nodes = model.reader.nodes
    if not nodes:
        raise FormatError("no node in it; this is not a GraphDef, or an empty one", path=model.path)
    nameless = sum(1 for n in nodes if not n.name or not n.op)
    if nameless > len(nodes) // 2:
        raise FormatError("a protobuf message, but not a GraphDef (its nodes have neither name nor op)", path=model.path)
    return model
