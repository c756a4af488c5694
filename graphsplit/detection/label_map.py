"""Label maps of the Object Detection API (.pbtxt): protobuf's text form, as far as label maps go.

Parsed here because neither TensorFlow nor the API's own definitions should be needed to know that 1 is a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from graphsplit.errors import FormatError

__all__ = ["Entry", "is_label_map", "label_map"]

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<word>[A-Za-z_][\w./]*)
      | (?P<number>-?[\d.][\w.+-]*)
      | (?P<mark>[{}<>:\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


class Entry(NamedTuple):
    """One label: the line it begins on, its id, its name."""

    line: int
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


class _Tokens:
    """A stream of tokens with one token of look-ahead."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self._rest = self._read(text)
        self.next = next(self._rest)

    def _read(self, text: str) -> Iterator[_Token]:
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.fail(line, f"{text[position : position + 20].splitlines()[0]!r} does not belong in a label map")
            if match.lastgroup != "space":
                yield _Token(match.lastgroup or "", match[0], line)
            line += match[0].count("\n")
            position = match.end()
        while True:
            yield _Token("end", "the end of the file", line)

    def fail(self, line: int, what: str) -> FormatError:
        return FormatError(f"line {line}: {what}", path=self.path)

    def take(self) -> _Token:
        taken = self.next
        self.next = next(self._rest)
        return taken

    def take_if(self, *texts: str) -> bool:
        if self.next.kind == "mark" and self.next.text in texts:
            self.take()
            return True
        return False


def is_label_map(text: str) -> bool:
    """Whether a text begins like a label map."""
    return re.match(r"(\s|#[^\n]*\n)*item\s*:?\s*[{<]", text) is not None


def label_map(text: str, path: Path) -> Iterator[Entry]:
    """The items of a label map. Raises FormatError that names the line."""
    try:
        yield from _items(_Tokens(text, path))
    except RecursionError as error:
        raise FormatError("nested too deeply for a label map", path=path) from error


def _items(tokens: _Tokens) -> Iterator[Entry]:
    while tokens.next.kind != "end":
        start = tokens.take()
        if start.kind != "word":
            raise tokens.fail(start.line, f"'item {{' was expected, not {start.text[:40]!r}")
        tokens.take_if(":")
        if start.text != "item":
            _value(tokens)
            continue
        if not tokens.take_if("{", "<"):
            raise tokens.fail(tokens.next.line, f"'{{' was expected after 'item', not {tokens.next.text[:40]!r}")
        fields = dict(_fields(tokens, start.line))
        if "id" not in fields:
            raise tokens.fail(start.line, "this item has no id")
        if not re.fullmatch(r"\d{1,9}", fields["id"]):
            raise tokens.fail(start.line, f"the id {fields['id'][:40]!r} is not a whole number from 0")
        yield Entry(start.line, int(fields["id"]), fields.get("display_name") or fields.get("name") or fields["id"])


def _fields(tokens: _Tokens, start: int) -> Iterator[tuple[str, str]]:
    """The fields of a message up to its end."""
    while not tokens.take_if("}", ">"):
        token = tokens.take()
        if token.kind == "end":
            raise tokens.fail(start, "what is opened here is not closed")
        if token.kind != "word":
            raise tokens.fail(token.line, f"the name of a field was expected, not {token.text[:40]!r}")
        tokens.take_if(":")
        yield token.text, _value(tokens)


def _value(tokens: _Tokens) -> str:
    """A scalar as text; a nested message or list is skipped."""
    token = tokens.take()
    if token.kind == "mark" and token.text in ("{", "<"):
        for _ in _fields(tokens, token.line):
            pass
        return ""
    if token.kind == "mark" and token.text == "[":
        while not tokens.take_if("]"):
            if tokens.next.kind == "end":
                raise tokens.fail(token.line, "what is opened here is not closed")
            tokens.take_if(",") or _value(tokens)
        return ""
    if token.kind in ("mark", "end"):
        raise tokens.fail(token.line, f"a value was expected, not {token.text[:40]!r}")
    if token.kind != "string":
        return token.text
    parts = [token.text]
    while tokens.next.kind == "string":  # neighbours are one string
        parts.append(tokens.take().text)
    return "".join(_text(part) for part in parts)


def _text(literal: str) -> str:
    def plain(match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, other = match.groups()
        if octal or hexadecimal:
            return bytes([int(octal, 8) % 256 if octal else int(hexadecimal, 16)])
        return _ESCAPED.get(other, other)

    return _ESCAPE.sub(plain, literal[1:-1].encode()).decode(errors="replace")
