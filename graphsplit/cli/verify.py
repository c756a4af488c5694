"""graphsplit verify: prove a split again, from its folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from graphsplit.cli.arguments import add_command, count, tolerance
from graphsplit.cli.printing import console, print_json, quiet_tensorflow, shape_text, table, working
from graphsplit.errors import FormatError
from graphsplit.formats import Model, load
from graphsplit.parts.folder import load_parts
from graphsplit.parts.parts import Parts

__all__ = ["add", "whole_of"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(commands, "verify", run, "run whole and sections on the same feeds and compare every output")
    parser.add_argument("directory", metavar="DIR", help="folder of a split")
    parser.add_argument("--model", metavar="MODEL", help="the whole, where it is not where the manifest says")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture to run on; may be given again")
    parser.add_argument("--runs", type=count, default=1, metavar="N", help="how many made pictures of each batch size")
    parser.add_argument("--rtol", type=tolerance, default=0.0, metavar="R", help="relative tolerance (default 0: bit for bit)")
    parser.add_argument("--atol", type=tolerance, default=0.0, metavar="A", help="absolute tolerance (default 0)")
    parser.add_argument("--trust", action="store_true", help="run a model that reaches files, the network or Python")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    parts = load_parts(args.directory)
    with quiet_tensorflow(args.verbose), working("running whole and sections on the same pictures"):
        from graphsplit.inference.feeds import image_feeds
        from graphsplit.verification.equivalence import verify

        model = whole_of(parts, args.model, trust=args.trust)
        feeds = image_feeds(model, args.image) if args.image else None
        report = verify(model, parts, feeds, rtol=args.rtol, atol=args.atol, runs=args.runs, trust=args.trust)
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
        answer = {"equal": report.equal, "max_abs_error": report.max_abs_error, "runs": report.runs, "outputs": outputs}
        print_json(
            {**answer, "parted": report.parted, "ties_reordered": report.ties, "reason": report.reason, "feeds": list(report.feeds)}
        )
    else:
        console().print(f"fed: {'; '.join(report.feeds)}", soft_wrap=True)
        rows = [
            (o.tensor, o.dtype, shape_text(o.shape), "equal" if o.equal and not o.max_abs_error else o.note or "within tolerance")
            for o in report.outputs
        ]
        table("Outputs", ["tensor", "dtype", "shape", "whole and sections"], rows)
        if report.equal:
            console().print(report.summary(), soft_wrap=True)
    if not report.equal:
        print(f"graphsplit: verification differs: {report.summary()}", file=sys.stderr)
        return 3
    return 0


def whole_of(parts: Parts, given: str | None, *, trust: bool) -> Model:
    """The whole of a split: where the manifest says, checked by its sum, or what was given instead.

    Raises FormatError when it is not there or is another file.
    """
    path = Path(given) if given is not None else parts.source.path
    if path is None or not path.exists():
        raise FormatError(f"the whole model is not there ({path}); name it with --model", path=None)
    model = load(path, trust=trust)
    if model.sha256 != parts.source.sha256:
        raise FormatError(
            f"not the file that was split (its sum is {model.sha256[:16]}…, the manifest says {parts.source.sha256[:16]}…); "
            "split it again, or name the right one with --model",
            path=path,
        )
    return model
