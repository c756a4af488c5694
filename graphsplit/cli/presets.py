"""graphsplit presets: the model families that are known."""

from __future__ import annotations

import argparse
from typing import Any

from graphsplit.cli.arguments import Subparsers, add_choice, add_command, add_trust
from graphsplit.cli.printing import print_json, say, table
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.formats import load
from graphsplit.formats.detect import FORMATS_TEXT
from graphsplit.planning.presets import explain, presets

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(commands, "presets", run, "known model families and their split targets; which of them a model matches")
    parser.add_argument(
        "--match", metavar="MODEL", help=f"for each preset, whether this model ({FORMATS_TEXT}) matches it, and why"
    )
    add_trust(parser)
    add_choice(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    verdicts: dict[str, tuple[bool, str]] = {}
    if args.match is not None:
        with quiet_tensorflow(args.verbose):  # a SavedModel or .keras file is frozen with it
            model = load(args.match, trust=args.trust)
        verdicts = {preset.name: (fits, reason) for preset, fits, reason in explain(model.index)}
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
        if verdicts:
            row["matches"], row["reason"] = verdicts[preset.name]
        rows.append(row)
    if args.json:
        print_json({"presets": rows})
        return 0
    if verdicts:
        table("", ["preset", "matches", "why"], [(r["name"], "yes" if r["matches"] else "no", r["reason"]) for r in rows])
        return 0
    table("", ["preset", "family", "split targets"], [(r["name"], r["title"], r["cut"]) for r in rows])
    say("graphsplit presets --match MODEL says which of them a model matches")
    return 0
