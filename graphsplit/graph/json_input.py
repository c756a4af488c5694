"""JSON files from outside: read whole, of bounded size, checked against a type."""

from __future__ import annotations

import json
import re
from math import isinf
from os import PathLike
from pathlib import Path
from typing import TypeVar

from graphsplit.errors import FormatError

__all__ = ["as_type", "entry_error", "parse_json", "read_json"]

T = TypeVar("T")
_LONGEST = 300  # characters of an error
_DIGITS = 40
_DEEPEST = 100
_MARK = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)  # strings are passed over


def read_json(path: str | PathLike[str], type_: type[T], *, what: str, limit: int) -> T:
    """The content of a JSON file as a value of a type.

    Args:
        path: The file.
        type_: A dataclass or `msgspec.Struct`, or a list or dict of these and of plain values.
        what: What the file should be, for errors: "a crop file".
        limit: Bytes it may have.

    Raises:
        FormatError: The file cannot be read, is too large, is not JSON, or does not fit the type; the error names the entry.
    """
    where = Path(path)
    try:
        if where.exists() and not (where.is_file() or where.is_dir()):
            raise FormatError("not a plain file; a pipe or a device is never read", path=where)
        with where.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise FormatError(f"too large for {what} (more than {limit:,} bytes)", path=where)
        content = parse_json(data)
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=where) from error
    except FormatError:  # a ValueError, too
        raise
    except (ValueError, RecursionError) as error:  # bytes that are not text, text that is not JSON, absurd numbers
        raise FormatError(f"not JSON: {error}{_comma_hint(error)}", path=where) from error
    return as_type(content, type_, what=what, path=where)


def parse_json(data: bytes) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: The bytes are not text, the text is not JSON, a key occurs twice, a number is infinite, not a number or
            of absurd length, or values are nested more than a hundred deep.
    """
    text = data.decode("utf-8-sig")
    depth = 0
    for mark in _MARK.finditer(text):
        if mark[0] in "[{":
            depth += 1
            if depth > _DEEPEST:
                raise ValueError(f"nested more than {_DEEPEST} deep")
        elif mark[0] in "]}":
            depth -= 1
    return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_int=_integer, parse_constant=_no_number)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} occurs twice in one object")
    return content


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"the number {text[:20]}… has {len(text):,} digits")
    return int(text)


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is not a number in JSON")


def _comma_hint(error: Exception) -> str:
    """What to do about a comma before a closing bracket, at which Python's versions point differently."""
    if not isinstance(error, json.JSONDecodeError):
        return ""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if error.msg.startswith("Illegal trailing comma"):  # since 3.13, at the comma itself
        before, after = ",", after[1:].lstrip()
    return f"; remove the comma before the {after[0]!r}" if before.endswith(",") and after[:1] in ("]", "}") else ""


def as_type(value: object, type_: type[T], *, what: str, path: str | PathLike[str] | None, at: str = "$") -> T:
    """A parsed JSON value as a value of a type. Nothing is coerced: neither true nor 1.0 is an integer.

    Args:
        value: Of dict, list, str, int, float, bool and None.
        type_: As for `read_json`.
        what: What the value should be, for errors.
        path: The file it comes from; None where there is none.
        at: Where in the file it is: ``$.sections[0]``.

    Raises:
        FormatError: The value does not fit; the error names the entry: ``$.sections[0].inputs[0].shape[1]``.
    """
    import msgspec  # 15 ms, which neither `import graphsplit` nor `graphsplit --help` has to pay

    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `")
        entry = at + place.rstrip("`").removeprefix("$")
        text = text.replace("`", "")
        if missing := re.fullmatch(r"Object missing required field (.*)", text):
            raise entry_error(f"{entry}.{missing[1]}", "is missing", path=path) from error
        if unknown := re.fullmatch(r"Object contains unknown field (.*)", text):
            text = f"unknown key {unknown[1][:60]!r}"
        text = text[0].lower() + text[1:_LONGEST]
        raise entry_error(entry, text if place or at != "$" else f"not {what}: {text}", path=path) from error
    except RecursionError as error:
        raise entry_error(at, f"not {what}: nested too deeply", path=path) from error
    except UnicodeEncodeError as error:  # half of a character, as in "\ud800"
        raise entry_error(at, f"not {what}: text with a lone surrogate", path=path) from error


def entry_error(at: str, what: str, *, path: str | PathLike[str] | None) -> FormatError:
    """What is wrong with an entry of a file."""
    return FormatError(f"{at}: {what}" if at != "$" else what, path=path)
