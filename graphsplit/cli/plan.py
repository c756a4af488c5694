"""graphsplit plan: what a split would do; nothing is written."""

from __future__ import annotations

import argparse

from graphsplit.cli.arguments import Subparsers, add_command, add_cut, add_model, add_target, plan_options_of
from graphsplit.cli.child import prestart
from graphsplit.cli.feeds import add_shapes, shapes_of
from graphsplit.cli.printing import bytes_text, cut_text, print_json, say, shape_text, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.remedies import in_flags
from graphsplit.formats import load
from graphsplit.graph.index import Shape, TensorSpec
from graphsplit.parts.manifest import added_json, section_json
from graphsplit.parts.parts import Parts
from graphsplit.planning.plan import Plan
from graphsplit.splitting.surgery import plan, split

__all__ = ["add", "answer_of", "print_parts"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(commands, "plan", run, "dry run: sections, borders, what was added and for which consumer")
    add_model(parser)
    add_cut(parser)
    add_target(parser)
    add_shapes(parser)
    parser.add_argument(
        "--no-shapes", action="store_true", help="leave shapes unknown that the file does not state (no TensorFlow needed)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if not args.no_shapes:
        prestart(args, runs=False)
    with quiet_tensorflow(args.verbose):  # a SavedModel or .keras file is frozen with it
        model = load(args.model, trust=args.trust)
    with (
        quiet_tensorflow(args.verbose),
        working("choosing the cut" if args.target is None else f"asking the compiler of {args.target}"),
    ):
        planned = plan(model, shapes=shapes_of(args), **plan_options_of(args))
    with quiet_tensorflow(args.verbose), working("inferring the shapes of border tensors"):
        parts = split(model, planned, shapes=shapes_of(args))
    if args.json:
        print_json(answer_of(planned, parts))
    else:
        print_parts(args.model, planned, parts)
    return 0


def answer_of(planned: Plan, parts: Parts) -> dict[str, object]:
    """What `plan` and `split` both answer with --json."""
    return {
        "cut": planned.origin,
        "sections": [section_json(p) for p in parts],
        "added": [added_json(a) for a in parts.added],
        "replicated": list(parts.replicated),
        "rewrites": [dict(r) for r in parts.rewrites],
        "notes": list(planned.notes),
        "target": None if planned.target is None else planned.target.json(),
    }


def print_parts(model: str, planned: Plan, parts: Parts) -> None:
    """Tables of the sections, the borders and the repairs."""
    say(f" {cut_text(planned.origin, len(parts))}", bold=model)
    counts = {s.name: len(s.nodes) for s in planned.sections}
    table(
        "Sections",
        ["section", "device", "nodes", "bytes"],
        [(p.name, p.device, f"{counts[p.name]:,}", f"{p.model.nbytes:,}") for p in parts],
    )
    table(
        "Section inputs and outputs",
        ["section", "", "tensor", "dtype", "shape", "bytes"],
        [
            (part.name, way, p.tensor, p.dtype or "?", shape_text(p.shape), _frame_bytes(p.dtype, p.shape))
            for part in parts
            for way, ports in (("input", part.inputs), ("output", part.outputs))
            for p in ports
        ],
    )
    if parts.added:
        table("Added to the border", ["tensor", "read by", "why"], [(a.tensor, a.consumer, a.reason) for a in parts.added])
    if parts.replicated:
        shown = ", ".join(parts.replicated[:8]) + (" …" if len(parts.replicated) > 8 else "")
        say(f"computed in more than one section: {shown}")
    for note in planned.notes:
        say(f"note: {in_flags(note)}")


def _frame_bytes(dtype: str | None, shape: Shape | None) -> str:
    return bytes_text(TensorSpec("", dtype, shape).frame().nbytes)
