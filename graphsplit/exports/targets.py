"""The deployment targets, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from graphsplit.errors import FormatError
from graphsplit.exports.saved_model import SavedModelSession, write_saved_model
from graphsplit.exports.sources import Source, Written
from graphsplit.exports.tflite import convert, open_tflite
from graphsplit.exports.triton import Ensemble, repository_files, write_repository
from graphsplit.inference.sessions import Session

__all__ = ["TARGETS", "Target", "find_target"]


class _Open(Protocol):
    def __call__(self, path: Path, *, timeout: float) -> Session: ...


def _a_file(source: Source) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True)
class Target:
    """A deployment target.

    Attributes:
        write: Writes a source to a path, given a key for each tensor, and returns the names to feed and fetch. It may leave
            temporary files beside the path.
        open: Opens an export to run it, with tensors named as `write` returned them.
        own: The only names in a folder of this target, so that nothing else is replaced; empty for a file.
        replaces: Whether an export can replace a section of a split.
        apart: Whether it takes the sections of a split instead of one graph.
        rtol: Relative tolerance of its values against those of the source.
        atol: Absolute tolerance.
    """

    write: Callable[[Source, Mapping[str, str], Path], Written]
    open: _Open
    own: Callable[[Source], frozenset[str]] = _a_file
    apart: bool = False
    replaces: bool = False
    rtol: float = 0.0
    atol: float = 0.0


_SAVED_MODEL = frozenset({"saved_model.pb", "saved_model.pbtxt", "variables", "assets", "assets.extra", "fingerprint.pb"})

TARGETS: Mapping[str, Target] = MappingProxyType({
    # The same nodes in the same runtime.
    "saved_model": Target(write_saved_model, SavedModelSession, own=lambda source: _SAVED_MODEL),
    # A SavedModel for each section.
    "triton": Target(write_repository, Ensemble, own=repository_files, apart=True),
    # Other kernels, other fusions: float32 sums in another order.
    "tflite": Target(convert, open_tflite, replaces=True, rtol=1e-3, atol=1e-3),
})  # fmt: skip


def find_target(name: str) -> Target:
    """The target of that name. Raises FormatError that lists the names."""
    if name not in TARGETS:
        raise FormatError(f"unknown target {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS[name]
