"""The folder that a batch writes: parts of a few whole sources each, the rejects, and the journal.

OUT/part-00000.jsonl   rows of the first sources, in order      written whole or not at all
    part-00001.jsonl   …
    rejects.jsonl      {source, reason}                         written at the end
    batch.journal      the finished parts; `--resume` reads it
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from graphsplit.batching.events import End, Event, Reject
from graphsplit.batching.inventory import Item
from graphsplit.batching.journal import JOURNAL, Done, Journal
from graphsplit.batching.tables import Format, Table, open_table
from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats.atomic import check_folder, whole_file
from graphsplit.formats.staging import recover

__all__ = ["REJECTS", "Archive"]

REJECTS = "rejects.jsonl"
_PART = re.compile(r"part-\d{5,}\.(jsonl|parquet)")
_TEMPORARY = re.compile(r"\.(part-\d{5,}\.(jsonl|parquet)|rejects\.jsonl)\.[0-9a-f]{8}\.tmp")


class Archive:
    """A folder of results, open for writing; a context manager.

    After an error or an interruption the finished parts remain. A folder in which no part was finished is left as it was, and
    after a run that was killed before that, it counts as new.

    Args:
        folder: New or empty, or with `resume` one with an unfinished batch.
        settings: What rows depend on, as JSON; a batch is only continued with the same.
        format: Of the parts.
        sources_per_part: Whole sources in one part.
        resume: Continue the batch in the folder, if there is one.

    Attributes:
        folder: The folder.

    Raises:
        OverwriteError: for a folder that holds files, and while another run writes there.
        FormatError: for a folder that cannot be created or continued.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: Mapping[str, object],
        *,
        format: Format = "jsonl",
        sources_per_part: int = 64,
        resume: bool = False,
    ) -> None:
        self.folder, self._format, self._size = Path(folder), format, sources_per_part
        self._created = not self.folder.exists()
        check_folder(self.folder, overwrite=(self.folder / JOURNAL).exists())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(self.folder, settings, resume=resume)
        except OSError as error:
            if self._created:
                with suppress(OSError):
                    self.folder.rmdir()
            if isinstance(error, GraphSplitError):
                raise
            raise FormatError(f"cannot be written: {error.strerror or error}", path=folder) from error
        try:
            self._tidy()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _tidy(self) -> None:
        """Remove what a killed run left: parts that the journal does not list, and files that it was writing."""
        recover(self.folder)
        listed = {d.file for d in self._journal.done if d.file is not None}
        for name in sorted(listed):
            if not (self.folder / name).is_file():
                raise FormatError("a finished part that the journal lists is missing; start again in another folder", path=name)
        for path in list(self.folder.iterdir()):
            if (_PART.fullmatch(path.name) and path.name not in listed) or _TEMPORARY.fullmatch(path.name):
                path.unlink()

    @property
    def done(self) -> tuple[Done, ...]:
        """The finished parts."""
        return tuple(self._journal.done)

    @property
    def finished(self) -> frozenset[str]:
        """Names of the finished sources, including rejected ones."""
        return frozenset(s for d in self._journal.done for s in d.sources)

    def write(self, items: Sequence[Item], events: Iterable[Event]) -> Generator[Event, None, None]:
        """Write the events of an engine.

        Args:
            items: The sources, all of them unfinished.
            events: Of all items, in order.

        Yields:
            Each event, once it is written.

        Raises:
            GraphSplitError: for an event that is missing, repeated or out of order.
        """
        stream = iter(events)
        number = 1 + max((d.part for d in self._journal.done), default=-1)
        for start in range(0, len(items), self._size):
            yield from self._part(number, items, range(start, min(start + self._size, len(items))), stream)
            number += 1
        if (extra := next(stream, None)) is not None:
            raise GraphSplitError(f"unexpected event (duplicate or unknown source): {extra}")

    def _part(self, number: int, items: Sequence[Item], sources: range, stream: Iterator[Event]) -> Generator[Event, None, None]:
        name = f"part-{number:05}.{self._format}"
        rejects: list[Reject] = []
        rows = 0
        with ExitStack() as opened:
            table: Table | None = None
            file = None
            for source in sources:
                frames = -1
                for frames, event in enumerate(stream):
                    if event.source != source or (event.frames if isinstance(event, End) else event.frame) != frames:
                        raise GraphSplitError(f"expected frame {frames} of {items[source].name}, got {event}")
                    if isinstance(event, End):
                        if event.reason:
                            rejects.append({"source": items[source].name, "reason": event.reason})
                        yield event
                        break
                    if event.detections is None:
                        rejects.append({"source": items[source].name, "reason": f"frame {event.frame}: {event.reason}"})
                    else:
                        if table is None:
                            file = opened.enter_context(whole_file(self.folder / name))
                            table = open_table(file, self._format)
                        table.write({"source": items[source].name, "frame": event.frame, **event.detections})
                        rows += 1
                    yield event
                else:
                    raise GraphSplitError(f"expected the end of {items[source].name}, got no event after frame {frames}")
            if table is not None and file is not None:
                table.finish()
                file.flush()
                os.fsync(file.fileno())
        self._journal.add(Done(number, name if rows else None, rows, [items[s].name for s in sources], rejects))

    def finish(self) -> tuple[Reject, ...]:
        """Write the rejects of all runs, and return them."""
        rejects = tuple(r for d in self._journal.done for r in d.rejects)
        with whole_file(self.folder / REJECTS) as file:
            file.write(b"".join(json.dumps(r).encode() + b"\n" for r in rejects))
        return rejects

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        nothing = not self._journal.done and not (self.folder / REJECTS).exists()
        if nothing:
            with suppress(OSError):
                self._journal.path.unlink()
        self._journal.close()
        if nothing and self._created:
            with suppress(OSError):
                self.folder.rmdir()
