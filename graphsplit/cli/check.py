"""graphsplit check: what an accelerator's compiler takes of a model, or of the accelerator's sections of a split."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from graphsplit.cli.arguments import Subparsers, add_command, add_model
from graphsplit.cli.printing import print_json, say, table
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.terminal import complain
from graphsplit.graph.text import list_text, shortened

if TYPE_CHECKING:
    from graphsplit.planning.targets.answer import Refused

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

        answer = check(args.model, target=args.target, ask=not args.no_ask, trust=args.trust)
    said = _plain(f"{answer.summary()}{f' ({answer.reason})' if answer.reason else ''}")
    if args.json:
        print_json(answer.json())
    elif len(answer.refused) == 1 and answer.refused[0].reason == answer.reason:
        pass  # one sentence about the whole model
    elif answer.refused:
        table("Refused", ["op", "count", "tensors", "reason"], _rows(answer.refused))
    if answer.whole:
        if not args.json:
            say(said)
        return 0
    complain(f"graphsplit: {said}")
    return 3


def _rows(refused: Iterable[Refused]) -> Iterator[tuple[str, int, str, str]]:
    from graphsplit.planning.targets.answer import grouped

    for group in grouped(refused):
        tensors = list_text(dict.fromkeys(group.tensors))
        yield _plain(group.op), len(group.tensors), _plain(tensors), _plain(shortened(group.reason, _LONGEST))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
