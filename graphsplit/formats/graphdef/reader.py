"""Bytes of a GraphDef → nodes and attributes, without TensorFlow and without decoding a weight."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from graphsplit.formats.graphdef.calls import Calls
from graphsplit.formats.graphdef.library import Library
from graphsplit.formats.graphdef.messages import Message, message
from graphsplit.formats.graphdef.outside import outside_nodes
from graphsplit.formats.graphdef.wire import BYTES, Buffer, GraphError, NodeRange, WireError, attributes, fields, walk_node
from graphsplit.formats.source import FileBytes, FileRange

__all__ = ["GraphDefReader"]

_SHORT = 4096  # bytes of a node; a longer one holds weights


class GraphDefReader:
    """Walks a GraphDef once and answers questions about it from byte ranges.

    Args:
        data: The bytes.
        path: The file, to name it in errors.
        file: What they were loaded from, if some of them were not.

    Attributes:
        nodes: In file order.
        library_spans: Start and end of each piece of the function library.
        other_fields: Number, begin and end of other fields: versions, and what this version does not know.

    Raises:
        WireError: The bytes are not a message.
        GraphError: The message is not a graph.
    """

    def __init__(self, data: Buffer, path: Path | None = None, file: FileBytes | None = None) -> None:
        self.data, self.path, self._file = data, path, file
        self.nodes: list[NodeRange] = []
        self.library_spans: list[tuple[int, int]] = []
        self.other_fields: list[tuple[int, int, int]] = []
        for number, wire, begin, start, end in fields(data, 0, len(data)):
            if number == 1 and wire == BYTES:
                self.nodes.append(walk_node(data, begin, start, end))
            elif number == 2 and wire == BYTES:
                self.library_spans.append((start, end))
            else:
                self.other_fields.append((number, begin, end))

    @cached_property
    def by_name(self) -> dict[str, NodeRange]:
        """Name → node. Raises GraphError for a nameless node or a name used twice."""
        found: dict[str, NodeRange] = {}
        for place, node in enumerate(self.nodes):
            if not node.name or not node.op:
                raise GraphError(f"node number {place} has no {'name' if not node.name else 'op'}")
            if node.name in found:
                raise GraphError(f"two nodes are named {node.name!r}")
            found[node.name] = node
        return found

    @cached_property
    def library(self) -> Library:
        """The library functions."""
        return Library(self)

    @cached_property
    def calls(self) -> Calls:
        """The library functions as they are called."""
        return Calls(self)

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """Names of the nodes that reach files, the network, Python or unknown native code; a call counts for its functions."""
        return outside_nodes(self)

    @cached_property
    def producer_version(self) -> int:
        """``versions.producer``: which rules the graph was written by; 0 if the file does not say."""
        version = 0
        for number, begin, end in self.other_fields:
            if number == 4:
                for _, _, _, start, stop in fields(self.data, begin, end):
                    version = int(self.parse("VersionDef", start, stop).producer) or version
        return version

    def split_input(self, raw: str) -> tuple[str, str]:
        """Node and port (digits) of a data input as it is written: ``node``, ``node:0``, ``node:00`` are the same tensor."""
        base, colon, port = raw.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or raw in self.by_name:
            return raw, "0"
        return base, port.lstrip("0") or "0"

    def attribute(self, node: NodeRange, key: str) -> Message:
        """The AttrValue message of an attribute, or None. The last one counts where it is written twice, as in protobuf."""
        if node.end - node.start < _SHORT and self.data.find(key.encode(), node.start, node.end) < 0:
            return None  # ten times as fast as a walk
        found: tuple[int, int] | None = None
        for name, _, _, start, end in attributes(self.data, node.start, node.end):
            if name == key:
                found = (start, end)
        return None if found is None else self.parse("AttrValue", *found)

    def attributes(self, node: NodeRange, *, skip: tuple[str, ...] = ("value",)) -> dict[str, Message]:
        """All attributes of a node as AttrValue messages, but for those to skip (a constant's value, say)."""
        return {
            name: self.parse("AttrValue", start, end)
            for name, _, _, start, end in attributes(self.data, node.start, node.end)
            if name not in skip
        }

    def part(self, start: int, end: int) -> memoryview | FileRange:
        """A range of bytes; nothing is copied."""
        return memoryview(self.data)[start:end] if self._file is None else self._file.range(start, end)

    def parse(self, kind: str, start: int, end: int) -> Message:
        """The message of that kind in a range of bytes. Raises WireError."""
        from google.protobuf.message import DecodeError

        try:
            return message(kind).FromString(bytes(self.part(start, end)))
        except DecodeError as error:
            raise WireError(f"a damaged {kind} ({error})", start) from error
