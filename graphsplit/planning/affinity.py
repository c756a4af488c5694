"""Which ops belong on an accelerator, which on a host, and which on either. The table is data: affinity.json.

A user's table, ``{"Conv2D": "accelerator", "GatherV2": "host", "Mul": "either"}``, overlays it: "these are the ops my compiler
takes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Literal, cast, get_args

from graphsplit.graph.json_input import entry_error, read_json
from graphsplit.graph.options import check_path

__all__ = ["Affinity", "Side", "read_affinity"]

Side = Literal["accelerator", "host", "either"]
_LIMIT = 4 * 2**20  # bytes
_TABLE = 'an affinity table such as {"Conv2D": "accelerator", "TopKV2": "host"}'


@dataclass(frozen=True)
class Affinity:
    """Which op belongs where.

    Attributes:
        sides: Op → side.
        fused: Ops that run in one step with the neural op before them.
        own: Ops that the user's table names.
    """

    sides: Mapping[str, Side]
    fused: frozenset[str]
    own: frozenset[str] = field(default=frozenset())

    def side(self, op: str) -> Side:
        """Where an op belongs; ops that no table names belong on either."""
        return self.sides.get(op, "either")


@cache
def _built_in() -> Affinity:
    raw = json.loads((Path(__file__).parent / "affinity.json").read_text(encoding="utf-8"))
    sides: dict[str, Side] = dict.fromkeys(raw["accelerator"], "accelerator")
    sides.update(dict.fromkeys(raw["host"], "host"))
    return Affinity(sides, frozenset(raw["fused"]))


def read_affinity(path: str | PathLike[str] | None = None) -> Affinity:
    """The built-in table, overlaid with the one in a file.

    Args:
        path: JSON file, op → side; None: the built-in table alone.

    Raises:
        FormatError: The file is not such a table.
        OptionError: `path` is not a path.
    """
    check_path("affinity", path, "a JSON file")
    built_in = _built_in()
    if path is None:
        return built_in
    where = Path(path)
    content = read_json(where, dict[str, object], what=_TABLE, limit=_LIMIT)
    for op, side in content.items():
        if side not in get_args(Side):
            raise entry_error(f"$.{op[:60]}", f"{side!r:.40} is not one of {', '.join(get_args(Side))}", path=where)
    own = cast(dict[str, Side], content)
    return Affinity({**built_in.sides, **own}, built_in.fused - own.keys(), frozenset(own))
