"""Which ops belong on an accelerator, which on a host, and which go either way. The table is data: affinity.json.

A user's own table, ``{"Conv2D": "accelerator", "GatherV2": "host", "Mul": "either"}``, is laid over it: "these are the ops my
compiler takes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

from graphsplit.errors import FormatError
from graphsplit.graph.json_input import read_json

__all__ = ["Affinity", "Side", "read_affinity"]

Side = Literal["accelerator", "host", "either"]
_LIMIT = 4 * 2**20  # bytes


@dataclass(frozen=True)
class Affinity:
    """Op → side.

    fused  ops that run in one step with the neural op before them
    own    ops that the user's table names
    """

    sides: Mapping[str, Side]
    fused: frozenset[str]
    own: frozenset[str] = field(default=frozenset())

    def side(self, op: str) -> Side:
        """Where an op belongs; ops that no table names go either way."""
        return self.sides.get(op, "either")


@cache
def _built_in() -> Affinity:
    raw = json.loads((Path(__file__).parent / "affinity.json").read_text(encoding="utf-8"))
    sides: dict[str, Side] = dict.fromkeys(raw["accelerator"], "accelerator")
    sides.update(dict.fromkeys(raw["host"], "host"))
    return Affinity(sides, frozenset(raw["fused"]))


def read_affinity(path: str | PathLike[str] | None = None) -> Affinity:
    """The built-in table, with the one in a file laid over it. Raises FormatError for a file that is no such table."""
    built_in = _built_in()
    if path is None:
        return built_in
    where = Path(path)
    content = read_json(where, what="an affinity table", limit=_LIMIT)
    if not isinstance(content, dict):
        raise FormatError('an affinity table is {"Conv2D": "accelerator", "TopKV2": "host", …}', path=where)
    for op, side in content.items():
        if side not in get_args(Side):
            raise FormatError(f"{op!r}: {json.dumps(side)[:40]} is none of {', '.join(get_args(Side))}", path=where)
    return Affinity({**built_in.sides, **content}, built_in.fused - set(content), frozenset(content))
