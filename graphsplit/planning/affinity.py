"""Which ops belong on an accelerator, which on a host, and which on either. The table is data: affinity.json.

A user's table, ``{"Conv2D": "accelerator", "GatherV2": "host", "Mul": "either"}``, overlays it: "these are the ops my compiler
takes". Ops that neither names are doubtful: most accelerators take them, a particular compiler may not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Literal, cast, get_args

from graphsplit.graph.index import Role
from graphsplit.graph.json_input import entry_error, read_json
from graphsplit.graph.options import check_path

__all__ = ["Affinity", "Side", "read_affinity", "refusing"]

Side = Literal["accelerator", "host", "either"]
_LIMIT = 4 * 2**20  # bytes
_TABLE = 'an affinity table such as {"Conv2D": "accelerator", "TopKV2": "host"}'
_FLEX = "Flex"  # starts the names of TensorFlow's ops in a TFLite file
_HOST_DTYPES = frozenset({"string", "resource", "variant"})


@dataclass(frozen=True)
class Affinity:
    """Which op belongs where.

    Attributes:
        sides: Op → side.
        fused: Ops that run in one step with the neural op before them.
        compiled: Starts of the names of ops that a compiler made for its accelerator.
        own: Ops that the user's table names.
        layers: The layers of networks, which are what an accelerator is for.
        tied: Node → why it must stay on the host, whatever its op.
        complete: Whether `tied` names every such node, as a compiler does that was asked; then the tables do not count.
    """

    sides: Mapping[str, Side]
    fused: frozenset[str]
    compiled: tuple[str, ...] = ()
    own: frozenset[str] = field(default=frozenset())
    layers: frozenset[str] = field(default=frozenset())
    tied: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False

    def side(self, op: str, role: Role = "", dtypes: frozenset[str | None] = frozenset()) -> Side:
        """Where an op belongs, as far as that depends on the op.

        Args:
            op: Its name.
            role: Its role; a custom op is the host's unless the table names it.
            dtypes: Of the tensors that it reads and outputs; strings and handles are the host's.
        """
        if self.complete or op.startswith(self.compiled):
            return "accelerator" if op not in self.own else self.sides[op]
        if op not in self.own and (role == "custom" or op.startswith(_FLEX) or dtypes & _HOST_DTYPES):
            return self.sides.get(op, "host")
        return self.sides.get(op, "either")

    def is_layer(self, op: str) -> bool:
        """Whether an op is a layer of a network, or holds layers, and nothing says that the accelerator refuses it."""
        return (op in self.layers or op.startswith(self.compiled)) and self.side(op) != "host"

    def is_certain(self, op: str) -> bool:
        """Whether the accelerator is known to take an op."""
        return op in self.own or op in self.fused or self.side(op) == "accelerator"


@cache
def _built_in() -> Affinity:
    raw = json.loads((Path(__file__).parent / "affinity.json").read_text(encoding="utf-8"))
    sides: dict[str, Side] = dict.fromkeys(raw["accelerator"], "accelerator")
    sides.update(dict.fromkeys(raw["host"], "host"))
    return Affinity(sides, frozenset(raw["fused"]), tuple(raw["compiled"]), layers=frozenset(raw["accelerator"]))


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
    return replace(built_in, sides={**built_in.sides, **own}, fused=built_in.fused - own.keys(), own=frozenset(own))


def refusing(tied: Mapping[str, str]) -> Affinity:
    """The answer of a compiler, or of a table that speaks of every node.

    Args:
        tied: The nodes that it refuses → why.
    """
    built_in = _built_in()
    return Affinity({}, built_in.fused, built_in.compiled, layers=built_in.layers, tied=tied, complete=True)
