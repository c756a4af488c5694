"""Tables of a flatbuffer, written with flatbuffers' Builder: copied field by field, following the schema."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from graphsplit.formats.tflite.flatbuffer import SCALARS, Table
from graphsplit.formats.tflite.schema import fields

if TYPE_CHECKING:
    from flatbuffers import Builder

__all__ = ["ALIGNED", "copy_table", "write_bytes", "write_numbers", "write_table", "write_vector"]

ALIGNED = 16  #: bytes: weights are aligned in the file, so that kernels may read them in place


def copy_table(builder: Builder, table: Table, change: Mapping[str, int] | None = None) -> int:
    """A copy of a table and everything it refers to; `change`: scalars by value, others by their offset (0: left out)."""
    change = change or {}
    values: dict[str, float] = dict(change)
    for known in table.fields:
        if known.name in change or not known.kind:
            continue
        if known.kind in SCALARS:
            values[known.name] = table.scalar(known.name)
        elif known.kind == "string":
            values[known.name] = builder.CreateString(table.text(known.name))
        elif known.kind.startswith("["):
            values[known.name] = _copy_vector(builder, table, known.name, known.kind[1:-1])
        else:
            inner = table.table(known.name)
            values[known.name] = 0 if inner is None else copy_table(builder, inner)
    return write_table(builder, table.kind, values)


def _copy_vector(builder: Builder, table: Table, name: str, element: str) -> int:
    if element in SCALARS:
        aligned = ALIGNED if table.kind == "CustomMetadata" else 0  # flatbuffers of their own
        return write_bytes(builder, table.raw(name), struct.calcsize(SCALARS[element]), aligned)
    if element == "string":
        return write_vector(builder, [builder.CreateString(text) for text in table.texts(name)])
    return write_vector(builder, [copy_table(builder, member) for member in table.tables(name)])


def write_table(builder: Builder, kind: str, values: Mapping[str, float]) -> int:
    """A table of fields: scalars are written even if they are zero, so that a field of the source is one of the copy."""
    known = fields(kind)
    builder.StartObject(len(known))
    for name, value in values.items():
        scalar = known[name].kind in SCALARS
        if not scalar and not value:
            continue
        if scalar:
            _prepend(builder, known[name].kind)(value)
        else:
            builder.PrependUOffsetTRelative(value)
        builder.Slot(known[name].slot)
    return int(builder.EndObject())


def _prepend(builder: Builder, kind: str) -> Callable[[float], None]:
    found: Callable[[float], None] = getattr(builder, f"Prepend{kind.capitalize()}")
    return found


def write_bytes(builder: Builder, raw: memoryview, width: int = 1, alignment: int = 0) -> int:
    """A vector of scalars; its bytes are copied this once."""
    builder.StartVector(width, len(raw) // width, alignment or width)
    builder.head = builder.head - len(raw)
    builder.Bytes[builder.head : builder.head + len(raw)] = raw
    return int(builder.EndVector())


def write_numbers(builder: Builder, values: Sequence[int]) -> int:
    """A vector of int32."""
    return write_bytes(builder, memoryview(struct.pack(f"<{len(values)}i", *values)), 4)


def write_vector(builder: Builder, offsets: Sequence[int]) -> int:
    """A vector of tables or strings, by their offsets."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
