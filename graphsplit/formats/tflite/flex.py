"""Flex operators: TensorFlow's own ops in a TFLite file, each with its NodeDef.

The options are a flexbuffer (https://flatbuffers.dev/internals/#flexbuffers) that holds the vector [name of the op, NodeDef].
TensorFlow's delegate runs the op that the NodeDef states, whatever the operator is called.
"""

from __future__ import annotations

from typing import Any

from graphsplit.formats.graphdef.messages import message

__all__ = ["flex_node"]

_VECTOR = 10
_TEXTS = {5, 25}  # STRING, BLOB


def flex_node(options: memoryview) -> Any:
    """The NodeDef message in the options of a Flex operator, or None where there is none."""
    from google.protobuf.message import DecodeError

    try:
        texts = _texts(bytes(options))
        return message("NodeDef").FromString(texts[1]) if len(texts) == 2 else None
    except (ValueError, DecodeError):
        return None


def _texts(data: bytes) -> list[bytes]:
    """The strings of a flexbuffer that is a vector of strings. Raises ValueError for any other."""

    def number(at: int, width: int) -> int:
        if width not in (1, 2, 4, 8) or at < 0 or at + width > len(data):
            raise ValueError("an offset that leaves the buffer")
        return int.from_bytes(data[at : at + width], "little")

    width, kind = number(len(data) - 1, 1), number(len(data) - 2, 1)
    if kind >> 2 != _VECTOR:
        raise ValueError("not a vector")
    at = len(data) - 2 - width
    start, width = at - number(at, width), 1 << (kind & 3)
    count = number(start - width, width)
    found = []
    for place in range(min(count, 3)):
        kind = number(start + count * width + place, 1)
        if kind >> 2 not in _TEXTS:
            raise ValueError("not a string")
        at = start + place * width
        text = at - number(at, width)
        length = number(text - (1 << (kind & 3)), 1 << (kind & 3))
        if text < 0 or text + length > len(data):
            raise ValueError("a string that leaves the buffer")
        found.append(data[text : text + length])
    return found
