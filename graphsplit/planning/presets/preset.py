"""A preset: a family of models, the structure that identifies it, and where it is cut. Presets are data: families.json."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from os import PathLike
from typing import Any, Literal

from graphsplit.errors import TensorNotFoundError
from graphsplit.graph.json_input import as_type, entry_error, read_json
from graphsplit.planning.presets.conditions import Condition, Description

__all__ = ["Preset", "Rule", "get", "presets", "read_presets"]

_LIMIT = 4 * 2**20  # bytes
_WHAT = "a file of presets"


@dataclass(frozen=True, slots=True)
class Rule:
    """Targets without fixed names.

    Attributes:
        kind: "entering": every computed tensor that the described nodes read from outside of themselves; "last": outputs of the
            described nodes that are nearest to the outputs of the graph.
        nodes: The described nodes.
    """

    kind: Literal["entering", "last"]
    nodes: Description

    def __str__(self) -> str:
        return f"all that enters {self.nodes}" if self.kind == "entering" else f"the last {self.nodes} before each output"


@dataclass(frozen=True, slots=True)
class Preset:
    """A family of models.

    Attributes:
        name: What the user types.
        family: "ssd", "faster_rcnn", "mask_rcnn", "deeplab", "centernet".
        title: One line.
        conditions: All of them hold in a graph of the family.
        targets: Names of the nodes whose first output is a split target; `{a,b}` is one of several names.
        rule: Finds the targets if their names differ between exporters; `targets` are then an example.
        models: Published models of the family.
        download: Address of such a model, with `{name}` for its name; None if there is no such pattern.
        note: History, and what to do if there is neither `targets` nor `rule`.
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
        """The cut in words: names of the targets, or the rule that finds them."""
        names = ", ".join(self.targets)
        if self.rule is not None:
            return f"{self.rule}, such as {names}" if names else str(self.rule)
        return names or "no fixed cut"


@cache
def presets() -> tuple[Preset, ...]:
    """All presets of the package; the first that matches a graph is the one used."""
    file = resources.files(__package__) / "families.json"
    # Not checked: tests do that, and the check takes longer than all the rest.
    return tuple(map(_preset, json.loads(file.read_text(encoding="utf-8"))["presets"]))


def read_presets(path: str | PathLike[str]) -> tuple[Preset, ...]:
    """Read presets from a file written like families.json.

    Raises:
        FormatError: Names the entry that is wrong: ``$.presets[0].conditions[1].reads``.
    """
    content = _checked(read_json(path, object, what=_WHAT, limit=_LIMIT), path)
    return tuple(map(_preset, content["presets"]))


def get(name: str, among: Iterable[Preset] | None = None) -> Preset:
    """The preset of that name. Raises TensorNotFoundError with similar names, else with all of them."""
    known = {p.name: p for p in (presets() if among is None else among)}
    if name in known:
        return known[name]
    raise TensorNotFoundError(name, close=difflib.get_close_matches(name, known, n=3) or list(known), kind="preset")


def _checked(content: object, path: str | PathLike[str]) -> Any:
    """The content of a file of presets, if it is one. Raises FormatError."""
    from graphsplit.planning.presets.schema import SCHEMA, PresetFile, Version

    schema = as_type(content, Version, what=_WHAT, path=path).schema
    if schema != SCHEMA:
        raise entry_error("$.schema", f"{schema} is not read by this version, which reads {SCHEMA}", path=path)
    as_type(content, PresetFile, what=_WHAT, path=path)
    return content


# JSON → Preset; `planning.presets.schema` says what the JSON looks like


def _preset(entry: Mapping[str, Any]) -> Preset:
    targets = entry.get("targets", ())
    rule = None
    if isinstance(targets, Mapping):
        kind: Literal["entering", "last"] = "last" if targets.get("last") is not None else "entering"
        rule = Rule(kind, _described(targets[kind]) or Description())
        targets = targets.get("names", ())
    return Preset(
        name=entry["name"],
        family=entry["family"],
        title=entry["title"],
        conditions=tuple(Condition(c["says"], _described(c) or Description(), c.get("absent", False)) for c in entry["conditions"]),
        targets=tuple(targets),
        rule=rule,
        models=tuple(entry.get("models", ())),
        download=entry.get("download"),
        note=entry.get("note", ""),
    )


def _described(node: Mapping[str, Any] | str | None) -> Description | None:
    if node is None or isinstance(node, str):
        return None if node is None else Description(node)
    around = (_described(node.get(key)) for key in ("reads", "feeds", "needs"))
    return Description(node.get("node", "*"), node.get("op", "*"), node.get("kind"), *around)
