"""The JSON of a file of presets, as types. Unknown keys are refused: a misspelt one would be a condition that is never asked."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["SCHEMA", "PresetFile", "Version"]

SCHEMA = 1


class _Node(Struct, forbid_unknown_fields=True, kw_only=True):
    """A node, described; a plain string is its name."""

    node: str = "*"
    op: str = "*"
    kind: str | None = None
    reads: _Node | str | None = None
    feeds: _Node | str | None = None
    needs: _Node | str | None = None

    def __post_init__(self) -> None:
        if (self.node, self.op) == ("*", "*") and not (self.kind or self.reads or self.feeds or self.needs):
            raise ValueError("a node that is not described at all")


class _Condition(_Node, forbid_unknown_fields=True, kw_only=True):
    says: str
    absent: bool = False


class _Targets(Struct, forbid_unknown_fields=True, kw_only=True):
    """A rule that finds the targets, and names as an example of what it finds."""

    entering: _Node | str | None = None
    last: _Node | str | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.entering is None) == (self.last is None):
            raise ValueError("either 'entering' or 'last'")


class _Preset(Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    family: str
    title: str
    conditions: tuple[_Condition, ...]
    targets: tuple[str, ...] | _Targets = ()
    models: tuple[str, ...] = ()
    download: str | None = None
    note: str = ""


class Version(Struct):
    """What is read first, since another version may have other keys."""

    schema: int = SCHEMA


class PresetFile(Struct, forbid_unknown_fields=True):
    """A file of presets."""

    presets: tuple[_Preset, ...]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        names = [p.name for p in self.presets]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two presets are named {twice[0]!r}")
