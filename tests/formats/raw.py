"""Protobuf messages byte by byte, in any order and with any mistake in them: what no library would write.

graph(node("x", "Placeholder", attrs={"dtype": kind(1)}), node("y", "Relu", "x", attrs={"T": kind(1)}))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

FLOAT, DOUBLE, INT32, UINT8, STRING, INT64, BOOL, RESOURCE, VARIANT = 1, 2, 3, 4, 7, 9, 10, 20, 21


def varint(value: int) -> bytes:
    value &= 2**64 - 1  # negative numbers take ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | str) -> bytes:
    """A length-delimited field."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(number: int, value: int) -> bytes:
    """A field that holds a number."""
    return varint(number << 3) + varint(value)


def kind(dtype: int) -> bytes:
    """An AttrValue that is a dtype."""
    return number(6, dtype)


def integer(value: int) -> bytes:
    """An AttrValue that is a whole number."""
    return number(3, value)


def text(value: bytes | str) -> bytes:
    """An AttrValue that is a string."""
    return field(2, value)


def dims(*sizes: int) -> bytes:
    """A TensorShapeProto."""
    return b"".join(field(2, number(1, s)) for s in sizes)


def shape(*sizes: int) -> bytes:
    """An AttrValue that is a shape."""
    return field(7, dims(*sizes))


def bound(key: str) -> bytes:
    """An AttrValue that the caller of the function binds."""
    return field(9, key)


def func(name: str, attrs: Mapping[str, bytes] = {}) -> bytes:
    """An AttrValue that is a function."""
    return field(10, field(1, name) + b"".join(field(2, field(1, k) + field(2, v)) for k, v in attrs.items()))


def listed(*items: bytes) -> bytes:
    """An AttrValue that is a list: of strings, dtypes, functions, by their own fields in ListValue."""
    return field(1, b"".join(items))


def attr(key: str, value: bytes) -> bytes:
    """One attribute, as a field of a node."""
    return field(5, field(1, key) + field(2, value))


def node(
    name: str,
    op: str,
    *inputs: str,
    device: str = "",
    attrs: Mapping[str, bytes] | None = None,
    order: str = "noida",
    more: bytes = b"",
) -> bytes:
    """The content of a NodeDef. order: of name, op, inputs, device, attributes."""
    pieces = {
        "n": field(1, name),
        "o": field(2, op),
        "i": b"".join(field(3, i) for i in inputs),
        "d": field(4, device) if device else b"",
        "a": b"".join(attr(k, v) for k, v in (attrs or {}).items()),
    }
    return b"".join(pieces[p] for p in order) + more


def placeholder(name: str, dtype: int = FLOAT, *sizes: int, **rest: bytes) -> bytes:
    return node(name, "Placeholder", attrs={"dtype": kind(dtype), "shape": shape(*sizes), **rest})


def const(name: str, content: bytes, *sizes: int, dtype: int = FLOAT) -> bytes:
    """A constant of these bytes, whether they fit its shape or not."""
    tensor = number(1, dtype) + field(2, dims(*sizes)) + field(4, content)
    return node(name, "Const", attrs={"dtype": kind(dtype), "value": field(8, tensor)})


def identity(name: str, source: str, dtype: int = FLOAT) -> bytes:
    return node(name, "Identity", source, attrs={"T": kind(dtype)})


def op_def(name: str, inputs: Mapping[str, int], outputs: Mapping[str, int], defaults: Mapping[str, bytes] = {}) -> bytes:
    """An OpDef: the signature of a function."""
    args = [field(n, field(1, key) + number(3, dtype)) for n, ports in ((2, inputs), (3, outputs)) for key, dtype in ports.items()]
    attrs = [field(4, field(1, key) + field(3, value)) for key, value in defaults.items()]
    return field(1, name) + b"".join(args + attrs)


def function(
    name: str,
    nodes: Iterable[bytes] = (),
    *,
    inputs: Mapping[str, int] = {},
    outputs: Mapping[str, int] = {},
    defaults: Mapping[str, bytes] = {},
    attrs: Mapping[str, bytes] = {},
) -> bytes:
    """The content of a FunctionDef, without what it returns. defaults: of the attributes that a caller may bind."""
    stated = b"".join(attr(key, value) for key, value in attrs.items())
    return field(1, op_def(name, inputs, outputs, defaults)) + b"".join(field(3, n) for n in nodes) + stated


def library(*functions: bytes, gradients: Mapping[str, str] = {}) -> bytes:
    """The content of a FunctionDefLibrary."""
    pairs = [field(2, field(1, name) + field(2, gradient)) for name, gradient in gradients.items()]
    return b"".join(field(1, f) for f in functions) + b"".join(pairs)


def versions(producer: int = 2000) -> bytes:
    """The versions of a GraphDef, as a field."""
    return field(4, number(1, producer))


def graph(*nodes: bytes, library: bytes = b"", producer: int = 2000) -> bytes:
    """A GraphDef of these nodes in this order."""
    return b"".join(field(1, n) for n in nodes) + (field(2, library) if library else b"") + versions(producer)


Field = tuple[int, int, bytes]  # number, wire type, content


def parsed(data: bytes) -> list[Field] | None:
    """The fields of a message; None for what is none."""
    found, pos = [], 0

    def number_at(pos: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = data[pos]
            value |= (byte & 0x7F) << shift
            pos, shift = pos + 1, shift + 7
            if byte < 0x80:
                return value, pos

    try:
        while pos < len(data):
            tag, pos = number_at(pos)
            wire, start = tag & 7, pos
            if wire == 2:
                length, start = number_at(pos)
                pos = start + length
            elif wire == 0:
                pos = number_at(pos)[1]
            else:
                pos += {1: 8, 5: 4}[wire]
            if pos > len(data) or not tag >> 3:
                return None
            found.append((tag >> 3, wire, data[start:pos]))
    except (IndexError, KeyError):
        return None
    return found


def joined(fields: Iterable[Field]) -> bytes:
    """A message of these fields."""
    return b"".join(field(n, content) if wire == 2 else varint(n << 3 | wire) + content for n, wire, content in fields)
