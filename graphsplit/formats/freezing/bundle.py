"""The values of a checkpoint: ``variables.index`` says where in ``variables.data-00000-of-00001`` … each of them is.

    index:  ""   → BundleHeaderProto: num_shards = 1   endianness = 2   version = 3
            name → BundleEntryProto:  dtype = 1   shape = 2   shard_id = 3   offset = 4   size = 5   crc32c = 6   slices = 7
            name + slice, encoded → the entry of a slice of a partitioned variable

Nothing is believed before it is checked: sizes against the shape and the file, the place in the file, the checksum.

Source: tensorflow/core/util/tensor_bundle, tensorflow/core/util/saved_tensor_slice_util.cc
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.formats.freezing.crc32c import crc32c, unmasked
from graphsplit.formats.freezing.reasons import NotUnderstood
from graphsplit.formats.freezing.table import read_table
from graphsplit.formats.graphdef.messages import read_shape
from graphsplit.formats.graphdef.ops import op_table
from graphsplit.formats.graphdef.wire import BYTES, FIXED32, VARINT, encode_field, fields, varint

__all__ = ["Bundle", "Value"]

_LARGEST = 2**31  # bytes: a GraphDef that holds more is no protobuf message
_MOST_SHARDS = 100_000
_SIZES = {
    "float32": 4, "float64": 8, "int32": 4, "uint8": 1, "int16": 2, "int8": 1, "complex64": 8, "int64": 8, "bool": 1,
    "qint8": 1, "quint8": 1, "qint32": 4, "bfloat16": 2, "qint16": 2, "quint16": 2, "uint16": 2, "complex128": 16,
    "float16": 2, "uint32": 4, "uint64": 8, "float8_e5m2": 1, "float8_e4m3fn": 1,
}  # fmt: skip
# dtype → number of the field of a TensorProto that holds its content
_CONTENT, _STRINGS = 4, 8


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value is.

    Attributes:
        name: Its name in the checkpoint.
        dtype: Its dtype.
        shape: Its shape.
        shard, offset, size: Its bytes.
        checksum: Of these bytes, masked.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class Bundle:
    """A checkpoint.

    Args:
        prefix: Its path without ``.index``.

    Raises:
        FormatError: It is damaged; each method raises it as well.
        NotUnderstood: It is written in a way that is not read here.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        index = prefix.with_name(f"{prefix.name}.index")
        with self._told(index):
            if index.stat().st_size > _LARGEST:
                raise FormatError(f"{index.stat().st_size:,} bytes of names")
            self._entries = read_table(index.read_bytes())
            self._shards, order = self._header()
        if order:
            raise NotUnderstood("its variables are written in the byte order of another machine")

    def _told(self, file: Path) -> _Told:
        return _Told(file, self._prefix.parents[1])

    def _header(self) -> tuple[int, int]:
        if b"" not in self._entries:
            raise FormatError("no header in it")
        numbers = dict(_numbers(self._entries[b""]))
        shards = numbers.get(1, 0)
        if not 0 < shards <= _MOST_SHARDS:
            raise FormatError(f"it states {shards:,} files of values")
        return shards, numbers.get(2, 0)

    def find(self, name: str, part: str = "") -> Value:
        """The value of that name.

        Args:
            name: Its name.
            part: The part of it that is restored, as RestoreV2 writes it: ``10 4 0,5:-``; empty: all.
        """
        with self._told(self._file()):
            entry = self._entries.get(name.encode())
            if entry is None:
                raise FormatError(f"it has no value named {name!r}")
            value, slices = self._value(name, entry)
            if not part.strip():
                if slices:
                    raise NotUnderstood(f"{name!r} is saved in slices and restored whole")
                return value
            whole, spans = _part(part)
            if whole != value.shape:
                raise NotUnderstood(f"{name!r} has another shape than its slices")
            if not slices and all(span == (0, size) for span, size in zip(spans, whole, strict=True)):
                return value
            full = tuple((0, -1) if span == (0, size) else span for span, size in zip(spans, whole, strict=True))
            for wanted in (full, spans):
                key = _slice_key(name, wanted)
                if key in self._entries:
                    found, _ = self._value(name, self._entries[key])
                    if found.shape != tuple(length for _, length in spans):
                        raise FormatError(f"a slice of {name!r} has another shape than it is named")
                    return found
            raise NotUnderstood(f"{name!r} is restored in other slices than it is saved in")

    def content(self, value: Value) -> bytes:
        """A value as the last fields of a TensorProto, after its dtype and shape."""
        file = self._file(value.shard)
        with self._told(file):
            with file.open("rb") as stream:
                if value.offset + value.size > os.fstat(stream.fileno()).st_size:
                    raise FormatError(f"the value of {value.name!r} reaches past its end")
                stream.seek(value.offset)
                data = stream.read(value.size)
            if len(data) != value.size:
                raise FormatError(f"the value of {value.name!r} reaches past its end")
            if op_table().dtypes[value.dtype] != "string":
                self._check(value, crc32c(data))
                return encode_field(_CONTENT, data) if data else b""
            return self._strings(value, data)

    def _strings(self, value: Value, data: bytes) -> bytes:
        """Lengths, their checksum, then all bytes."""
        lengths, at, total = [], 0, b""
        for _ in range(prod(value.shape)):
            length, at = varint(data, at, len(data))
            lengths.append(length)
            total += length.to_bytes(4 if length < 2**32 else 8, "little")
        stored = data[at : at + 4]
        if sum(lengths) != len(data) - at - len(stored) or len(stored) < 4:
            raise FormatError(f"the strings of {value.name!r} are not as long as stated")
        if unmasked(int.from_bytes(stored, "little")) != crc32c(total):
            raise FormatError(f"the lengths of the strings of {value.name!r} do not match their checksum")
        self._check(value, crc32c(data[at:], crc32c(total)))
        at += 4
        pieces = []
        for length in lengths:
            pieces.append(encode_field(_STRINGS, data[at : at + length]))
            at += length
        return b"".join(pieces)

    def _check(self, value: Value, checksum: int) -> None:
        if unmasked(value.checksum) != checksum:
            raise FormatError(f"the value of {value.name!r} does not match its checksum")

    def _value(self, name: str, entry: bytes) -> tuple[Value, bool]:
        """An entry, and whether it only names slices."""
        numbers = dict(_numbers(entry))
        shapes = [(low, high) for number, wire, _, low, high in fields(entry, 0, len(entry)) if number == 2 and wire == BYTES]
        from graphsplit.formats.graphdef.messages import message

        shape = read_shape(message("TensorShapeProto").FromString(b"".join(entry[a:b] for a, b in shapes)))
        dtype = op_table().dtypes.get(numbers.get(1, 0), "")
        if shape is None or any(d is None for d in shape):
            raise FormatError(f"the shape of {name!r} is not stated")
        sizes = tuple(d for d in shape if d is not None)
        value = Value(name, numbers.get(1, 0), sizes, *(numbers.get(n, 0) for n in (3, 4, 5, 6)))
        if any(number == 7 for number, *_ in fields(entry, 0, len(entry))):
            return value, True
        if dtype not in _SIZES and dtype != "string":
            raise NotUnderstood(f"{name!r} is a {dtype or 'value of an unknown dtype'}, whose bytes are not read here")
        if value.shard >= self._shards:
            raise FormatError(f"{name!r} is in file {value.shard} of {self._shards}")
        if value.size >= _LARGEST:
            raise FormatError(f"{name!r} is of {value.size:,} bytes, more than a graph may hold")
        count = prod(sizes)
        if dtype == "string":
            if count > value.size:
                raise FormatError(f"{name!r} has more strings than bytes")
        elif count * _SIZES[dtype] != value.size:
            raise FormatError(f"{name!r} has {value.size:,} bytes, and its shape asks for {count * _SIZES[dtype]:,}")
        return value, False

    def _file(self, shard: int | None = None) -> Path:
        name = self._prefix.name
        return self._prefix.with_name(f"{name}.index" if shard is None else f"{name}.data-{shard:05d}-of-{self._shards:05d}")


