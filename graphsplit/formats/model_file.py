"""The path of a model together with what to choose from it: usable wherever a path is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ModelFile"]


class ModelFile(str):
    """A model's path, for functions that take a path and load it.

    Args:
        path: The file or folder.
        signature: As of `graphsplit.load`.
        tags: As of `graphsplit.load`.
    """

    __slots__ = ("signature", "tags")

    signature: str | None
    tags: str | tuple[str, ...] | None

    def __new__(cls, path: str, signature: str | None = None, tags: str | tuple[str, ...] | None = None) -> Self:
        """Of a path and what it leaves open."""
        self = super().__new__(cls, path)
        self.signature, self.tags = signature, tags
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.signature, self.tags)
