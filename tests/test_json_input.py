"""JSON from outside: bounded, checked against a type without coercion, errors that name the entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graphsplit.errors import FormatError
from graphsplit.graph.json_input import as_type, read_json


@dataclass(frozen=True)
class Port:
    name: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Content:
    ports: tuple[Port, ...]


def read(folder: Path, text: str | bytes, type_: type[Any] = Content, *, limit: int = 1000) -> Any:
    path = folder / "x.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_json(path, type_, what="a list of ports", limit=limit)


def test_what_fits_becomes_values_of_the_type_and_other_keys_are_ignored(tmp_path: Path) -> None:
    text = '{"ports": [{"name": "\\udc80", "shape": [null, 3], "more": 1}], "ports of": {}}'
    assert read(tmp_path, text) == Content((Port("\udc80", (None, 3)),))
    assert read(tmp_path, b"\xef\xbb\xbf{}", dict) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '{"ports": [{"name": "a", "shape": [null, 3.0]}]}',
            r"x\.json: \$\.ports\[0\]\.shape\[1\]: expected int \| null, got float$",
        ),
        ('{"ports": [{"name": "a", "shape": [true]}]}', r"\$\.ports\[0\]\.shape\[0\]: expected int \| null, got bool$"),
        ('{"ports": [{"name": "a"}]}', r"\$\.ports\[0\]\.shape: is missing$"),
        ('{"ports": [{"name": 5, "shape": null}]}', r"\$\.ports\[0\]\.name: expected str, got int$"),
        ('{"ports": {}}', r"\$\.ports: expected array, got object$"),
        ("{}", r"\$\.ports: is missing$"),
        ("[]", r"x\.json: not a list of ports: expected object, got array$"),
        ("null", r"x\.json: not a list of ports: expected object, got null$"),
        ("{", r"x\.json: not JSON: "),
        (b'"\xff"', r"x\.json: not JSON: 'utf-8' codec"),
        ("[" * 900, r"x\.json: not JSON: "),
        (" " * 1001, r"x\.json: too large for a list of ports \(more than 1,000 bytes\)$"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_entry(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says) as caught:
        read(tmp_path, text)
    assert caught.value.path == str(tmp_path / "x.json")


def test_a_value_in_a_file_is_named_by_its_place() -> None:
    with pytest.raises(FormatError, match=r"^\$\.gpu\[1\]: expected str, got null$"):
        as_type(["a", None], list[str], what="addresses", path=None, at="$.gpu")
    with pytest.raises(FormatError, match=r"^\$\.gpu: expected array, got str$"):
        as_type("a", list[str], what="addresses", path=None, at="$.gpu")


def test_nothing_is_loaded_of_the_checker_before_a_file_is_read() -> None:
    import subprocess
    import sys

    code = "import sys, graphsplit.cli, graphsplit.parts.folder, graphsplit.planning.presets; sys.exit('msgspec' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice in one object"),
        ('{"b": [{"a": 1, "c": 3, "a": 1}]}', "the key 'a' occurs twice in one object"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": -1e999}', "the number -1e999 is too large"),
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number in JSON"),
        ('{"a": ' + "9" * 5000 + "}", r"the number 9{20}… has 5,000 digits"),
        ("[" * 101 + "]" * 101, "nested more than 100 deep"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested more than 100 deep"),
        ("[" * 100_000, "nested more than 100 deep"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_absurd_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FormatError, match=f"not JSON: {says}") as caught:
        read(tmp_path, text, dict, limit=10**6)
    assert len(str(caught.value).removeprefix(str(tmp_path))) < 200


def test_what_only_looks_absurd_is_read(tmp_path: Path) -> None:
    deep = "[" * 99 + '"' + "[{" * 200 + '\\"' + "{" * 200 + '"' + "]" * 99
    assert read(tmp_path, '{"a": 1.5e300, "b": {"a": 2}, "c": ' + deep + "}", dict, limit=10**6)["b"] == {"a": 2}
    assert read(tmp_path, "[" + "[]," * 10_000 + "[]]", list, limit=10**6) == [[]] * 10_001
