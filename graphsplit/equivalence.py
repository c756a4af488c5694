"""The proof: whole and sections on the same feeds, every output compared bit by bit.

Both sides run with the same kernels and options and without Grappler: then every legal cut is bit-equal. NaN equals
NaN; dtype and shape are compared first; integers, bools and strings are compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphsplit.errors import EquivalenceError, SectionRunError
from graphsplit.feeds import Feeds, check_feeds, made_feeds
from graphsplit.formats import GraphDefModel
from graphsplit.parts import Parts
from graphsplit.runtimes.tensorflow import TensorFlowSession

__all__ = ["OutputReport", "Report", "compare", "run_parts", "verify"]

Array = np.ndarray[Any, Any]

_TIMEOUT = 600.0  # seconds one run may take; a loop that never ends is a legal graph


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One output of the whole, over all runs.

    max_abs_error  largest absolute difference; None where there is no number to give (strings, other shapes, NaN
                   against a number)
    max_rel_error  the same relative to the whole's value
    note           what is wrong, in words; empty when nothing is
    """

    tensor: str
    dtype: str
    shape: tuple[int, ...]
    equal: bool
    max_abs_error: float | None
    max_rel_error: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Whether the sections compute what the whole computes.

    parted  the first section whose results differ from the whole's; None when none do
    reason  why values cannot be compared, where that is known (a graph that gives other values each time)
    """

    equal: bool
    runs: int
    outputs: tuple[OutputReport, ...]
    parted: str | None = None
    reason: str = ""
    feeds: tuple[str, ...] = field(default=())

    @property
    def max_abs_error(self) -> float | None:
        """The largest difference of any output; None where one has no number to give."""
        errors = [o.max_abs_error for o in self.outputs]
        return None if None in errors else max((e for e in errors if e is not None), default=0.0)

    def check(self) -> None:
        """Raise EquivalenceError when whole and sections differ."""
        if not self.equal:
            raise EquivalenceError(self.summary(), report=self)

    def summary(self) -> str:
        """One line: equal, or which tensor differs by how much, and from which section on."""
        if self.equal:
            exact = all(o.max_abs_error in (0.0, None) for o in self.outputs)
            return f"{len(self.outputs)} outputs equal {'bit for bit' if exact else 'within tolerance'} in {self.runs} runs"
        if self.reason:
            return self.reason
        wrong = [o for o in self.outputs if not o.equal]
        worst = max(wrong, key=lambda o: float("inf") if o.max_abs_error is None else o.max_abs_error)
        what = worst.note or f"differs by up to {worst.max_abs_error:g}"
        where = f", from section {self.parted!r} on" if self.parted else ""
        return f"{len(wrong)} of {len(self.outputs)} outputs differ; {worst.tensor} {what}{where}"


def verify(
    model: GraphDefModel,
    parts: Parts,
    feeds: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    runs: int = 1,
    optimize: bool = False,
    trust: bool = False,
) -> Report:
    """Run whole and sections on the same feeds and compare every output.

    feeds     {tensor: array}, or several of these; None: made ones, see `graphsplit.feeds.made_feeds`
    rtol      relative and
    atol      absolute tolerance; 0 and 0 mean bit for bit
    runs      how many made feeds of each batch size
    optimize  with Grappler on both sides, as deployed; differences by rounding are then no fault of the cut

    A difference is reported, not raised. Raises FeedError, TrustError, FormatError (not frozen), and SectionRunError
    when the whole or a section fails to run.
    """
    model.check_trust(trust)
    model.check_frozen()
    for part in parts:
        part.model.check_trust(trust)
    given = _several(feeds) if feeds is not None else made_feeds(model, runs=runs)
    for feed in given:
        check_feeds([s for s in model.inputs if s.name in parts.inputs or s.name in feed], feed)

    found: list[list[OutputReport]] = []
    parted: str | None = None
    reason = ""
    whole = _Runner("whole", model.serialized(), optimize)
    sections = {p.name: _Runner(p.name, p.model.serialized(), optimize) for p in parts}
    try:
        for feed in given:
            expected = whole.run(feed, list(parts.outputs))
            values = run_parts(parts, feed, sections)
            reports = [compare(t, e, values[t], rtol=rtol, atol=atol) for t, e in zip(parts.outputs, expected, strict=True)]
            found.append(reports)
            if parted is None and not reason and not all(r.equal for r in reports):
                parted, reason = _diagnose(model, parts, whole, feed, values, expected)
    finally:
        for runner in (whole, *sections.values()):
            runner.close()
    outputs = tuple(_worst(same) for same in zip(*found, strict=True))
    return Report(
        equal=all(o.equal for o in outputs),
        runs=len(given),
        outputs=outputs,
        parted=parted,
        reason=reason,
        feeds=tuple(", ".join(f"{k} {v.dtype}{list(v.shape)}" for k, v in feed.items()) for feed in given),
    )


def _several(feeds: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Feeds]:
    given = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    return [{k: np.asarray(v) for k, v in feed.items()} for feed in given]


class _Runner:
    """A session whose errors name the section."""

    def __init__(self, name: str, graph_def: bytes, optimize: bool) -> None:
        self.name = name
        self._session = TensorFlowSession(graph_def, optimize=optimize, timeout=_TIMEOUT)

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        from tensorflow import errors

        if not fetches:
            return []
        try:
            return self._session.run(feeds, fetches)
        except (errors.OpError, ValueError, TypeError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            what = "the whole model" if self.name == "whole" else f"section {self.name!r}"
            raise SectionRunError(f"{what} failed to run: {first}", section=self.name) from error

    def close(self) -> None:
        self._session.close()


def run_parts(parts: Parts, feeds: Mapping[str, Array], sessions: Mapping[str, Any]) -> dict[str, Array]:
    """Run the sections in order, each seeing only its declared inputs; all tensors they gave, by their name in the whole."""
    values = dict(feeds)
    for part in parts:
        given = {p.name: values[p.tensor] for p in part.inputs}
        made = sessions[part.name].run(given, [p.name for p in part.outputs])
        values |= {p.tensor: v for p, v in zip(part.outputs, made, strict=True)}
    return values


def compare(tensor: str, whole: Array, other: Array, *, rtol: float = 0.0, atol: float = 0.0) -> OutputReport:
    """Two values of one tensor. NaN equals NaN, positive and negative zero are equal."""

    def report(equal: bool, abs_error: float | None, rel_error: float | None, note: str = "") -> OutputReport:
        name = "string" if whole.dtype.kind in "OSU" else whole.dtype.name
        return OutputReport(tensor, name, tuple(whole.shape), equal, abs_error, rel_error, note)

    if whole.dtype != other.dtype:
        return report(False, None, None, f"is {other.dtype.name} instead of {whole.dtype.name}")
    if whole.shape != other.shape:
        return report(False, None, None, f"has shape {list(other.shape)} instead of {list(whole.shape)}")
    same = np.asarray(whole == other)
    if whole.dtype.kind not in "OSUb":
        same = same | np.asarray((whole != whole) & (other != other))
    if same.all():
        return report(True, 0.0, 0.0)
    count = int((~same).sum())
    if whole.dtype.kind in "OSUb":
        return report(False, None, None, f"differs in {count} of {same.size} elements")
    kind = np.complex128 if whole.dtype.kind == "c" else np.float64
    left, right = np.where(same, 0, whole).astype(kind), np.where(same, 0, other).astype(kind)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.abs(left - right)
        relative = np.where(error == 0, 0, error / np.abs(left))
        close = same | (error <= atol + rtol * np.abs(left))
    if not np.isfinite(error).all():
        odd = int((~np.isfinite(error)).sum())
        return report(False, None, None, f"is NaN or infinite on one side only in {odd} of {same.size} elements")
    note = "" if close.all() else f"differs by up to {error.max():g} in {count} of {same.size} elements"
    largest = float(relative.max())
    return report(bool(close.all()), float(error.max()), largest if np.isfinite(largest) else None, note)


def _worst(reports: Sequence[OutputReport]) -> OutputReport:
    """The report of several runs that says most: a difference before none, the largest before smaller ones."""
    return max(reports, key=lambda r: (not r.equal, r.max_abs_error is None, r.max_abs_error or 0.0))


def _diagnose(
    model: GraphDefModel,
    parts: Parts,
    whole: _Runner,
    feed: Feeds,
    values: Mapping[str, Array],
    expected: Sequence[Array],
) -> tuple[str | None, str]:
    """Which section is the first to differ, or why the values cannot be compared at all."""
    again = whole.run(feed, list(parts.outputs))
    if not all(compare(t, a, b).equal for t, a, b in zip(parts.outputs, expected, again, strict=True)):
        nodes = [
            n.name for n in model.index.nodes if n.stateful and ("Random" in n.op or "Multinomial" in n.op or "Shuffle" in n.op)
        ]
        named = f" ({', '.join(nodes[:3])}{' …' if len(nodes) > 3 else ''})" if nodes else ""
        return None, f"the whole gives other values each time it runs{named}, so nothing can be compared with it"
    for part in parts:
        there = [p.tensor for p in part.outputs if p.tensor in model.index.tensors]
        for tensor, value in zip(there, whole.run(feed, there), strict=True):
            if not compare(tensor, value, values[tensor]).equal:
                return part.name, ""
    return None, ""
