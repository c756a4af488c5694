"""graphsplit demo: see it work."""

from __future__ import annotations

import argparse
from pathlib import Path

from graphsplit.cli.arguments import Subparsers, add_command, add_overwrite
from graphsplit.cli.bench import print_report, report_json
from graphsplit.cli.printing import print_json, say
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.terminal import complain
from graphsplit.graph.text import count_text

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "demo",
        run,
        "split the detector that comes with the package, prove it, measure it, run it over a synthetic video",
    )
    parser.add_argument(
        "-o", "--output-dir", dest="directory", metavar="DIR", default="graphsplit-demo", help="folder for the files"
    )
    add_overwrite(parser, replaces="the files of an earlier demo")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with quiet_tensorflow(args.verbose):
        from graphsplit.demo.run import run_demo

        def progress(step: str) -> None:
            if not args.json:
                complain(f"{step} …")

        with working("demo"):
            demo = run_demo(Path(args.directory), overwrite=args.overwrite, progress=progress)
    if args.json:
        print_json(
            {
                **report_json(demo.bench),
                "folder": str(demo.folder),
                "cut": demo.cut,
                "verified": demo.proof.equal,
                "video": {"frames": demo.frames, "detections": demo.detections},
                "files": list(demo.files),
            }
        )
        return 0
    say(f"cut at: {demo.cut}")
    say(f"proven: {demo.proof.summary()}")
    print_report(demo.bench)
    say(f"{count_text(demo.frames, 'frame')}, {count_text(demo.detections, 'detection')}")
    for name in demo.files:
        say(f"wrote {demo.folder / name}")
    return 0
