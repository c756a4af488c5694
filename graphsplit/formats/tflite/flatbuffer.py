"""Flatbuffers, with every offset checked before it is followed.

Python's flatbuffers trusts what it reads: a length of 2·10⁹ in a file of 40 bytes would hang it, and what it passes on unchecked
ends in native code. Here nothing outside of the file is ever read.

    u32 root ─▶ table: i32 ─▶ vtable: u16 its bytes, u16 bytes of the table, u16 offset of each field, 0 if it is absent
                       field, field, u32 ─▶ string, vector or another table

Format: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
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


def _read(data: memoryview, code: str, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(code):
        raise FlatError(f"an offset leads to byte {at:,}, the file has {len(data):,}")
    value: int = struct.unpack_from(code, data, at)[0]
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table in a file.

    Attributes:
        data: The file.
        kind: Its name in the schema.
        at: Where it begins.
        vtable: Where its vtable begins.
        known: Bytes of the vtable.
    """

    data: memoryview
    kind: str
    at: int
    vtable: int
    known: int

    @classmethod
    def read(cls, data: memoryview, kind: str, at: int) -> Table:
        """The table at a place. Raises FlatError."""
        vtable = at - _read(data, "<i", at)
        known, size = _read(data, "<H", vtable), _read(data, "<H", vtable + 2)
        if known < 4 or known % 2 or vtable + known > len(data) or size < 4 or at + size > len(data):
            raise FlatError(f"no {kind} at byte {at:,}")
        table = cls(data, kind, at, vtable, known)
        expected = fields(kind)
        for slot in range(len(expected), (known - 4) // 2):
            if table._offset(slot, size):
                raise NewerError(f"{kind} at byte {at:,} has a field number {slot} that this version does not know")
        for field in expected.values():
            offset = table._offset(field.slot, size)
            width = struct.calcsize(SCALARS[field.kind]) if field.kind in SCALARS else 4
            if offset and (offset < 4 or offset + width > size) and field.kind:
                raise FlatError(f"{kind}.{field.name} at byte {at:,} is outside of it")
        return table

    def _offset(self, slot: int, size: int = 0) -> int:
        place = 4 + 2 * slot
        found: int = _read(self.data, "<H", self.vtable + place) if place + 2 <= self.known else 0
        return found

    def has(self, name: str) -> bool:
        """Whether a field is present."""
        return self._offset(fields(self.kind)[name].slot) != 0

    def place(self, name: str) -> int:
        """Where the value of a field that is present begins."""
        return self.at + self._offset(fields(self.kind)[name].slot)

    def _place(self, field: Field) -> int | None:
        offset = self._offset(field.slot)
        return self.at + offset if offset else None

    def number(self, name: str) -> int:
        """An integer or bool; 0 if it is absent."""
        field = fields(self.kind)[name]
        place = self._place(field)
        return 0 if place is None else _read(self.data, SCALARS[field.kind], place)

    def scalar(self, name: str) -> float:
        """A scalar of any kind; 0 if it is absent."""
        return self.number(name)

    def _target(self, field: Field) -> int | None:
        place = self._place(field)
        return None if place is None else place + int(_read(self.data, "<I", place))

    @property
    def end(self) -> int:
        """Where the table ends."""
        return self.at + _read(self.data, "<H", self.vtable + 2)

    def target_end(self, field: Field, width: int) -> int:
        """Where a vector ends that a field refers to, with members of so many bytes; 0 if it is absent."""
        target = self._target(field)
        return 0 if target is None else target + 4 + width * int(_read(self.data, "<I", target))

    def text(self, name: str) -> bytes:
        """A string; empty if it is absent."""
        target = self._target(fields(self.kind)[name])
        return b"" if target is None else bytes(_vector(self.data, target, 1))

    def texts(self, name: str) -> tuple[bytes, ...]:
        """A vector of strings, each of which ends with a zero byte."""
        target = self._target(fields(self.kind)[name])
        count = 0 if target is None else len(_vector(self.data, target, 4)) // 4
        places = range((target or 0) + 4, (target or 0) + 4 + 4 * count, 4)
        return tuple(bytes(_ended(self.data, p + int(_read(self.data, "<I", p)), f"{self.kind}.{name}")) for p in places)

    def raw(self, name: str) -> memoryview:
        """The bytes of a vector of scalars, not copied."""
        field = fields(self.kind)[name]
        target = self._target(field)
        width = struct.calcsize(SCALARS[field.kind[1:-1]])
        return self.data[:0] if target is None else _vector(self.data, target, width)

    def numbers(self, name: str) -> tuple[Any, ...]:
        """A vector of scalars."""
        code = SCALARS[fields(self.kind)[name].kind[1:-1]]
        raw = self.raw(name)
        return struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code[1]}", raw)

    def table(self, name: str) -> Table | None:
        """A table in this one; of a union, the member that the field before it states."""
        field = fields(self.kind)[name]
        target = self._target(field)
        if target is None:
            return None
        kind = field.kind
        if kind.startswith("union "):
            number = self.number(f"{name}_type")
            member = union_member(kind.removeprefix("union "), number)
            if member is None:
                raise NewerError(f"{self.kind}.{name} at byte {self.at:,} is of a kind ({number}) that this version does not know")
            kind = member
        return Table.read(self.data, kind, target)

    def tables(self, name: str) -> Tables:
        """A vector of tables."""
        field = fields(self.kind)[name]
        target = self._target(field)
        return Tables(self.data, field.kind[1:-1], self.data[:0] if target is None else _vector(self.data, target, 4), target or 0)


