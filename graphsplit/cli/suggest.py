"""graphsplit suggest: where a model could be cut, best first."""

from __future__ import annotations

import argparse
import shlex

from graphsplit.cli.arguments import Subparsers, add_command, add_model, add_target, count
from graphsplit.cli.child import prestart
from graphsplit.cli.feeds import add_shapes, shapes_of
from graphsplit.cli.printing import bytes_text, print_json, say, shape_text, spec_json, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.formats import Model, load
from graphsplit.splitting.naming import UNWRITABLE, choice_flags, name_flags
from graphsplit.splitting.suggestions import Suggestion, suggest

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands, "suggest", run, "ranked cuts: border tensors with dtype, shape and bytes, what goes where, and why"
    )
    add_model(parser)
    parser.add_argument("--limit", type=count, default=5, metavar="N", help="how many (default 5)")
    parser.add_argument("--affinity", metavar="FILE", help='JSON {op: "accelerator"|"host"|"either"}: what your compiler takes')
    add_target(parser, asks=False)
    add_shapes(parser)
    parser.add_argument("--no-shapes", action="store_true", help="leave sizes unknown that the file does not state")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if not args.no_shapes:
        prestart(args, runs=False)
    with quiet_tensorflow(args.verbose):
        model = load(args.model, trust=args.trust)
    with quiet_tensorflow(args.verbose), working("inferring sizes, searching for cuts"):
        suggestions = suggest(model, limit=args.limit, affinity=args.affinity, target=args.target, shapes=shapes_of(args))
    if args.json:
        print_json({"cuts": [_cut_json(c) for c in suggestions], "reason": suggestions.reason})
        return 0
    if not suggestions:
        say(suggestions.reason)
        return 0
    for number, cut in enumerate(suggestions, 1):
        nodes = ", ".join(f"{name} {count:,} nodes" for name, count in cut.nodes.items())
        crossing = f"{bytes_text(cut.nbytes)} a frame cross"
        if cut.share is not None and cut.share < 1:
            crossing += f"; main holds {cut.share:.0%} of the multiplications"
        say(f" – {nodes}; {crossing}", bold=f"{number}. {cut.source}: {cut.name}")
        say(f"   {cut.reason}")
        rows = [("starts at", t, "", "", "") for t in cut.inputs]
        rows += [("ends at", o.name, o.dtype or "?", shape_text(o.shape), bytes_text(o.frame().nbytes)) for o in cut.outputs]
        rows += [("also crosses", t, "", "", "") for t in cut.added]
        table("", ["", "tensor", "dtype", "shape", "bytes"], rows)
    say(_command(args.model, model, suggestions[0]))
    return 0


def _cut_json(cut: Suggestion) -> dict[str, object]:
    return {
        "source": cut.source,
        "name": cut.name,
        "inputs": list(cut.inputs),
        "outputs": [{**spec_json(o), "bytes": o.frame().nbytes} for o in cut.outputs],
        "bytes": cut.nbytes,
        "added": list(cut.added),
        "reason": cut.reason,
        "nodes": cut.nodes,
        "macs_in_main": cut.share,
    }


def _command(path: str, model: Model, cut: Suggestion) -> str:
    """A command to paste, which names exactly these tensors."""
    named = name_flags(model.index, [("--inputs", cut.inputs), ("--outputs", [o.name for o in cut.outputs])])
    return (
        UNWRITABLE if named is None else shlex.join(["graphsplit", "split", path, *choice_flags(model.choice), *named, "-o", "DIR"])
    )
