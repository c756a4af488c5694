"""How answers are printed: one JSON object, or readable tables; work in progress is shown on a terminal only."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import bytes_text, shape_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["bytes_text", "console", "print_json", "quiet_tensorflow", "shape_text", "spec_json", "table", "working"]


def print_json(answer: Any) -> None:
    """One JSON object, the only thing on stdout."""
    print(json.dumps(answer, indent=1, ensure_ascii=False))


def console() -> Console:
    """A console for stdout; outside of a terminal lines are never broken, so that they can be searched."""
    from rich.console import Console

    made = Console(highlight=False, soft_wrap=True) if sys.stdout.isatty() else Console(highlight=False, width=100_000)
    made.on_broken_pipe = _broken_pipe  # type: ignore[method-assign]  # rich would exit with status 1, which means an error
    return made


def _broken_pipe() -> None:
    raise BrokenPipeError


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; names fold instead of being cut off."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in ("nodes", "bytes", "count") else "left")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    out = console()
    out.soft_wrap = False
    with out.capture() as captured:
        out.print(made)
    # Rich pads to the width of the table; in a pipe that is nothing but noise.
    lines = (line.rstrip() for line in captured.get().splitlines())
    print("\n".join(line for line in lines if line) + "\n")


def spec_json(spec: TensorSpec) -> dict[str, Any]:
    """A tensor as JSON."""
    return {"tensor": spec.name, "dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)}


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on stderr while something takes long; nothing outside of a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def quiet_tensorflow(verbose: bool) -> Iterator[None]:
    """While TensorFlow may be imported: without the lines its C++ side writes to stderr before logging is set up.

    They are kept back, and shown when the import fails. Nothing is imported here.
    """
    if verbose or "tensorflow" in sys.modules:
        yield
        return
    finder = _QuietFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.meta_path.remove(finder)


class _QuietFinder(MetaPathFinder):
    """Finds TensorFlow where it is, and keeps stderr back while its module runs."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        loader = None if spec is None else spec.loader
        if loader is not None:
            plain = loader.exec_module

            def quiet(module: ModuleType) -> None:
                with _stderr_kept_back():
                    plain(module)

            loader.exec_module = quiet  # type: ignore[method-assign]
        return spec


@contextmanager
def _stderr_kept_back() -> Iterator[None]:
    sys.stderr.flush()
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError):  # not a real file, as in a notebook
        yield
        return
    with tempfile.TemporaryFile() as kept:
        before = os.dup(number)
        os.dup2(kept.fileno(), number)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, number)
            os.close(before)