@dataclass(frozen=True, slots=True, eq=False)
class Tables(Sequence[Table]):
    """A vector of tables, each read when it is asked for."""

    data: memoryview
    kind: str
    offsets: memoryview
    at: int

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
        return Table.read(self.data, self.kind, here + int(_read(self.data, "<I", here)))

    def __iter__(self) -> Iterator[Table]:
        return (self[i] for i in range(len(self)))


def _vector(data: memoryview, at: int, width: int) -> memoryview:
    length = int(_read(data, "<I", at))
    if at + 4 + length * width > len(data):
        raise FlatError(f"a list of {length:,} at byte {at:,} does not fit into {len(data):,} bytes")
    return data[at + 4 : at + 4 + length * width]


def root(data: memoryview, kind: str) -> Table:
    """The table that a file begins with. Raises FlatError."""
    return Table.read(data, kind, int(_read(data, "<I", 0)))


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

    while stack:
        here, depth = stack.pop()
        if (here.kind, here.at) in seen:
            continue
        seen.add((here.kind, here.at))
        end = max(end, here.end, here.vtable + here.known)
        if depth > _DEEPEST:
            raise FlatError(f"tables are nested more than {_DEEPEST} deep")
        for field in fields(here.kind).values():
            if field.kind in SCALARS or not field.kind or not here.has(field.name):
                continue
            if field.kind == "string":
                target = here._target(field)
                assert target is not None
                spend(len(_ended(here.data, target, f"{here.kind}.{field.name}")))
                end = max(end, here.target_end(field, 1) + 1)
            elif field.kind == "[string]":
                spend(sum(len(text) + 4 for text in here.texts(field.name)))
            elif field.kind.startswith("["):
                if field.kind[1:-1] in SCALARS:
                    spend(len(here.raw(field.name)))
                    end = max(end, here.target_end(field, struct.calcsize(SCALARS[field.kind[1:-1]])))
                else:
                    spend(4 * len(here.tables(field.name)))
                    end = max(end, here.target_end(field, 4))
                    stack.extend((member, depth + 1) for member in here.tables(field.name))
            elif (inner := here.table(field.name)) is not None:
                stack.append((inner, depth + 1))
    return end


def _ended(data: memoryview, at: int, what: str) -> memoryview:
    """A string that ends with a zero byte, which C++ looks for. Raises FlatError."""
    text = _vector(data, at, 1)
    if _read(data, "<B", at + 4 + len(text)):
        raise FlatError(f"{what} at byte {at:,} does not end")
    return text
