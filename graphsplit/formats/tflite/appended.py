"""What lies in a file behind its flatbuffer: packed label files, and code for an accelerator.

    flatbuffer │ buffers and options that are stated to lie here │ code of a DISPATCH_OP │ zip of label files

An operator that LiteRT hands to an accelerator states in its options where in the file its code is, so that a section has to
bring the code along and state its new place. Other custom ops may do the same in ways that nobody but their kernel knows.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from graphsplit.formats.tflite.validation import TFLiteError

__all__ = ["Code", "code_of", "moved", "unexplained"]

_ALIGNED = 64  # bytes
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Code:
    """Where the code of an operator is.

    Attributes:
        options: The operator's options, as they are in the file.
        offset: Of its first byte in the file.
        size: Bytes.
    """

    options: bytes
    offset: int
    size: int


def code_of(op: str, options: bytes, size: int) -> Code | None:
    """The code that an operator refers to; None if it is not of a kind that is known to do so.

    Args:
        op: Name of the operator.
        options: Its custom options.
        size: Bytes of the file.

    Raises:
        TFLiteError: Its options lead out of the file.
    """
    if op != "DISPATCH_OP" or not options:
        return None
    from flatbuffers import flexbuffers

    try:
        stated = flexbuffers.GetRoot(bytearray(options)).Value
        offset, length = stated["bytecode_offset"], stated["bytecode_size"]
    except Exception as error:  # the library checks nothing
        raise TFLiteError("the options of a DISPATCH_OP do not state where its code is") from error
    if not (isinstance(offset, int) and isinstance(length, int) and 0 <= offset <= offset + length <= size):
        raise TFLiteError(f"the code of a DISPATCH_OP lies at {offset!r}, {length!r} bytes; the file has {size:,}")
    if options.count(struct.pack("<Q", offset)) != 1:
        raise TFLiteError("the options of a DISPATCH_OP state the place of its code in a way that this version cannot change")
    return Code(options, offset, length)


def moved(section: memoryview, whole: memoryview, codes: Iterable[Code]) -> memoryview:
    """A section with the code of its operators behind it, and their options changed to say so.

    Raises:
        TFLiteError: Their options are not found in the section.
    """
    data = bytearray(section)
    places: dict[tuple[int, int], int] = {}
    changes: dict[bytes, bytes] = {}
    for code in codes:
        key = (code.offset, code.size)
        if key not in places:
            data += bytes(-len(data) % _ALIGNED)
            places[key] = len(data)
            data += whole[code.offset : code.offset + code.size]
        changes[code.options] = code.options.replace(struct.pack("<Q", code.offset), struct.pack("<Q", places[key]))
    for old, new in changes.items():
        at = data.find(old, 0, len(section))
        if at < 0:
            raise TFLiteError("the options of a DISPATCH_OP got lost")
        while at >= 0:
            data[at : at + len(old)] = new
            at = data.find(old, at + len(old), len(section))
    return memoryview(bytes(data))


def unexplained(data: memoryview, end: int, explained: Collection[tuple[int, int]]) -> int:
    """How many bytes behind a flatbuffer nothing in it explains, without padding and zip archives.

    Args:
        data: The file.
        end: Where the flatbuffer ends.
        explained: Ranges that buffers, options and operators state.
    """
    left, at = 0, end
    for start, stop in (*sorted(r for r in explained if r[1] > end), (len(data), len(data))):
        gap = bytes(data[at : max(at, start)])
        zipped = gap.find(_ZIP)
        gap = gap if zipped < 0 else gap[:zipped]
        left += len(gap.strip(b"\0"))
        at = max(at, stop)
    return left