class _Told:
    """Errors inside name the file and the folder."""

    def __init__(self, file: Path, folder: Path) -> None:
        self._file, self._folder = file, folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from google.protobuf.message import DecodeError

        name = f"{self._file.parent.name}/{self._file.name}"
        if isinstance(error, FileNotFoundError):
            raise FormatError(f"{name} is missing; copy the whole SavedModel folder", path=self._folder) from error
        if isinstance(error, (FormatError, DecodeError)):
            raise FormatError(f"{name} is damaged: {error}; copy or save it again", path=self._folder) from error


def _numbers(entry: bytes) -> Iterator[tuple[int, int]]:
    """The numbers of a message by field; negative ones are as large as 64 bits allow, and so refused."""
    for number, wire, _, low, high in fields(entry, 0, len(entry)):
        if wire == VARINT:
            yield number, varint(entry, low, high)[0]
        elif wire == FIXED32:
            yield number, int.from_bytes(entry[low:high], "little")


def _part(text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The whole shape and the (start, length) in each dimension of ``10 4 0,5:-``."""
    *sizes, spans = text.split()
    try:
        whole = tuple(map(int, sizes))
        pairs = [
            (0, size) if span == "-" else tuple(map(int, span.split(",")))
            for span, size in zip(spans.split(":"), whole, strict=True)
        ]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError
    except ValueError:
        raise FormatError(f"a variable is restored from the part {text!r}, which is none") from None
    return whole, tuple((pair[0], pair[1]) for pair in pairs)


def _slice_key(name: str, spans: tuple[tuple[int, int], ...]) -> bytes:
    """The key of a slice: OrderedCode of 0, the name, the rank, then start and length of each dimension."""
    escaped = name.encode().replace(b"\xff", b"\xff\x00").replace(b"\x00", b"\x00\xff")
    key = b"\x00" + escaped + b"\x00\x01" + _increasing(len(spans))
    return key + b"".join(_signed(number) for span in spans for number in span)


def _increasing(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _signed(number: int) -> bytes:
    """As many leading ones as bytes, then the number, all inverted for a negative one."""
    bits = (~number if number < 0 else number).bit_length()
    size = bits // 7 + 1
    header = ((1 << size) - 1) << (7 * size)
    return (((number & ((1 << 8 * size) - 1)) ^ header) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
