"""graphsplit demo: see it work."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from graphsplit.cli.arguments import add_command
from graphsplit.cli.bench import print_report, report_json
from graphsplit.cli.printing import console, print_json, quiet_tensorflow, working

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "demo",
        run,
        "split the shipped detector of shapes, prove it, measure it, run it over a made video",
    )
    parser.add_argument(
        "-o", "--output-dir", dest="directory", metavar="DIR", default="graphsplit-demo", help="folder for the files"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier demo made there")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with quiet_tensorflow(args.verbose):
        from graphsplit.demo.run import run_demo

        def tell(what: str) -> None:
            if not args.json:
                print(f"{what} …", file=sys.stderr, flush=True)

        with working("demo"):
            demo = run_demo(Path(args.directory), overwrite=args.overwrite, tell=tell)
    if args.json:
        print_json(
            {
                **report_json(demo.bench),
                "folder": str(demo.folder),
                "cut": demo.cut,
                "verified": demo.proof.equal,
                "video": {"frames": demo.frames, "detections": demo.found},
                "files": list(demo.files),
            }
        )
        return 0
    out = console()
    out.print(f"cut at: {demo.cut}", soft_wrap=True)
    out.print(f"proven: {demo.proof.summary()}", soft_wrap=True)
    print_report(demo.bench)
    out.print(f"{demo.frames} frames, {demo.found} shapes found", soft_wrap=True)
    for name in demo.files:
        out.print(f"wrote {demo.folder / name}", soft_wrap=True)
    return 0
