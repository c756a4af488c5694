"""Crop files: a cut in JSON.

{"inputs": ["a"], "outputs": ["b", "c"]}        one model; either key may be left out, a string is a list of one
{"0": {…}, "1": {…}}   or   [{…}, {…}]          several models; a command on one model takes the first
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from graphsplit.errors import CutError, FormatError
from graphsplit.graph.json_input import as_type, entry_error, read_json
from graphsplit.graph.options import check_path

__all__ = ["Crop", "read_crop_file"]

_LIMIT = 16 * 2**20  # bytes; a list of tensor names is far smaller
_KEYS = {"inputs": "inputs", "input": "inputs", "outputs": "outputs", "output": "outputs"}


@dataclass(frozen=True, slots=True)
class Crop:
    """One entry of a crop file.

    Attributes:
        inputs: Border tensors at which ``main`` begins; None: not named.
        outputs: Border tensors at which it ends; None: not named.
        entries: How many entries the file has.
    """

    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...] | None
    entries: int = 1


def read_crop_file(path: str | PathLike[str], entry: int = 0) -> Crop:
    """Read one entry of a crop file.

    Args:
        path: The file.
        entry: Number of the entry, counted from 0.

    Raises:
        FormatError: It is not a crop file, or has no such entry.
        CutError: The entry names no tensor.
        OptionError: `path` is not a path.
    """
    check_path("crop_file", path, "a JSON file")
    where = Path(path)
    entries = _entries(read_json(where, object, what="a crop file", limit=_LIMIT), where)
    if not 0 <= entry < len(entries):
        raise FormatError(f"no entry {entry}: there are {len(entries)}", path=where)
    return _crop(*entries[entry], count=len(entries), where=where)


def _entries(content: object, where: Path) -> Sequence[tuple[str, object]]:
    """Where each entry is, and what it holds."""
    if isinstance(content, list) and content:
        return [(f"$[{i}]", entry) for i, entry in enumerate(content)]
    if isinstance(content, dict) and content and all(re.fullmatch(r"[0-9]{1,9}", k) for k in content):
        return [(f"$.{k}", content[k]) for k in sorted(content, key=int)]
    if isinstance(content, dict):
        return [("$", content)]
    raise FormatError('a crop file is {"inputs": […], "outputs": […]}, or several of these numbered or in a list', path=where)


def _crop(at: str, entry: object, *, count: int, where: Path) -> Crop:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in as_type(entry, dict[str, object], what="an entry of a crop file", path=where, at=at).items():
        if key not in _KEYS:
            raise entry_error(at, f"unknown key {key[:60]!r}; there are {', '.join(_KEYS)}", path=where)
        if _KEYS[key] in found:
            raise entry_error(at, f"{_KEYS[key]!r} is named twice", path=where)
        listed = [value] if isinstance(value, str) else value
        names = as_type(listed, tuple[str, ...], what="a list of tensor names", path=where, at=f"{at}.{key}")
        if not all(name.strip() for name in names):
            raise entry_error(f"{at}.{key}", "a tensor name is empty", path=where)
        found[_KEYS[key]] = names
    if not any(found.values()):
        raise CutError(f"{where}: neither inputs nor outputs are named, so there is nothing to crop at")
    return Crop(found.get("inputs") or None, found.get("outputs") or None, count)
