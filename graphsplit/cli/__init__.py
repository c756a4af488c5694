"""The command line: arguments → API calls → printed answer. The only place that exits.

Exit status: 0 fine · 1 a graphsplit error, one line on stderr · 2 wrong usage · 3 verification differs ·
4 `batch` finished with some inputs rejected · 130 interrupted (143 by SIGTERM) · 141 nobody reads the answer.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from graphsplit.cli.signals import ending

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "run"]


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Wrong usage raises SystemExit(2), as argparse does."""
    from graphsplit.cli.arguments import parse
    from graphsplit.cli.remedies import in_flags
    from graphsplit.cli.terminal import own_stdout, silence
    from graphsplit.errors import GraphSplitError

    words = sys.argv[1:] if argv is None else argv
    args = parse(words)
    if not args.verbose:
        # TensorFlow logs to stderr, where one line of ours is promised. Only this process, and only unless asked.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    else:
        _log_to_stderr()
    if argv is None:
        own_stdout(args.verbose)
        ending.running = True
    try:
        return int(args.run(args))
    except GraphSplitError as error:
        if args.verbose:
            raise
        return _fail(in_flags(str(error), args.parser))
    except BrokenPipeError:  # the reader (head, less) has seen enough; as a shell tells it: 128 + SIGPIPE
        silence()
        return 141
    except OSError as error:
        if args.verbose:
            raise
        return _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130


def _log_to_stderr() -> None:
    """Show what the package notes, such as why TensorFlow had to freeze a SavedModel."""
    import logging

    logger = logging.getLogger("graphsplit")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)


def _fail(message: str) -> int:
    from graphsplit.cli.terminal import complain

    if not ending.signal:  # else it is a consequence of the interrupt
        complain(f"graphsplit: {message}")
    return 1


def main() -> None:
    """The console script."""
    ending.install()
    from graphsplit.cli.terminal import prepare, silence

    prepare()
    sys.excepthook = ending.show
    ending.watch()
    status = 0
    try:
        try:
            status = run()
        except SystemExit as stop:  # after --help, --version and wrong usage
            status = int(stop.code or 0)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        silence()
    except OSError as error:
        silence()
        status = status or _fail(f"stdout: {error.strerror or error}")
    except (KeyboardInterrupt, Exception):
        if not ending.signal:
            raise
        status = 1
    ending.running = False
    sys.exit(ending.status_after(status))
