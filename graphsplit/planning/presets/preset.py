"""A preset: a family of models, by which structure it is known, and where it is cut. They are data: families.json."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from os import PathLike, fspath
from typing import Literal, cast

from graphsplit.errors import FormatError, TensorNotFoundError
from graphsplit.planning.presets.conditions import Condition, Description

__all__ = ["Preset", "Rule", "get", "presets", "read_presets"]


_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """Targets without fixed names.

    kind  "entering": every computed tensor that the described nodes read from outside of themselves
          "last":     outputs of the described nodes that lie nearest to the outputs of the graph
    """

    kind: Literal["entering", "last"]
    nodes: Description

    def __str__(self) -> str:
        return f"all that enters {self.nodes}" if self.kind == "entering" else f"the last {self.nodes} before each output"


@dataclass(frozen=True, slots=True)
class Preset:
    """A family of models.

    name        what the user types
    family      "ssd", "faster_rcnn", "mask_rcnn", "deeplab", "centernet"
    title       one line
    targets     names of the nodes whose first output is a split target; `{a,b}` is one of several names
    rule        finds the targets where their names differ from exporter to exporter; `targets` are then an example
    conditions  all of them hold in a graph of the family
    models      published models of the family
    download    address of such a model, with `{name}` for its name; None when there is no such pattern
    note        history, and what to do where there is neither `targets` nor `rule`
    """

    name: str
    family: str
    title: str
    conditions: tuple[Condition, ...]
    targets: tuple[str, ...] = ()
    rule: Rule | None = None
    models: tuple[str, ...] = ()
    download: str | None = None
    note: str = ""

    @property
    def has_cut(self) -> bool:
        """Whether the family has a fixed cut at all."""
        return bool(self.targets) or self.rule is not None

    @property
    def cut(self) -> str:
        """The cut in words: names of the targets, or how they are found."""
        names = ", ".join(self.targets)
        if self.rule is not None:
            return f"{self.rule}, such as {names}" if names else str(self.rule)
        return names or "no fixed cut"


@cache
def presets() -> tuple[Preset, ...]:
    """All presets of the package; the first that matches a graph is the one used."""
    file = resources.files(__package__) / "families.json"
    return _presets(json.loads(file.read_text(encoding="utf-8")))


def read_presets(path: str | PathLike[str]) -> tuple[Preset, ...]:
    """Presets of your own, from a file written like families.json. Raises FormatError that says what is wrong with it."""
    try:
        with open(path, encoding="utf-8") as file:
            return _presets(json.load(file))
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=fspath(path)) from error
    except (ValueError, RecursionError) as error:  # bytes that are no text, text that is no JSON, JSON that is no preset
        raise FormatError(f"not a file of presets: {error}", path=fspath(path)) from error


def get(name: str, among: Iterable[Preset] | None = None) -> Preset:
    """The preset of that name. Raises TensorNotFoundError with the names that come close, else with all of them."""
    known = {p.name: p for p in (presets() if among is None else among)}
    if name in known:
        return known[name]
    raise TensorNotFoundError(name, close=difflib.get_close_matches(name, known, n=3) or list(known), kind="preset")


# JSON → Preset


def _presets(data: object) -> tuple[Preset, ...]:
    file = _dict(data, "the file", {"schema", "presets"}, needed={"presets"})
    if file.get("schema", _SCHEMA) != _SCHEMA:
        raise ValueError(f"schema {file['schema']!r} is not read by this version, only {_SCHEMA}")
    found = tuple(_preset(entry) for entry in _list(file["presets"], "presets"))
    names = [p.name for p in found]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"{twice[0]!r} is there twice")
    return found


def _preset(data: object) -> Preset:
    allowed = {"name", "family", "title", "conditions", "targets", "models", "download", "note"}
    entry = _dict(data, "a preset", allowed, needed={"name", "family", "title", "conditions"})
    where = f"preset {entry['name']!r}"
    rule, targets = _targets(entry.get("targets", []), f"targets of {where}")
    return Preset(
        name=_str(entry["name"], where),
        family=_str(entry["family"], where),
        title=_str(entry["title"], where),
        conditions=tuple(_condition(c, where) for c in _list(entry["conditions"], f"conditions of {where}")),
        targets=targets,
        rule=rule,
        models=_strs(entry.get("models", []), f"models of {where}"),
        download=None if entry.get("download") is None else _str(entry["download"], where),
        note=_str(entry.get("note", ""), where),
    )


def _targets(data: object, where: str) -> tuple[Rule | None, tuple[str, ...]]:
    """A list of names; or {"entering": …} or {"last": …}, with names beside it as an example."""
    if not isinstance(data, dict):
        return None, _strs(data, where)
    entry = dict(_dict(data, where, {"entering", "last", "names"}))
    names = _strs(entry.pop("names", []), where)
    if len(entry) != 1:
        raise ValueError(f"{where}: either 'entering' or 'last'")
    ((kind, nodes),) = entry.items()
    return Rule(cast(Literal["entering", "last"], kind), _description(nodes, where)), names


def _condition(data: object, where: str) -> Condition:
    allowed = {"says", "absent", "node", "op", "kind", "reads", "feeds", "needs"}
    entry = dict(_dict(data, f"a condition of {where}", allowed, needed={"says"}))
    says, absent = _str(entry.pop("says"), where), entry.pop("absent", False)
    if not isinstance(absent, bool):
        raise ValueError(f"{where}: 'absent' is {absent!r}, not true or false")
    return Condition(says, _description(entry, where), absent)


def _description(data: object, where: str) -> Description:
    if isinstance(data, str):
        return Description(data)
    entry = _dict(data, f"a node of {where}", {"node", "op", "kind", "reads", "feeds", "needs"})
    if not entry:
        raise ValueError(f"{where}: a node that is not described at all")
    return Description(
        node=_str(entry.get("node", "*"), where),
        op=_str(entry.get("op", "*"), where),
        kind=None if "kind" not in entry else _str(entry["kind"], where),
        reads=None if "reads" not in entry else _description(entry["reads"], where),
        feeds=None if "feeds" not in entry else _description(entry["feeds"], where),
        needs=None if "needs" not in entry else _description(entry["needs"], where),
    )


def _dict(data: object, where: str, allowed: set[str], *, needed: set[str] | None = None) -> Mapping[str, object]:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: {data!r} is no JSON object")
    if unknown := sorted(data.keys() - allowed):
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(sorted(allowed))}")
    if missing := sorted((needed or set()) - data.keys()):
        raise ValueError(f"{where}: no {missing[0]!r}")
    return data


def _list(data: object, where: str) -> list[object]:
    if not isinstance(data, list):
        raise ValueError(f"{where}: {data!r} is no list")
    return data


def _strs(data: object, where: str) -> tuple[str, ...]:
    return tuple(_str(entry, where) for entry in _list(data, where))


def _str(data: object, where: str) -> str:
    if not isinstance(data, str):
        raise ValueError(f"{where}: {data!r} is no text")
    return data
