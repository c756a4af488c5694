"""graphsplit plan: a dry run of split."""

from __future__ import annotations

import argparse
from typing import Any

from graphsplit.cli.arguments import add_command, add_cut, cut_of
from graphsplit.cli.printing import bytes_text, console, print_json, quiet_tensorflow, shape_text, table, working
from graphsplit.formats import load
from graphsplit.graph.index import TensorSpec
from graphsplit.parts.folder import added_json, section_json
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import Choice, choose, plan_choice, split

__all__ = ["add", "answer_of", "print_parts"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands, "plan", run, "dry run: sections, borders, what was added and for which consumer; nothing is written or run"
    )
    parser.add_argument("model", metavar="MODEL", help="frozen .pb or .pbtxt, SavedModel folder, .keras file")
    add_cut(parser)
    parser.add_argument("--no-shapes", action="store_true", help="leave shapes that the file does not state open (no TensorFlow)")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with quiet_tensorflow(args.verbose):
        model = load(args.model)
    with quiet_tensorflow(args.verbose), working("choosing the cut"):
        choice = choose(model, **cut_of(args), shapes=not args.no_shapes)
    plan = plan_choice(model, choice, model_outputs=args.model_outputs, repair=args.repair)
    if args.no_shapes:
        parts = split(model, plan, shapes=False)
    else:
        with quiet_tensorflow(args.verbose), working("inferring the shapes of border tensors"):
            parts = split(model, plan)
    if args.json:
        print_json(answer_of(choice, parts))
        return 0
    print_parts(args.model, choice, parts)
    return 0


def answer_of(choice: Choice, parts: Parts) -> dict[str, Any]:
    """What `plan` and `split` both answer with --json."""
    reasons = parts.plan.reasons if parts.plan is not None else ()
    return {
        "cut": choice.source,
        "sections": [section_json(p) for p in parts],
        "added": [added_json(a) for a in parts.added],
        "replicated": list(parts.replicated),
        "rewrites": [dict(r) for r in parts.rewrites],
        "notes": [*choice.notes, *reasons],
    }


def print_parts(model: str, choice: Choice, parts: Parts) -> None:
    """Tables of the sections, the borders and the repairs."""
    out = console()
    out.print(f"[bold]{model}[/] cut at: {choice.source}", soft_wrap=True)
    counts = {s.name: len(s.nodes) for s in parts.plan.sections} if parts.plan is not None else {}
    table(
        "Sections",
        ["section", "device", "nodes", "bytes"],
        [(p.name, p.device, f"{counts.get(p.name, 0):,}", f"{p.model.nbytes:,}") for p in parts],
    )
    table(
        "Given and gives",
        ["section", "", "tensor", "dtype", "shape", "bytes"],
        [
            (part.name, way, p.tensor, p.dtype or "?", shape_text(p.shape), _frame_bytes(p.dtype, p.shape))
            for part in parts
            for way, ports in (("given", part.inputs), ("gives", part.outputs))
            for p in ports
        ],
    )
    if parts.added:
        table("Added to the border", ["tensor", "read by", "why"], [(a.tensor, a.consumer, a.reason) for a in parts.added])
    if parts.replicated:
        shown = ", ".join(parts.replicated[:8]) + (" …" if len(parts.replicated) > 8 else "")
        out.print(f"computed in more than one section: {shown}", soft_wrap=True)
    for note in (*choice.notes, *(parts.plan.reasons if parts.plan is not None else ())):
        out.print(f"note: {note}", soft_wrap=True)


def _frame_bytes(dtype: str | None, shape: tuple[int | None, ...] | None) -> str:
    """Bytes of a tensor for one frame: an unknown leading size is a batch of 1."""
    if shape and shape[0] is None:
        shape = (1, *shape[1:])
    return bytes_text(TensorSpec("", dtype, shape).nbytes)
