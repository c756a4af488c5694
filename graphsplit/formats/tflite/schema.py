"""TFLite's schema, and that of its metadata, as data: the fields of each table, by slot.

Written by scripts/make_tflite_schema.py from ai-edge-litert and mediapipe.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = ["IDENTIFIER", "Field", "fields", "op_effect", "op_name", "tensor_dtype", "union_member"]

#: Bytes 4 to 8 of every file.
IDENTIFIER = b"TFL3"

_CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a table.

    Attributes:
        slot: Its place in the vtable.
        name: Its name.
        kind: "int8" …, "string", a table, "[element]", or "union NAME", whose member the field before it states.
    """

    slot: int
    name: str
    kind: str


@cache
def _schema() -> dict[str, Any]:
    content, metadata = (
        json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8")) for name in ("schema", "metadata_schema")
    )
    merged: dict[str, Any] = content | {key: content[key] | metadata[key] for key in ("tables", "unions")}
    return merged


@cache
def fields(table: str) -> MappingProxyType[str, Field]:
    """The fields of a table by name, in the order of their slots; a deprecated one without a name has its slot for one."""
    known = _schema()["tables"][table]
    return MappingProxyType({name or f"#{slot}": Field(slot, name or f"#{slot}", kind) for slot, (name, kind) in enumerate(known)})


def union_member(union: str, number: int) -> str | None:
    """The table that a union holds; None for an unknown number."""
    found: str | None = _schema()["unions"][union].get(str(number))
    return found


def op_name(older: int, newer: int, custom: str) -> str:
    """The name of an operator: the schema's own, or that of a custom op.

    Args:
        older, newer: The two fields in which files of different age keep the number; the larger one counts.
        custom: The name of a custom op.
    """
    number = max(older, newer)
    name: str = _schema()["enums"]["BuiltinOperator"].get(str(number), f"BUILTIN_{number}")
    return custom or name if name == _CUSTOM else name


@cache
def op_effect(name: str) -> str:
    """What a built-in operator does besides computing: "native", "random", "state", or nothing (an empty text).

    An operator of a later schema is "native".
    """
    schema = _schema()
    known: str = schema["effects"].get(name, "")
    return known or ("" if name in schema["enums"]["BuiltinOperator"].values() else "native")


def tensor_dtype(number: int) -> str | None:
    """``float32`` …; None for an unknown type."""
    found: str | None = _schema()["enums"]["TensorType"].get(str(number))
    return None if found is None else found.lower()
