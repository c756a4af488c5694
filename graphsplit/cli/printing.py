"""How answers are printed: one JSON object, or readable tables and lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import bytes_text, escaped, shape_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["bytes_text", "console", "cut_text", "print_json", "say", "shape_text", "spec_json", "table"]


def print_json(answer: Mapping[str, object]) -> None:
    """One JSON object, the only thing on stdout; what is not printed as it is, or cannot be, is escaped as JSON does."""
    text = json.dumps(answer, indent=1, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        text = json.dumps(answer, indent=1)
    if not text.isprintable():  # apart from line feeds only strings hold what is not
        text = "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)
    print(text)


def console() -> Console:
    """A console for stdout; outside of a terminal lines are never broken, so that they can be searched."""
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=True) if sys.stdout.isatty() else Console(highlight=False, width=100_000)
    out.on_broken_pipe = _broken_pipe  # type: ignore[method-assign]  # rich would exit with status 1, which means an error
    return out


def say(text: str, *, bold: str = "") -> None:
    """Print a line: names are never markup, and control characters are shown, not sent.

    Args:
        text: The line.
        bold: What comes before it, in bold.
    """
    from rich.text import Text

    console().print(Text.assemble((escaped(bold), "bold"), escaped(text)), soft_wrap=True)


def cut_text(origin: str, sections: int) -> str:
    """``cut at: preset …``; of a single section ``not cut: nothing to crop …``."""
    return f"{'cut at' if sections > 1 else 'not cut'}: {origin}"


def _broken_pipe() -> None:
    raise BrokenPipeError


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; names fold instead of being cut off."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(escaped(title), style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold", justify="right" if column in ("nodes", "bytes", "count") else "left")
    for row in rows:
        grid.add_row(*(Text(escaped(str(cell))) for cell in row))
    out = console()
    out.soft_wrap = False
    with out.capture() as captured:
        out.print(grid)
    # Rich pads to the width of the table; in a pipe that is nothing but noise.
    lines = (line.rstrip() for line in captured.get().splitlines())
    print("\n".join(line for line in lines if line) + "\n")


def spec_json(spec: TensorSpec) -> dict[str, object]:
    """A tensor as JSON."""
    return {"tensor": spec.name, "dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)}
