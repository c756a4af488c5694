"""The JSON of a target file, as types. Unknown keys are refused: a misspelt one would be a rule that is never applied."""

from __future__ import annotations

from msgspec import Struct

from graphsplit.planning.affinity import Side

__all__ = ["TargetFile"]


class _Constraint(Struct, forbid_unknown_fields=True, kw_only=True):
    reason: str
    ops: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    ranks: tuple[int, int] | None = None
    static: bool = False
    upscale: tuple[int, ...] = ()


class _Compiler(Struct, forbid_unknown_fields=True, kw_only=True):
    command: tuple[str, ...]
    refused: str
    name: str = ""
    taken: str = ""
    left: str = ""
    version: str = ""
    seconds: float = 300.0
    package: str = ""
    extra: str = ""


class TargetFile(Struct, forbid_unknown_fields=True, kw_only=True):
    """A target."""

    name: str
    source: str = ""
    formats: tuple[str, ...] = ("tflite",)
    dtypes: tuple[str, ...] = ()
    ops: dict[str, Side] = {}  # msgspec copies defaults
    unknown: Side = "host"
    constraints: tuple[_Constraint, ...] = ()
    compiler: _Compiler | None = None
