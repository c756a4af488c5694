"""A sorted table of keys and values in LevelDB's format, as TensorFlow writes the index of a checkpoint.

    data blocks │ metaindex block │ index block │ footer: two handles, padding, magic
    block:  entries (shared, unshared, length of the value, rest of the key, value) │ restarts │ their number
            then one byte for the compression and the masked checksum of all before it

Source: https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

from __future__ import annotations

from collections.abc import Iterator

from graphsplit.errors import FormatError
from graphsplit.formats.freezing.crc32c import crc32c, unmasked
from graphsplit.formats.graphdef.wire import varint

__all__ = ["read_table"]

_FOOTER, _TRAILER = 48, 5
_SNAPPY = 1
_LARGEST = 2**26  # bytes of a block; usual is 2**18
_MAGIC = bytes.fromhex("57fb808b247547db")
_MOST = 2**22  # entries: a checkpoint has one for each variable


def read_table(data: bytes) -> dict[bytes, bytes]:
    """The entries of a table. Raises FormatError for a damaged one."""
    if len(data) < _FOOTER or data[-8:] != _MAGIC:
        raise FormatError("no table of a checkpoint, or one that was cut off")
    _, at = _handle(data, len(data) - _FOOTER, len(data))  # the metaindex, which is empty
    index, _ = _handle(data, at, len(data))
    entries: dict[bytes, bytes] = {}
    last: bytes | None = None
    end = 0  # blocks follow one another, so that no block is read twice
    for _, value in _entries(_block(data, *index)):
        (start, size), _ = _handle(value, 0, len(value))
        if start < end:
            raise FormatError("its blocks overlap")
        end = start + size
        for key, content in _entries(_block(data, start, size)):
            if last is not None and key <= last:
                raise FormatError("its keys are not in order")
            if len(entries) >= _MOST:
                raise FormatError(f"more than {_MOST:,} entries")
            entries[key], last = content, key
    return entries


def _handle(data: bytes, at: int, end: int) -> tuple[tuple[int, int], int]:
    start, at = varint(data, at, end)
    size, at = varint(data, at, end)
    return (start, size), at


def _block(data: bytes, start: int, size: int) -> bytes:
    stop = start + size
    if stop + _TRAILER > len(data) - _FOOTER:
        raise FormatError("a block reaches past its end")
    if unmasked(int.from_bytes(data[stop + 1 : stop + 5], "little")) != crc32c(data[start : stop + 1]):
        raise FormatError("a block's checksum does not match its content")
    if data[stop] == _SNAPPY:
        return _unpacked(data[start:stop])
    if data[stop]:
        raise FormatError(f"it is compressed in an unknown way ({data[stop]})")
    return data[start:stop]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    count = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * count
    if len(block) < 4 or end < 0:
        raise FormatError("a block states more restarts than it has bytes")
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at, end)
        rest, at = varint(block, at, end)
        length, at = varint(block, at, end)
        if shared > len(key) or at + rest + length > end:
            raise FormatError("an entry reaches past the end of its block")
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + length]
        at += length


def _unpacked(data: bytes) -> bytes:
    """What Snappy packed (https://github.com/google/snappy/blob/main/format_description.txt)."""
    size, at = varint(data, 0, len(data))
    if size > _LARGEST:
        raise FormatError(f"a block states {size:,} bytes")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        kind, length, at = tag & 3, (tag >> 2) + 1, at + 1
        if kind == 0:  # a literal; lengths above 60 follow
            if length > 60:
                more = length - 60
                length, at = int.from_bytes(data[at : at + more], "little") + 1, at + more
            piece, at = data[at : at + length], at + length
        else:
            if kind == 1:
                length, offset, at = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | int.from_bytes(data[at : at + 1], "little"), at + 1
            else:
                width = 2 if kind == 2 else 4
                offset, at = int.from_bytes(data[at : at + width], "little"), at + width
            if not 0 < offset <= len(out):
                raise FormatError("a packed block refers to bytes before its start")
            piece = bytes(out[-offset:][:length])
            piece = (piece * (length // len(piece) + 1))[:length]
        if len(piece) < length or len(out) + length > size:
            raise FormatError("a packed block has another size than it states")
        out += piece
    if len(out) != size:
        raise FormatError("a packed block has another size than it states")
    return bytes(out)
