"""Progress of long work: on stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from graphsplit.graph.text import escaped

__all__ = ["Advance", "bar", "working"]


class Advance(Protocol):
    """Reports how far the work is."""

    def __call__(self, done: int, total: int | None, text: str = "") -> object:
        """`done` of `total` units; a text beside the bar."""
        ...


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner while something takes long."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(escaped(what))):
        yield


@contextmanager
def bar(what: str, *, unit: str = "", note: str = "", quiet: bool = False) -> Iterator[Advance]:
    """A progress bar.

    Args:
        what: What is done.
        unit: "bytes" for a download; "" for a plain count.
        note: A line above the bar.
        quiet: Show nothing, as if there were no terminal.

    Yields:
        The function that moves it.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total, text="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn("{task.fields[text]}", markup=False))
    if unit == "bytes":
        counts = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    columns: tuple[ProgressColumn, ...] = (TextColumn("{task.description}", markup=False), BarColumn(), *counts)
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as shown:
        if note:
            shown.console.print(Text(escaped(note)), soft_wrap=True)
        task = shown.add_task(escaped(what), total=None, text="")
        advance: Callable[..., None] = lambda done, total, text="": shown.update(  # noqa: E731
            task, completed=done, total=total, text=escaped(text)
        )
        yield advance
