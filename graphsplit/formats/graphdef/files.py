"""GraphDef files, binary and text → models."""

from __future__ import annotations

from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.formats.graphdef.messages import Message, message
from graphsplit.formats.graphdef.model import GraphDefModel
from graphsplit.formats.graphdef.payloads import open_payloads
from graphsplit.formats.source import read_source

__all__ = ["load_graphdef", "load_pbtxt"]

# Layers of OpenCV's that its scripts tf_text_graph_*.py write, and ops of TensorFlow whose weights they leave out.
_OPENCV = {"PriorBox", "DetectionOutput", "Proposal"}
_WEIGHTED = {"Conv2D", "DepthwiseConv2dNative", "MatMul", "BiasAdd", "FusedBatchNorm", "FusedBatchNormV3"}


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
    if _is_opencv(graph):
        raise FormatError(
            "a text graph of OpenCV's, not of TensorFlow's: it has no weights; split the .pb that it was made for", path=path
        )
    content = graph.SerializeToString(deterministic=True)
    return _checked(GraphDefModel([content], path=path, source=source.summed(data), format="pbtxt"))


def _is_opencv(graph: Message) -> bool:
    """Whether a graph in text form is OpenCV's: it has OpenCV's layers, or most of its layers lack their weights."""
    names = {node.name for node in graph.node}
    layers = [node for node in graph.node if node.op in _WEIGHTED]
    lacking = [n for n in layers if any(_producer(i) not in names and i not in names for i in n.input[1:])]
    return bool(lacking) and (any(n.op in _OPENCV for n in graph.node) or 2 * len(lacking) > len(layers))


def _producer(text: str) -> str:
    """The node that an input names."""
    base, colon, _ = text.rpartition(":")
    return base if colon else text.removeprefix("^")


def _checked(model: GraphDefModel) -> GraphDefModel:
    """A model whose walk has succeeded and found nodes."""
    nodes = model.reader.nodes
    if not nodes:
        raise FormatError("no node in it; this is not a GraphDef, or an empty one", path=model.path)
    nameless = sum(1 for n in nodes if not n.name or not n.op)
    if nameless > len(nodes) // 2:
        raise FormatError("a protobuf message, but not a GraphDef (its nodes have neither name nor op)", path=model.path)
    return model
