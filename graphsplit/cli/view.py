"""graphsplit view: look at a model and find its cut in the browser."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any

from graphsplit.cli.arguments import add_command, add_cut, cut_of
from graphsplit.cli.printing import print_json, quiet_tensorflow, working

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "view",
        run,
        "look at a model and find its cut: graph, sections and suggestions in the browser; or a picture for a report",
        "Show the graph with its sections, suggested cuts with reasons, and what becomes of a cut; verify it, save it as a crop "
        "file, split into a folder. Served on 127.0.0.1 until Ctrl-C; the address that is printed holds a secret token.",
    )
    parser.add_argument("model", metavar="MODEL|DIR", help="a model, or the folder of a split")
    add_cut(parser)
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="port on 127.0.0.1 (default: one that is free)")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    parser.add_argument(
        "--html", metavar="OUT", help="write a picture with tables instead (.html, .svg, .png; PNG: extra `view`), serve nothing"
    )
    parser.add_argument(
        "-o", "--output-dir", dest="directory", default=".", metavar="DIR", help="folder to save into (default: this one)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    cut = {**cut_of(args), "repair": args.repair}
    if args.html is not None:
        return _picture(args, cut)
    with quiet_tensorflow(args.verbose), working("loading the model and choosing the cut"):
        from graphsplit.viewer.viewer import make_server

        server = make_server(args.model, folder=args.directory, port=args.port, **cut)
    try:
        if args.json:
            print_json({"url": server.url})
        else:
            print(server.url)
        sys.stdout.flush()
        if not args.no_browser:
            webbrowser.open(server.url)
        with quiet_tensorflow(args.verbose):
            server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    return 0


def _picture(args: argparse.Namespace, cut: dict[str, Any]) -> int:
    with quiet_tensorflow(args.verbose), working("drawing"):
        from graphsplit.diagram.picture import draw, free_to_write
        from graphsplit.viewer.session import open_model

        free_to_write(Path(args.html))
        opened = open_model(args.model, **cut)
        written = draw(opened.model, opened.wanted.plan(opened.model)).save(args.html)
    if args.json:
        print_json({"html": str(written)})
    else:
        print(f"wrote {written}")
    return 0


def _port(text: str) -> int:
    """A port."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number up to 65535")
    return int(text)
