"""The JSON bodies that the page sends, as types. Unknown keys are refused: a misspelt one would be an option without effect."""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import Meta, Struct

from graphsplit.graph.json_input import as_type
from graphsplit.planning.plan import Repair

__all__ = ["CropRequest", "CutEnds", "FitRequest", "PlanRequest", "SplitRequest", "StudyRequest", "VerifyRequest", "as_request"]

_Names = Annotated[tuple[str, ...], Meta(max_length=1000)]

_Target = Annotated[str, Meta(max_length=4096)]  # one of those that `Targets` offers

T = TypeVar("T", bound=Struct)


class CutEnds(Struct, frozen=True, forbid_unknown_fields=True):
    """A cut as the page holds it.

    Attributes:
        inputs: Border tensors at which main starts.
        ends: For each cut the border tensors at which its section ends; empty lists are ignored.
    """

    inputs: _Names = ()
    ends: Annotated[tuple[_Names, ...], Meta(max_length=64)] = ()


class PlanRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Plan a cut. Without `repair`, the mode that the workbench was opened with is used; `target` marks what it refuses."""

    cut: CutEnds
    repair: Repair | None = None
    target: _Target | None = None


class StudyRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Suggest cuts, for a target if one is named."""

    target: _Target | None = None


class FitRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ask the compiler of a target, and cut until it takes all of main, or of the accelerator's sections among `islands`."""

    target: _Target
    islands: bool = False
    repair: Repair | None = None


class CropRequest(PlanRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Write a cut as the crop file `name`."""

    name: str


class VerifyRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Verify the plan of that number."""

    plan: int


class SplitRequest(VerifyRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Write the sections of a plan into the folder `name`, verified first unless `verify` is false."""

    name: str
    verify: bool = True


def as_request(body: object, kind: type[T]) -> T:
    """A parsed body as a request.

    Raises:
        FormatError: The body does not fit; the error names the entry: ``$.cut.ends[0]``.
    """
    return as_type(body, kind, what="a request of this kind", path=None)
