"""The command line: arguments → API calls → printed answer. The only place that exits.

Exit status: 0 fine · 1 a graphsplit error, one line on stderr · 2 wrong usage · 3 verification differs ·
4 `batch` finished with some inputs rejected.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from graphsplit.cli.arguments import parse
from graphsplit.cli.remedies import in_flags
from graphsplit.errors import GraphSplitError

__all__ = ["main", "run"]


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Wrong usage raises SystemExit(2), as argparse does."""
    words = sys.argv[1:] if argv is None else argv
    args = parse(words)
    if not args.verbose:
        # TensorFlow logs to stderr, where one line of ours is promised. Only this process, and only unless asked.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return int(args.run(args))
    except GraphSplitError as error:
        if args.verbose:
            raise
        return _fail(in_flags(str(error), args.parser))
    except BrokenPipeError:  # the reader (head, less) has seen enough; as a shell tells it: 128 + SIGPIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if args.verbose:
            raise
        return _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130


def _fail(message: str) -> int:
    print(f"graphsplit: {' '.join(message.split())}", file=sys.stderr)
    return 1


def main() -> None:
    """The console script."""
    status = run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)
