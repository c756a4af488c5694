"""graphsplit fetch: a published model by name."""

from __future__ import annotations

import argparse
import shlex

from graphsplit.cli.arguments import Subparsers, add_command, add_overwrite
from graphsplit.cli.printing import print_json, say, table
from graphsplit.cli.progress import bar

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "fetch",
        run,
        "download a published model by name or address, check it, unpack it",
        "Download a published model by name or address, check it, unpack it. An interrupted download is resumed. The checksum "
        "of the first download is kept, and later downloads must match it.",
    )
    parser.add_argument(
        "name", metavar="NAME|URL", nargs="?", help="a model of the zoo, or an http(s) address (default: list the names)"
    )
    parser.add_argument(
        "-o", "--output-dir", dest="directory", metavar="DIR", default=".", help="folder to put it in (default: here)"
    )
    add_overwrite(parser, replaces="an earlier download")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.name is None:
        return _list(args)
    from graphsplit.fetching.models import fetch_files

    with bar(args.name, unit="bytes") as progress:
        fetched = fetch_files(args.name, args.directory, overwrite=args.overwrite, progress=progress)
    if args.json:
        print_json(
            {
                "name": fetched.name,
                "url": fetched.address,
                "path": str(fetched.path),
                "sha256": fetched.sha256 or None,
                "models": [str(m) for m in fetched.models],
            }
        )
        return 0
    say(f"{fetched.path}: {'fetched' if fetched.sha256 else 'already there'}")
    for model in fetched.models:
        say(shlex.join(["graphsplit", "split", str(model), "-o", "out"]))
    return 0


def _list(args: argparse.Namespace) -> int:
    from graphsplit.fetching.zoo import addresses

    if args.json:
        print_json({"models": dict(addresses())})
    else:
        table("Models by name", ["name", "address"], addresses().items())
    return 0
