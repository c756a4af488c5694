"""Files of rows: JSON lines, or Parquet. One row per frame: source, frame, boxes, scores, classes."""

from __future__ import annotations

import json
from types import ModuleType
from typing import BinaryIO, Literal, Protocol

from graphsplit.detection.sinks import DetectionsJson
from graphsplit.errors import MissingExtraError

__all__ = ["FORMATS", "Format", "RowJson", "Table", "check_format", "open_table"]

Format = Literal["jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("jsonl", "parquet")
_GROUP = 4096  # rows that are buffered for one row group of Parquet


class RowJson(DetectionsJson):
    """A row as JSON.

    Attributes:
        source: Name of the source.
        frame: Index of the frame in its source, counted from 0.
    """

    source: str
    frame: int


class Table(Protocol):
    """A file of rows, open for writing."""

    def write(self, row: RowJson) -> None:
        """Add a row."""

    def finish(self) -> None:
        """Write the rows that are buffered; the file itself stays open."""


def check_format(format: Format) -> None:
    """Raise MissingExtraError if a format cannot be written."""
    if format == "parquet":
        _pyarrow()


def open_table(file: BinaryIO, format: Format) -> Table:
    """Start a table in a file. Raises MissingExtraError for Parquet without pyarrow."""
    return _Parquet(file) if format == "parquet" else _Lines(file)


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="ray") from error
    module: ModuleType = pyarrow
    return module


class _Lines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: RowJson) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")

    def finish(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        self._arrow = arrow = _pyarrow()
        box = arrow.list_(arrow.float64(), 4)
        columns = {
            "source": arrow.string(),
            "frame": arrow.int64(),
            "boxes": arrow.list_(box),
            "scores": arrow.list_(arrow.float64()),
            "classes": arrow.list_(arrow.int64()),
        }
        self._schema = arrow.schema(list(columns.items()))
        self._writer = arrow.parquet.ParquetWriter(file, self._schema)
        self._rows: list[RowJson] = []

    def write(self, row: RowJson) -> None:
        self._rows.append(row)
        if len(self._rows) == _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()

    def finish(self) -> None:
        self._flush()
        self._writer.close()
