"""Crop files: a cut in JSON.

{"inputs": ["a"], "outputs": ["b", "c"]}        one model; either key may be left out, a string stands for a list
{"0": {…}, "1": {…}}   or   [{…}, {…}]          several models; a command on one model takes the first
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.errors import CutError, FormatError
from graphsplit.graph.json_input import read_json

__all__ = ["Crop", "read_crop_file"]

_LIMIT = 16 * 2**20  # bytes; a list of tensor names is far smaller


@dataclass(frozen=True, slots=True)
class Crop:
    """One entry of a crop file. ``entries`` tells how many there were."""

    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...] | None
    entries: int = 1


def read_crop_file(path: str | PathLike[str], entry: int = 0) -> Crop:
    """Read one entry of a crop file, counted from 0.

    Raises FormatError for a file that is no crop file, CutError for an empty cut.
    """
    where = Path(path)
    content = read_json(where, what="a crop file", limit=_LIMIT)
    entries = _entries(content, where)
    if not 0 <= entry < len(entries):
        raise FormatError(f"no entry {entry}: there are {len(entries)}", path=where)
    return _crop(entries[entry], len(entries), where)


def _entries(content: Any, where: Path) -> list[Any]:
    if isinstance(content, list) and content:
        return content
    if isinstance(content, dict) and content and all(re.fullmatch(r"[0-9]{1,9}", k) for k in content):
        return [content[k] for k in sorted(content, key=int)]
    if isinstance(content, dict):
        return [content]
    raise FormatError('a crop file is {"inputs": […], "outputs": […]}, or several of these numbered or in a list', path=where)


def _crop(entry: Any, count: int, where: Path) -> Crop:
    if not isinstance(entry, dict):
        raise FormatError(f"an entry is an object with 'inputs' and 'outputs', not {_shown(entry)}", path=where)
    known = {"inputs": "inputs", "input": "inputs", "outputs": "outputs", "output": "outputs"}
    found: dict[str, tuple[str, ...]] = {}
    for key, value in entry.items():
        if key not in known:
            raise FormatError(f"unknown key {key[:60]!r}; there are {', '.join(known)}", path=where)
        if known[key] in found:
            raise FormatError(f"{known[key]!r} is given twice", path=where)
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
            raise FormatError(f"{key!r} is a tensor name or a list of tensor names, not {_shown(value)}", path=where)
        found[known[key]] = tuple(names)
    if not any(found.values()):
        raise CutError(f"{where}: neither inputs nor outputs are named, so there is nothing to crop at")
    return Crop(found.get("inputs") or None, found.get("outputs") or None, count)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "something deeply nested"
    return text if len(text) <= 60 else f"{text[:60]}…"
