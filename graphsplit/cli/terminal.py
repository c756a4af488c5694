"""The ends of the process: stdout, which is for answers only, stderr, and what a terminal can show.

a model's prints ──▶ 1 ──▶ nowhere (--verbose: stderr)
our answer ──▶ sys.stdout ──▶ a copy of what 1 was
"""

from __future__ import annotations

import codecs
import os
import sys
import warnings
from contextlib import suppress
from io import TextIOWrapper

from graphsplit.graph.text import escaped

__all__ = ["complain", "own_stdout", "prepare", "silence"]

_SPELT = {"…": "...", "→": "->", "·": "|", "×": "x", "≤": "<=", "≥": ">="}
_PLAIN = str.maketrans(_SPELT | dict.fromkeys("─—–−", "-") | dict.fromkeys("“”", '"') | {"’": "'"})
_OPENED: dict[int, tuple[int, str]] = {0: (os.O_RDONLY, "r"), 1: (os.O_WRONLY, "w"), 2: (os.O_WRONLY, "w")}


def prepare() -> None:
    """Open what is closed, so that no file gets the number of stdout, and have both write what their encoding lacks in ASCII."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags, mode = _OPENED[number]
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the life of the process
    codecs.register_error("graphsplit", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="graphsplit")
    warnings.formatwarning = lambda message, *_, **__: f"graphsplit: {escaped(' '.join(str(message).split()))}\n"


def own_stdout(verbose: bool) -> None:
    """Keep stdout for `sys.stdout`; whatever else is written to it, by a model or a library, goes nowhere.

    Args:
        verbose: It goes to stderr.
    """
    stream = sys.stdout
    try:
        if not isinstance(stream, TextIOWrapper) or stream.fileno() != 1:
            return
    except (OSError, ValueError):
        return
    stream.flush()
    copy = os.dup(1)
    other = 2 if verbose else os.open(os.devnull, os.O_WRONLY)
    os.dup2(other, 1)
    if other != 2:
        os.close(other)
    sys.stdout = open(  # noqa: SIM115  # for the life of the process
        copy, "w", encoding=stream.encoding, errors=stream.errors, newline=None, buffering=1 if stream.isatty() else -1
    )


def silence() -> None:
    """Discard what stdout still holds: its reader has seen enough."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(message: str, *, lines: bool = False) -> None:
    """Write a line to stderr, if anybody reads that.

    Args:
        message: The line; names may be part of it.
        lines: It has several lines, and more space.
    """
    text = escaped(message, keep="\n\t") if lines else escaped(" ".join(message.split()))
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks: in plain characters where there are some, else its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end
