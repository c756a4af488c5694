"""graphsplit check: what an accelerator's compiler takes of a model, or of the accelerator's sections of a split."""

from __future__ import annotations

import argparse
import sys

from graphsplit.cli.arguments import Subparsers, add_command, add_model
from graphsplit.cli.printing import print_json, say, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.graph.text import list_text, shortened

__all__ = ["add"]

_LONGEST = 160  # characters of a reason in the table


def add(commands: Subparsers) -> None:
    """Add the command."""
    from graphsplit.planning.targets import target_names

    parser = add_command(
        commands, "check", run, "ask an accelerator's compiler what it takes of a model, or of each accelerator section of a split"
    )
    add_model(parser, or_split=True)
    parser.add_argument(
        "--target",
        required=True,
        metavar="NAME|FILE",
        help=f"the compiler: {', '.join(target_names())}, or FILE.json with your own",
    )
    parser.add_argument("--no-ask", action="store_true", help="answer from the table of the target; no compiler runs")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with quiet_tensorflow(args.verbose), working("asking the compiler"):
        from graphsplit.compilers import check

        answer = check(args.model, target=args.target, compile=not args.no_ask, trust=args.trust)
    if args.json:
        print_json(answer.json())
    else:
        groups: dict[tuple[str, str], list[str]] = {}
        for refused in answer.refused:
            groups.setdefault((refused.op, refused.reason), []).append(refused.tensor)
        if groups:
            rows = [(op, len(names), list_text(names), shortened(reason, _LONGEST)) for (op, reason), names in groups.items()]
            table("Refused", ["op", "count", "tensors", "reason"], rows)
        say(answer.summary() + (f" ({answer.reason})" if answer.reason else ""))
    if not answer.whole:
        print(f"graphsplit: refused: {answer.summary()}{f'; {answer.reason}' if answer.reason else ''}", file=sys.stderr)
        return 3
    return 0
