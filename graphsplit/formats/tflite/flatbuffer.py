"""Flatbuffers, with every offset checked before it is followed.

Python's flatbuffers trusts what it reads: a length of 2·10⁹ in a file of 40 bytes would hang it, and what it passes on unchecked
ends in native code. Here nothing outside of the file is ever read.

    u32 root ─▶ table: i32 ─▶ vtable: u16 its bytes, u16 bytes of the table, u16 offset of each field, 0 if it is absent
                       field, field, u32 ─▶ string, vector or another table

Format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from graphsplit.formats.tflite.schema import Field, fields, union_member

__all__ = ["SCALARS", "FlatError", "NewerError", "Table", "Tables", "root", "verify"]

#: Scalar kind → struct code.
SCALARS = {
    "bool": "<?", "int8": "<b", "uint8": "<B", "int16": "<h", "uint16": "<H", "int32": "<i", "uint32": "<I",
    "int64": "<q", "uint64": "<Q", "float32": "<f", "float64": "<d",
}  # fmt: skip
_DEEPEST = 32  # nested tables; the schema needs seven
_SHARED = 4  # times that the bytes of a file may be referred to; writers share at most a string or a weight


class FlatError(ValueError):
    """Bytes that are not a flatbuffer of this schema."""


class NewerError(FlatError):
    """A flatbuffer of a later schema; unknown fields cannot be carried over."""


_STRUCTS = {kind: struct.Struct(code) for kind, code in SCALARS.items()}
_U8, _U16, _U32, _I32 = (_STRUCTS[kind] for kind in ("uint8", "uint16", "uint32", "int32"))


def _read(data: memoryview, of: struct.Struct, at: int) -> int:
    try:
        if at >= 0:
            value: int = of.unpack_from(data, at)[0]
            return value
    except struct.error:
        pass
    raise FlatError(f"an offset leads to byte {at:,}, the file has {len(data):,}")


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A vtable as a table of some kind has it; tables share them, so each is examined once.

    Attributes:
        at, end: Where the vtable begins and ends.
        size: Bytes of a table.
        offsets: Field that is present → its offset in the table.
    """

    at: int
    end: int
    size: int
    offsets: Mapping[str, tuple[Field, int]]

    @classmethod
    def read(cls, data: memoryview, kind: str, vtable: int, at: int) -> _Layout:
        """The vtable of a table. Raises FlatError."""
        known, size = _read(data, _U16, vtable), _read(data, _U16, vtable + 2)
        if known < 4 or known % 2 or vtable + known > len(data) or size < 4:
            raise FlatError(f"no {kind} at byte {at:,}")
        stated = struct.unpack_from(f"<{known // 2 - 2}H", data, vtable + 4)
        expected = fields(kind)
        for slot in range(len(expected), len(stated)):
            if stated[slot]:
                raise NewerError(f"{kind} at byte {at:,} has a field number {slot} that this version does not know")
        present = {f.name: (f, stated[f.slot]) for f in expected.values() if f.slot < len(stated) and stated[f.slot]}
        for field, offset in present.values():
            width = _STRUCTS[field.kind].size if field.kind in SCALARS else 4
            if (offset < 4 or offset + width > size) and field.kind:
                raise FlatError(f"{kind}.{field.name} at byte {at:,} is outside of it")
        return cls(vtable, vtable + known, size, present)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table in a file.

    Attributes:
        data: The file.
        kind: Its name in the schema.
        at: Where it begins.
        layout: Its vtable.
        layouts: All vtables of the file that have been read, by kind and place.
    """

    data: memoryview
    kind: str
    at: int
    layout: _Layout
    layouts: dict[tuple[str, int], _Layout]

    @classmethod
    def read(cls, data: memoryview, kind: str, at: int, layouts: dict[tuple[str, int], _Layout]) -> Table:
        """The table at a place. Raises FlatError."""
        vtable = at - _read(data, _I32, at)
        layout = layouts.get((kind, vtable))
        if layout is None:
            layout = layouts[kind, vtable] = _Layout.read(data, kind, vtable, at)
        if at + layout.size > len(data):
            raise FlatError(f"no {kind} at byte {at:,}")
        return cls(data, kind, at, layout, layouts)

    @property
    def fields(self) -> Iterable[Field]:
        """The fields that are present."""
        return [field for field, _ in self.layout.offsets.values()]

    def has(self, name: str) -> bool:
        """Whether a field is present."""
        return name in self.layout.offsets

    def place(self, name: str) -> int:
        """Where the value of a field that is present begins."""
        return self.at + self.layout.offsets[name][1]

    def number(self, name: str) -> int:
        """An integer or bool; 0 if it is absent."""
        found = self.layout.offsets.get(name)
        return 0 if found is None else _read(self.data, _STRUCTS[found[0].kind], self.at + found[1])

    def scalar(self, name: str) -> float:
        """A scalar of any kind; 0 if it is absent."""
        return self.number(name)

    def target(self, name: str) -> int | None:
        """Where the string, vector or table begins that a field refers to; None if it is absent."""
        found = self.layout.offsets.get(name)
        if found is None:
            return None
        place = self.at + found[1]
        return place + _read(self.data, _U32, place)

    @property
    def end(self) -> int:
        """Where the table ends, and its vtable."""
        return max(self.at + self.layout.size, self.layout.end)

    def text(self, name: str) -> bytes:
        """A string; empty if it is absent."""
        target = self.target(name)
        return b"" if target is None else bytes(_vector(self.data, target, 1))

    def texts(self, name: str) -> tuple[bytes, ...]:
        """A vector of strings, each of which ends with a zero byte."""
        target = self.target(name)
        count = 0 if target is None else len(_vector(self.data, target, 4)) // 4
        places = range((target or 0) + 4, (target or 0) + 4 + 4 * count, 4)
        return tuple(bytes(_ended(self.data, p + _read(self.data, _U32, p), f"{self.kind}.{name}")) for p in places)

    def raw(self, name: str) -> memoryview:
        """The bytes of a vector of scalars, not copied."""
        target = self.target(name)
        return (
            self.data[:0] if target is None else _vector(self.data, target, _STRUCTS[self.layout.offsets[name][0].kind[1:-1]].size)
        )

    def numbers(self, name: str) -> tuple[Any, ...]:
        """A vector of scalars."""
        if name not in self.layout.offsets:
            return ()
        of, raw = _STRUCTS[self.layout.offsets[name][0].kind[1:-1]], self.raw(name)
        return struct.unpack(f"<{len(raw) // of.size}{of.format[1:]}", raw)

    def table(self, name: str) -> Table | None:
        """A table in this one; of a union, the member that the field before it states."""
        target = self.target(name)
        if target is None:
            return None
        kind = self.layout.offsets[name][0].kind
        if kind.startswith("union "):
            number = self.number(f"{name}_type")
            member = union_member(kind.removeprefix("union "), number)
            if member is None:
                raise NewerError(f"{self.kind}.{name} at byte {self.at:,} is of a kind ({number}) that this version does not know")
            kind = member
        return Table.read(self.data, kind, target, self.layouts)

    def tables(self, name: str) -> Tables:
        """A vector of tables."""
        target = self.target(name)
        offsets = self.data[:0] if target is None else _vector(self.data, target, 4)
        return Tables(self.data, fields(self.kind)[name].kind[1:-1], offsets, target or 0, self.layouts)


@dataclass(frozen=True, slots=True, eq=False)
class Tables(Sequence[Table]):
    """A vector of tables, each read when it is asked for."""

    data: memoryview
    kind: str
    offsets: memoryview
    at: int
    layouts: dict[tuple[str, int], _Layout]

    def __len__(self) -> int:
        return len(self.offsets) // 4

    @overload
    def __getitem__(self, place: int) -> Table: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Table]: ...
    def __getitem__(self, place: int | slice) -> Table | Sequence[Table]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        here = self.at + 4 + 4 * place
        return Table.read(self.data, self.kind, here + _read(self.data, _U32, here), self.layouts)

    def __iter__(self) -> Iterator[Table]:
        return (self[i] for i in range(len(self)))


def _vector(data: memoryview, at: int, width: int) -> memoryview:
    length = _read(data, _U32, at)
    if at + 4 + length * width > len(data):
        raise FlatError(f"a list of {length:,} at byte {at:,} does not fit into {len(data):,} bytes")
    return data[at + 4 : at + 4 + length * width]


def root(data: memoryview, kind: str) -> Table:
    """The table that a file begins with. Raises FlatError."""
    return Table.read(data, kind, _read(data, _U32, 0), {})


def verify(table: Table) -> int:
    """Examine everything once: all tables, all vectors, all strings. Returns where the last of it ends. Raises FlatError.

    A file that passes has no offset out of the file, no list that does not fit and no field of the wrong size, which is what
    flatbuffers' own verifier (C++) requires before native code reads a file.
    """
    seen: set[tuple[str, int]] = set()
    stack = [(table, 0)]
    end = 8  # root and identifier
    # Overlapping lists would make a small file large: everything that is reached has to fit into the file a few times.
    left = _SHARED * len(table.data) + 65536

    def spend(length: int) -> None:
        nonlocal left
        left -= length
        if left < 0:
            raise FlatError(f"its lists overlap and use {len(table.data):,} bytes more than once")

    def vector(at: int, width: int) -> None:
        nonlocal end
        length = len(_vector(table.data, at, width))
        end = max(end, at + 4 + length)
        spend(length)

    while stack:
        here, depth = stack.pop()
        if (here.kind, here.at) in seen:
            continue
        seen.add((here.kind, here.at))
        end = max(end, here.end)
        if depth > _DEEPEST:
            raise FlatError(f"tables are nested more than {_DEEPEST} deep")
        for field in here.fields:
            kind = field.kind
            if kind in SCALARS or not kind or (target := here.target(field.name)) is None:
                continue
            if kind == "string":
                spend(len(_ended(here.data, target, f"{here.kind}.{field.name}")))
                end = max(end, target + 5 + _read(here.data, _U32, target))
            elif kind == "[string]":
                spend(sum(len(text) + 4 for text in here.texts(field.name)))
            elif kind.startswith("["):
                element = kind[1:-1]
                vector(target, _STRUCTS[element].size if element in SCALARS else 4)
                if element not in SCALARS:
                    stack.extend((member, depth + 1) for member in here.tables(field.name))
            elif (inner := here.table(field.name)) is not None:
                stack.append((inner, depth + 1))
    return end


def _ended(data: memoryview, at: int, what: str) -> memoryview:
    """A string that ends with a zero byte, which C++ looks for. Raises FlatError."""
    text = _vector(data, at, 1)
    if _read(data, _U8, at + 4 + len(text)):
        raise FlatError(f"{what} at byte {at:,} does not end")
    return text
