"""graphsplit view: look at a model and find its cut in the browser."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from typing import TYPE_CHECKING

from graphsplit.cli.arguments import Subparsers, add_command, add_cut, add_model, add_target, plan_options_of
from graphsplit.cli.child import prestart
from graphsplit.cli.feeds import add_feeds, feeds_of, named_shapes
from graphsplit.cli.printing import print_json, say
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.splitting.request import named_options

if TYPE_CHECKING:
    from graphsplit.inference.synthesis import Feeds
    from graphsplit.splitting.request import PlanOptions

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "view",
        run,
        "look at a model and find its cut: graph, sections and suggestions in the browser; or a picture for a report",
        "Show the graph with its sections, suggested cuts with reasons, and the effect of a cut; verify it, save it as a crop "
        "file, split into a folder. Served on 127.0.0.1 until Ctrl-C; the address that is printed holds a secret token.",
    )
    add_model(parser, or_split=True)
    add_cut(parser)
    add_target(parser)
    add_feeds(parser)
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--html", metavar="OUT", help="write a picture with tables instead (.html, .svg, .png; PNG: extra `view`), serve nothing"
    )
    parser.add_argument(
        "-o", "--output-dir", dest="directory", default=".", metavar="DIR", help="folder to save into (default: this one)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    prestart(args)
    if args.html is not None:
        return _picture(args)
    with quiet_tensorflow(args.verbose), working("loading the model and choosing the cut"):
        from graphsplit.viewer.viewer import make_server

        server = make_server(
            args.model,
            folder=args.directory,
            port=args.port,
            trust=args.trust,
            feeds=_feeds(args),
            shapes=named_shapes(args),
            **_cut(args),
        )
    try:
        if args.json:
            print_json({"url": server.url})
        else:
            say(server.url)
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


def _feeds(args: argparse.Namespace) -> Feeds | list[Feeds] | None:
    """What --feed and --image name, for the model or that of the split."""
    if not args.feed and not args.image:
        return None
    from graphsplit.viewer.session import open_model

    return feeds_of(args, open_model(args.model, trust=args.trust).model)


def _cut(args: argparse.Namespace) -> PlanOptions:
    """The cut that was asked for; of a split that names none."""
    cut = plan_options_of(args)
    return cut if named_options(cut) or args.repair != "auto" else {}


def _picture(args: argparse.Namespace) -> int:
    with quiet_tensorflow(args.verbose), working("drawing"):
        from graphsplit.diagram.picture import draw
        from graphsplit.formats.atomic import check_free, check_parent
        from graphsplit.viewer.session import open_model

        check_free([args.html], then="name another file, or move it away")
        check_parent(args.html)
        session = open_model(args.model, trust=args.trust, **_cut(args))
        written = draw(session.model, session.plan()).save(args.html)
    if args.json:
        print_json({"html": str(written)})
    else:
        say(f"wrote {written}")
    return 0


def _port(text: str) -> int:
    """A port."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number up to 65535")
    return int(text)
