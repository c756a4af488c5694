"""graphsplit rewrite: the same model with fewer nodes, proven."""

from __future__ import annotations

import argparse
from pathlib import Path

from graphsplit.cli.arguments import Subparsers, add_command, add_fuse_nms, add_model, add_overwrite
from graphsplit.cli.child import prestart
from graphsplit.cli.printing import print_json, say, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.terminal import complain
from graphsplit.formats import as_graphdef, load
from graphsplit.formats.atomic import check_free, check_parent

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "rewrite",
        run,
        "make slow parts of a model fast, prove that it computes the same, write it",
        "Make slow parts of a model fast, prove that it computes the same, write it. What is not known to be equivalent is left "
        "alone, and the answer says why. What no output needs is pruned. MODEL may be a section of a split.",
    )
    add_model(parser)
    parser.add_argument("-o", "--output", dest="file", metavar="FILE", required=True, help="the file to write, a frozen .pb")
    add_fuse_nms(parser)
    parser.add_argument(
        "--batch-preprocess", action="store_true", help="resize and scale all images of a batch at once instead of in a loop"
    )
    parser.add_argument("--model-outputs", metavar="A,B,…", help="outputs of the graph to keep (default: all); the rest is pruned")
    parser.add_argument("--no-verify", action="store_true", help="write the file without the proof; nothing is run")
    add_overwrite(parser, replaces="FILE")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from graphsplit.rewrites import rewrite

    target = Path(args.file)
    check_free([target], sources=[args.model], overwrite=args.overwrite)
    check_parent(target)
    if not args.no_verify:
        prestart(args)
    with quiet_tensorflow(args.verbose):  # a SavedModel or .keras file is frozen with it
        model = load(args.model, trust=args.trust)
    with working("finding what can be rewritten"):
        rewritten = rewrite(
            as_graphdef(model, "a rewrite"),
            fuse_nms=args.fuse_nms,
            batch_preprocess=args.batch_preprocess,
            model_outputs=args.model_outputs,
        )
    report = None
    if not args.no_verify:
        model.check_trust(args.trust, rewritten.index.outputs)
        with quiet_tensorflow(args.verbose), working("running the model before and after on the same feeds"):
            from graphsplit.rewrites.proof import verify_rewrite

            report = verify_rewrite(rewritten, trust=args.trust)
        if not report.equal:
            complain(
                f"graphsplit: verification differs: {report.summary()}; nothing was written (--no-verify writes the file anyway)"
            )
            return 3
    rewritten.save(target, overwrite=args.overwrite)
    nodes = {"before": len(model.index.nodes), "after": len(rewritten.index.nodes)}
    if args.json:
        print_json({
            "file": str(target),
            "rewrites": [dict(r) for r in rewritten.rewrites],
            "left_alone": [dict(r) for r in rewritten.left_alone],
            "nodes": nodes,
            "verified": None if report is None else True,
            "ties_reordered": None if report is None else report.whole.ties,
            "samples": None if report is None else sum(s.samples for s in report.samples),
        })  # fmt: skip
        return 0
    for entry in rewritten.rewrites:
        rows = [(k, str(v)) for k, v in entry.items() if k != "name"]
        table(f"Rewritten: {entry['name']}", ["", ""], rows)
    for entry in rewritten.left_alone:
        say(f"left alone ({entry['name']}): {entry['where']}: {entry['reason']}")
    if not rewritten.rewrites:
        say("nothing was rewritten; what no output needs was pruned")
    say(f"{nodes['before']:,} nodes before, {nodes['after']:,} after")
    if report is not None:
        say(f"proven: {report.summary()}")
    say(f"wrote {target}")
    return 0
