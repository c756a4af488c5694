"""What models of all formats share: bytes, origin, checksum, inputs and outputs."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NoReturn

from graphsplit.errors import FormatError
from graphsplit.formats.atomic import whole_file
from graphsplit.formats.source import FileRange, SourceFile
from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.graph.signature import Choice
from graphsplit.graph.text import count_text

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Stored"]


class Stored:
    """A model as bytes in pieces, none of which is copied.

    Attributes:
        format: The format of the file it came from.
        path: The file (for a SavedModel the folder) it was read from; None for a model in memory.
        source: The file whose checksum identifies the model; None for a model in memory.
        origin: That file, as it was when it was read.
        choice: Which signature of the file it is, and what is left out.
    """

    choice: Choice = Choice()

    def __init__(
        self,
        chunks: Iterable[bytes | memoryview | mmap.mmap | FileRange],
        *,
        path: Path | None,
        source: SourceFile | None,
        format: str,
    ) -> None:
        self.path, self.source, self.format = path, path if source is None else source.path, format
        self.origin = source
        self._chunks = tuple(chunks)
        self._hashing = Lock()
        self._sha256: str | None = None

    def __repr__(self) -> str:
        where = f" {str(self.path)!r}" if self.path else ""
        try:
            return f"<{type(self).__name__}{where}: {count_text(len(self.index.nodes), 'node')}>"
        except FormatError:  # of a damaged graph; a repr never raises
            return f"<{type(self).__name__}{where}: damaged>"

    def __copy__(self) -> Self:
        return self  # a model never changes

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a model is not pickled: it may be larger than memory; pass its path, or save() it and load() the file")

    # what it is

    @cached_property
    def index(self) -> GraphIndex:
        """Nodes and tensors; each format reads its own."""
        raise NotImplementedError

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What to feed, in the order of the file."""
        index = self.index
        return tuple(replace(index.tensors[t], optional=True) if t in index.defaults else index.tensors[t] for t in index.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What to fetch, in the order of the file."""
        return tuple(self.index.tensors[t] for t in self.index.outputs)

    def needed(self, outputs: Iterable[str] | None) -> set[str] | None:
        """Names of the nodes that some outputs need; None for all."""
        index = self.index
        return None if outputs is None else index.ancestors(index.producer[t] for t in outputs if t in index.producer)

    def left_out(self, sections: Sequence[tuple[Sequence[str], Sequence[str]]]) -> tuple[str, ...]:
        """Sentences on what belongs to the file and no section keeps; each section by its inputs and outputs."""
        return ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes that the model detects, in their order, where the file has them."""
        return ()

    # bytes

    @property
    def nbytes(self) -> int:
        """Size of the model in bytes."""
        return sum(len(c) for c in self._chunks)

    @property
    def chunks(self) -> Iterator[memoryview]:
        """The bytes of the model, piece by piece; nothing is kept that was not.

        Raises:
            FormatError: They are in a file that has changed since it was read.
        """
        for chunk in self._chunks:
            if isinstance(chunk, FileRange):
                yield from chunk.blocks()
            else:
                yield memoryview(chunk).toreadonly()

    def serialized(self) -> bytes:
        """The bytes of the model, in one piece."""
        return b"".join(self.chunks)

    @property
    def sha256(self) -> str:
        """SHA-256 of the source file; for a model in memory, of its bytes. Safe to call from any thread."""
        with self._hashing:
            if self._sha256 is None:
                self._sha256 = None if self.origin is None else self.origin.sha256
            if self._sha256 is None:
                total = hashlib.sha256()
                for chunk in self.chunks:
                    total.update(chunk)
                self._sha256 = total.hexdigest()
            return self._sha256

    def check_unchanged(self) -> None:
        """Refuse a source file whose content is no longer what was read. Raises FormatError."""
        if self.origin is not None:
            self.origin.check(self.sha256)

    @property
    def converted(self) -> bool:
        """Whether the bytes are not those of the file they came from."""
        return False

    def save(self, path: str | Path, *, overwrite: bool = True) -> Path:
        """Write the model to a file, whole or not at all.

        Args:
            path: Of the file.
            overwrite: Replace an existing file.

        Returns:
            The path.

        Raises:
            FormatError: It cannot be written.
            OverwriteError: It exists, and `overwrite` is not set.
        """
        with whole_file(Path(path), overwrite=overwrite) as file:
            for chunk in self.chunks:
                file.write(chunk)
        return Path(path)
