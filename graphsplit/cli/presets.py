"""graphsplit presets: the model families that are known."""

from __future__ import annotations

import argparse
from typing import Any

from graphsplit.cli.arguments import add_command
from graphsplit.cli.printing import console, print_json, table
from graphsplit.formats import load
from graphsplit.planning.presets import explain, presets

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(commands, "presets", run, "known model families and their split targets; which one a model is")
    parser.add_argument("--match", metavar="MODEL", help="say of each preset whether it fits this model, and why")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    found = {} if args.match is None else {p.name: (fits, reason) for p, fits, reason in explain(load(args.match).index)}
    rows = []
    for preset in presets():
        row: dict[str, Any] = {
            "name": preset.name,
            "family": preset.family,
            "title": preset.title,
            "targets": list(preset.targets),
            "cut": preset.cut,
            "models": list(preset.models),
            "note": preset.note,
        }
        if found:
            row["matches"], row["reason"] = found[preset.name]
        rows.append(row)
    if args.json:
        print_json({"presets": rows})
        return 0
    if found:
        table("", ["preset", "fits", "why"], [(r["name"], "yes" if r["matches"] else "no", r["reason"]) for r in rows])
        return 0
    table("", ["preset", "what", "split targets"], [(r["name"], r["title"], r["cut"]) for r in rows])
    console().print("graphsplit presets --match MODEL says which one a model is", soft_wrap=True)
    return 0
