"""Where models are deployed, one line a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

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
    """A way to deploy a graph.

    write       source, tensor → key, place → what it calls its tensors; may put files of its own beside the place
    open        what was written, ready to run; tensors by the names that `write` gave
    own         of a target that is a folder: the only names in it, so that nothing else is replaced; empty: it is a file
    replaces    a section of a split can be replaced by it
    apart       it takes the sections of a split, not one graph
    rtol, atol  how far its values may lie from those of the source; 0 and 0: not at all
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


def find_target(name: Any) -> Target:
    """The target of a name. Raises FormatError that lists them."""
    if name not in TARGETS:
        raise FormatError(f"no target {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS[name]
