"""The process that runs models is started while the file is still read."""

from __future__ import annotations

import argparse
from contextlib import suppress

from graphsplit.errors import FormatError
from graphsplit.formats.detect import detect_format

__all__ = ["prestart"]


def prestart(args: argparse.Namespace, model: str | None = None, *, runs: bool = True) -> None:
    """Start the child process, which imports the runtime of the model meanwhile.

    Args:
        args: The arguments of the command.
        model: Path of the model; None: that of the arguments.
        runs: Whether the model will be run; shapes of a TFLite file need no runtime.
    """
    from pathlib import Path

    from graphsplit.isolation.shared import prestart as start

    kind = "graphdef"
    with suppress(FormatError, OSError):  # reported when it is loaded
        kind = detect_format(Path(args.model if model is None else model))
    if kind != "tflite":
        start("tensorflow", echo=args.verbose)
    elif runs:
        start("ai_edge_litert.interpreter", echo=args.verbose)
