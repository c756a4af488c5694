"""graphsplit verify: prove a split again, from its folder."""

from __future__ import annotations

import argparse

from graphsplit.cli.arguments import Subparsers, add_choice, add_command, add_tolerances, add_trust, count
from graphsplit.cli.child import prestart
from graphsplit.cli.feeds import add_feeds, feeds_of, named_shapes
from graphsplit.cli.printing import print_json, say, shape_text, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.terminal import complain
from graphsplit.formats.detect import FORMATS_TEXT
from graphsplit.parts.manifest import load_parts

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(commands, "verify", run, "run whole and sections on the same feeds and compare every output")
    parser.add_argument("directory", metavar="DIR", help="folder of a split")
    add_trust(parser)
    add_choice(parser)
    parser.add_argument("--model", metavar="MODEL", help=f"the whole ({FORMATS_TEXT}), if it is not where the manifest says")
    add_feeds(parser)
    parser.add_argument("--runs", type=count, default=1, metavar="N", help="number of synthetic images per batch size")
    add_tolerances(parser, default=0.0, note="0, bit for bit")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    parts = load_parts(args.directory)
    prestart(args, str(parts.source.path or "") if args.model is None else args.model)
    with quiet_tensorflow(args.verbose), working("running whole and sections on the same feeds"):
        from graphsplit.rewrites.opening import whole_of
        from graphsplit.verification.equivalence import verify

        model = whole_of(parts, args.model, trust=args.trust, remedy="name the right one with --model")
        shapes = named_shapes(args)
        report = verify(
            model, parts, feeds_of(args, model), shapes=shapes, rtol=args.rtol, atol=args.atol, runs=args.runs, trust=args.trust
        )
    if args.json:
        outputs = [
            {
                "tensor": o.tensor,
                "dtype": o.dtype,
                "shape": list(o.shape),
                "equal": o.equal,
                "max_abs_error": o.max_abs_error,
                "max_rel_error": o.max_rel_error,
            }
            for o in report.outputs
        ]
        print_json(
            {
                "equal": report.equal,
                "max_abs_error": report.max_abs_error,
                "runs": report.runs,
                "outputs": outputs,
                "first_divergent_section": report.first_divergent_section,
                "ties_reordered": report.ties,
                "reason": report.reason,
                "feeds": list(report.feeds),
            }
        )
    else:
        say(f"feeds: {'; '.join(report.feeds)}")
        rows = [
            (o.tensor, o.dtype, shape_text(o.shape), "equal" if o.equal and not o.max_abs_error else o.note or "within tolerance")
            for o in report.outputs
        ]
        table("Outputs", ["tensor", "dtype", "shape", "whole and sections"], rows)
        if report.equal:
            say(report.summary())
    if not report.equal:
        complain(f"graphsplit: verification differs: {report.summary()}")
        return 3
    return 0
