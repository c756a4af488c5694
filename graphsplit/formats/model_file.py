"""The path of a model together with what to choose from it: usable wherever a path is."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath

__all__ = ["ModelFile"]


@dataclass(frozen=True, slots=True)
class ModelFile(PathLike[str]):
    """A model's path, for functions that take a path and load it.

    Attributes:
        path: The file or folder.
        signature: As of `graphsplit.load`.
        tags: As of `graphsplit.load`.
    """

    path: str
    signature: str | None = None
    tags: str | tuple[str, ...] | None = None

    def __fspath__(self) -> str:
        return fspath(self.path)

    def __str__(self) -> str:
        return self.path
