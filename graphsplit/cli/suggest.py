"""graphsplit suggest: where a model could be cut, best first."""

from __future__ import annotations

import argparse
from typing import Any

from graphsplit.cli.arguments import add_command, count
from graphsplit.cli.printing import bytes_text, console, print_json, quiet_tensorflow, shape_text, spec_json, table, working
from graphsplit.formats import load
from graphsplit.graph.index import TensorSpec

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands, "suggest", run, "ranked cuts: border tensors with dtype, shape and bytes, what lands where, and why"
    )
    parser.add_argument("model", metavar="MODEL", help="frozen .pb or .pbtxt, SavedModel folder, .keras file")
    parser.add_argument("--limit", type=count, default=5, metavar="N", help="how many (default 5)")
    parser.add_argument("--affinity", metavar="FILE", help='JSON {op: "accelerator"|"host"|"either"}: what your compiler takes')


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with quiet_tensorflow(args.verbose):
        model = load(args.model)
    with quiet_tensorflow(args.verbose), working("inferring sizes, searching the minimum cut"):
        from graphsplit.splitting.suggestions import suggest

        found = suggest(model, limit=args.limit, affinity=args.affinity)
    if args.json:
        cuts = [
            {
                "source": c.source,
                "name": c.name,
                "inputs": list(c.inputs),
                "outputs": [{**spec_json(o), "bytes": _one_frame(o)} for o in c.outputs],
                "bytes": c.nbytes,
                "added": list(c.added),
                "reason": c.reason,
                "nodes": c.nodes,
            }
            for c in found
        ]
        print_json({"cuts": cuts, "reason": found.reason})
        return 0
    out = console()
    if not found:
        out.print(found.reason, soft_wrap=True)
        return 0
    for number, cut in enumerate(found, 1):
        lands = ", ".join(f"{name} {nodes:,} nodes" for name, nodes in cut.nodes.items())
        out.print(f"[bold]{number}. {cut.source}: {cut.name}[/] – {lands}; {bytes_text(cut.nbytes)} a frame cross", soft_wrap=True)
        out.print(f"   {cut.reason}", soft_wrap=True)
        rows = [("starts at", t, "", "", "") for t in cut.inputs]
        rows += [("ends at", o.name, o.dtype or "?", shape_text(o.shape), bytes_text(_one_frame(o))) for o in cut.outputs]
        rows += [("crosses too", t, "", "", "") for t in cut.added]
        table("", ["", "tensor", "dtype", "shape", "bytes"], rows)
    first = found[0]
    names = ",".join(o.name.removesuffix(":0") for o in first.outputs)
    inputs = f" --inputs {','.join(first.inputs)}" if first.inputs else ""
    out.print(f"graphsplit split {args.model}{inputs}{f' --outputs {names}' if names else ''} -o DIR", soft_wrap=True)
    return 0


def _one_frame(spec: TensorSpec) -> int | None:
    shape = spec.shape
    if shape and shape[0] is None:
        shape = (1, *shape[1:])
    return TensorSpec("", spec.dtype, shape).nbytes
