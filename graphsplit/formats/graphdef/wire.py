"""A walk over the bytes of a GraphDef that reads names and edges and never touches a weight.

A frozen graph is mostly constants that splitting does not look at. The top level of a GraphDef is a run of length-delimited
fields, so a walk that reads tags and lengths finds every NodeDef and, inside it, name, op, inputs and device; attributes keep their
byte ranges and are parsed on demand. Sections are then written by copying ranges.

    GraphDef:  node = 1 (repeated NodeDef)   library = 2   versions = 4
    NodeDef:   name = 1   op = 2   input = 3 (repeated)   device = 4   attr = 5 (repeated entry: key = 1, value = 2)

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple, Protocol, overload

from graphsplit.errors import FormatError

__all__ = ["Buffer", "GraphError", "NodeRange", "Readable", "WireError", "attributes", "encode_field", "fields", "walk_node"]

Buffer = bytes | mmap.mmap


class Readable(Protocol):
    """Bytes by position."""

    @overload
    def __getitem__(self, at: int, /) -> int: ...
    @overload
    def __getitem__(self, at: slice, /) -> bytes: ...


VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(FormatError):
    """Bytes that are not a protobuf message, at an offset. Models raise it again with the path of their file."""

    def __init__(self, what: str, offset: int) -> None:
        self.offset = offset
        super().__init__(f"{what} at byte {offset}")


class GraphError(FormatError):
    """A well-formed message that is not a legal graph. Models raise it again with the path of their file."""


class NodeRange(NamedTuple):
    """A NodeDef and its place in the file.

    Attributes:
        name, op, inputs, device: Its fields; inputs as they are written.
        begin: Where its tag begins.
        start: Where its content begins.
        end: Where its content ends.
        colocated: Whether it may have an attribute ``_class``; most nodes have none, and need not be walked to find out.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    device: str
    begin: int
    start: int
    end: int
    colocated: bool = False


def varint(data: Readable, pos: int, end: int) -> tuple[int, int]:
    """The number at ``pos`` and the position after it. Raises WireError."""
    value = shift = 0
    first = pos
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift > 63:
            raise WireError("a number of more than ten bytes", first)
    raise WireError("the data ends inside a number", first)


def fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Each field of the message in ``start`` … ``end``: (number, wire type, begin at its tag, start, end of its value).

    Raises WireError for anything but a well-formed message.
    """
    pos = start
    while pos < end:
        begin = pos
        tag, pos = varint(data, pos, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise WireError("a field with the number 0", begin)
        if wire == BYTES:
            length, pos = varint(data, pos, end)
            stop = pos + length
        elif wire == VARINT:
            stop = varint(data, pos, end)[1]
        elif wire == FIXED64:
            stop = pos + 8
        elif wire == FIXED32:
            stop = pos + 4
        else:
            raise WireError(f"a field of wire type {wire}", begin)
        if stop > end:
            raise WireError("a field that reaches past the end of its message", begin)
        yield number, wire, begin, pos, stop
        pos = stop


def walk_node(data: Buffer, begin: int, start: int, end: int) -> NodeRange:
    """Read name, op, inputs and device of the NodeDef whose content is ``start`` … ``end``.

    Written out instead of built on `fields`: this loop sees every field of every node, and one-byte tags and lengths
    are nearly all there are.
    """
    name = op = device = ""
    inputs: list[str] = []
    colocated = False
    pos = start
    while pos < end:
        first = pos
        tag = data[pos]
        pos += 1
        if tag & 0x87 != BYTES:  # not a one-byte tag of a length-delimited field: the careful way
            number, wire, _, low, pos = next(fields(data, first, end))
            if wire != BYTES:
                continue
            tag = number << 3 | BYTES
        else:
            length = data[pos] if pos < end else 0x80
            if length < 0x80:
                low = pos + 1
            else:
                length, low = varint(data, pos, end)
            pos = low + length
            if pos > end:
                raise WireError("a field that reaches past the end of its node", first)
            if tag < 8:
                raise WireError("a field with the number 0", first)
        if tag == 0x2A:
            # An entry: 0A, length, key, then its value. One that is written otherwise is assumed to be "_class".
            if pos - low >= 8 and (data[low] != 0x0A or data[low + 1] > 0x7F or data[low : low + 8] == b"\x0a\x06_class"):
                colocated = True
        elif tag == 0x1A:
            inputs.append(_text(data, low, pos))
        elif tag == 0x0A:
            name = _text(data, low, pos)
        elif tag == 0x12:
            op = _text(data, low, pos)
        elif tag == 0x22:
            device = _text(data, low, pos)
    return NodeRange(name, op, tuple(inputs), device, begin, start, end, colocated)


def _text(data: Buffer, start: int, end: int) -> str:
    try:
        return data[start:end].decode()
    except UnicodeDecodeError:
        raise WireError("a name that is not UTF-8", start) from None


def attributes(data: Buffer, start: int, end: int) -> Iterator[tuple[str, int, int, int, int]]:
    """Each attribute of the NodeDef content ``start`` … ``end``.

    Yields (key, begin and end of the entry's field, start and end of its value).
    """
    for number, wire, begin, low, high in fields(data, start, end):
        if number == 5 and wire == BYTES:
            key, value = "", (high, high)
            for inner, inner_wire, _, a, b in fields(data, low, high):
                if inner == 1 and inner_wire == BYTES:
                    key = _text(data, a, b)
                elif inner == 2 and inner_wire == BYTES:
                    if value != (high, high):  # protobuf would merge the two; written only to hide a call
                        raise WireError("an attribute with two values", a)
                    value = (a, b)
            yield key, begin, high, *value


def encode_varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(content)) + content
