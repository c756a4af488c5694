"""The proof: whole and sections on the same feeds, every output compared bit by bit.

Both sides run with the same kernels and options and without Grappler: then every legal cut is bit-equal. NaN equals
NaN; dtype and shape are compared first; integers, bools and strings are compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphsplit.errors import EquivalenceError, FeedError, FormatError, GraphSplitError, SectionRunError
from graphsplit.formats import Model
from graphsplit.graph.text import shortened
from graphsplit.inference.feeds import Feeds, check_feeds, made_feeds
from graphsplit.inference.sessions import open_session
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.tensorflow import as_array, dtype_name, error_text
from graphsplit.verification.detections import compare_detections

__all__ = ["OutputReport", "Report", "compare", "run_parts", "verify", "with_ties"]

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
    ties    runs in which detections of equal scores came in another order, which only rewrites may do
    """

    equal: bool
    runs: int
    outputs: tuple[OutputReport, ...]
    parted: str | None = None
    reason: str = ""
    feeds: tuple[str, ...] = field(default=())
    ties: int = 0

    def __repr__(self) -> str:
        return f"Report({shortened(self.summary(), 300)})"

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
            ties = f", detections of equal scores in another order in {self.ties}" if self.ties else ""
            return f"{len(self.outputs)} outputs equal {'bit for bit' if exact else 'within tolerance'} in {self.runs} runs{ties}"
        if self.reason:
            return self.reason
        wrong = [o for o in self.outputs if not o.equal]
        worst = max(wrong, key=lambda o: float("inf") if o.max_abs_error is None else o.max_abs_error)
        what = worst.note or f"differs by up to {worst.max_abs_error:g}"
        where = f", from section {self.parted!r} on" if self.parted else ""
        return f"{len(wrong)} of {len(self.outputs)} outputs differ; {worst.tensor} {what}{where}"


def verify(
    model: Model,
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

    feeds     {tensor: array}, or several of these; None: made ones, see `graphsplit.inference.feeds.made_feeds`; a batch of two
              that the whole does not take is left out
    rtol      relative and
    atol      absolute tolerance; 0 and 0 mean bit for bit
    runs      how many made feeds of each batch size
    optimize  with Grappler on both sides, as deployed; differences by rounding are then no fault of the cut

    A difference is reported, not raised. Raises FeedError, TrustError, FormatError (not frozen), and SectionRunError
    when the whole or a section fails to run.
    """
    model.check_frozen()
    model.check_trust(trust)
    for part in parts:
        part.model.check_trust(trust)
    given = made_feeds(model, runs=runs) if feeds is None else _several(feeds)
    for feed in given:
        check_feeds([s for s in model.inputs if s.name in parts.inputs or s.name in feed], feed)

    found: list[list[OutputReport]] = []
    ran: list[Feeds] = []
    parted: str | None = None
    reason = ""
    ties = 0
    with ExitStack() as opened:
        whole, sections = _open(opened, model, parts, optimize)
        for feed in given:
            try:
                expected = whole.run(feed, list(parts.outputs))
            except SectionRunError as error:
                if feeds is not None or not _refused(error):
                    raise
                if ran:
                    continue
                told = f"{error}; it was fed what was made up for it: give real feeds (verify --image FILE, feeds=…)"
                raise SectionRunError(told, section=error.section) from error
            ran.append(feed)
            values = run_parts(parts, feed, sections)
            reports = [compare(t, e, values[t], rtol=rtol, atol=atol) for t, e in zip(parts.outputs, expected, strict=True)]
            if parts.rewrites and not all(r.equal for r in reports):
                reports, reordered = with_ties(reports, dict(zip(parts.outputs, expected, strict=True)), values)
                ties += reordered
            found.append(reports)
            if parted is None and not reason and not all(r.equal for r in reports):
                parted, reason = _diagnose(model, parts, feed, optimize=optimize, rtol=rtol, atol=atol)
    outputs = tuple(_worst(same) for same in zip(*found, strict=True))
    return Report(
        equal=all(o.equal for o in outputs),
        runs=len(ran),
        outputs=outputs,
        parted=parted,
        reason=reason,
        feeds=tuple(", ".join(f"{k} {dtype_name(v)}{list(v.shape)}" for k, v in feed.items()) for feed in ran),
        ties=ties,
    )


def with_ties(
    reports: Sequence[OutputReport], whole: Mapping[str, Array], other: Mapping[str, Array]
) -> tuple[list[OutputReport], bool]:
    """Reports in which detections of equal scores may come in any order, and whether some did."""
    found = compare_detections({r.tensor: whole[r.tensor] for r in reports}, other)
    if found is None or not found.equal or not found.images:
        return list(reports), False
    note = "detections of equal scores in another order"
    return [
        replace(r, equal=True, max_abs_error=0.0, max_rel_error=0.0, note=note) if r.tensor in found.tensors and not r.equal else r
        for r in reports
    ], True


def _several(feeds: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Feeds]:
    given = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    if not given:
        raise FeedError(["no feeds, so nothing would be compared; give at least one, or None for made ones"])
    return [{k: as_array(v) for k, v in feed.items()} for feed in given]


class _Runner:
    """A session whose errors name the section."""

    def __init__(self, name: str, model: Model, optimize: bool) -> None:
        self.name = name
        self._what = "the whole model" if name == "whole" else f"section {name!r}"
        try:
            self._session = open_session(model, optimize=optimize, timeout=_TIMEOUT)
        except FormatError as error:
            if name == "whole":
                raise
            raise SectionRunError(f"{self._what} cannot be run: {error}", section=name) from error

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        if not fetches:
            return []
        try:
            return self._session.run(feeds, fetches)
        except TimeoutError as error:
            raise SectionRunError(f"{self._what} did not end within {_TIMEOUT:g} seconds", section=self.name) from error
        except GraphSplitError:
            raise
        except Exception as error:  # whatever kind of error a runtime has
            raise SectionRunError(f"{self._what} failed to run: {error_text(error)}", section=self.name) from error

    def close(self) -> None:
        self._session.close()


def _open(opened: ExitStack, model: Model, parts: Parts, optimize: bool) -> tuple[_Runner, dict[str, _Runner]]:
    """Sessions of the whole and of each section, to be closed with `opened`."""

    def runner(name: str, model: Model) -> _Runner:
        return opened.enter_context(closing(_Runner(name, model, optimize)))

    return runner("whole", model), {p.name: runner(p.name, p.model) for p in parts}


def _refused(error: SectionRunError) -> bool:
    """Whether a model did not like what it was fed."""
    cause = error.__cause__
    return isinstance(cause, (ValueError, RuntimeError)) or type(cause).__name__ == "InvalidArgumentError"


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
        return OutputReport(tensor, dtype_name(whole), tuple(whole.shape), equal, abs_error, rel_error, note)

    if whole.dtype != other.dtype:
        return report(False, None, None, f"is {dtype_name(other)} instead of {dtype_name(whole)}")
    if whole.shape != other.shape:
        return report(False, None, None, f"has shape {list(other.shape)} instead of {list(whole.shape)}")
    same = _same(whole, other)
    if same.all():
        return report(True, 0.0, 0.0)
    count = int((~same).sum())
    if whole.dtype.kind in "OSUb" or whole.dtype.names:
        return report(False, None, None, f"differs in {count} of {same.size} elements")
    left, right = whole[~same], other[~same]
    odd = int((~(_finite(left) & _finite(right))).sum())
    if odd:
        return report(False, None, None, f"differs by NaN or infinity in {odd} of {same.size} elements")
    error, size = _distance(left, right), np.abs(left.astype(np.complex128 if left.dtype.kind == "c" else np.float64))
    with np.errstate(divide="ignore", over="ignore"):
        largest, relative = float(error.max()), float((error / size).max())
        close = bool((error <= atol + rtol * size).all())
    note = "" if close else f"differs by up to {largest:g} in {count} of {same.size} elements"
    return report(close, _number(largest), _number(relative), note)


def _same(whole: Array, other: Array) -> Array:
    """Which elements are equal; of a complex number, both of its parts."""
    if whole.dtype.kind == "c":
        return _same(whole.real, other.real) & _same(whole.imag, other.imag)
    same = np.asarray(whole == other)
    return same if whole.dtype.kind in "OSUb" else same | np.asarray((whole != whole) & (other != other))


def _finite(values: Array) -> Array:
    return np.isfinite(values if values.dtype.kind in "fc" else values.astype(np.float64))


def _distance(left: Array, right: Array) -> Array:
    """Absolute differences as float64; of integers exact before that, so that no difference comes out as zero."""
    if left.dtype.kind in "iu":
        high, low = np.maximum(left, right), np.minimum(left, right)
        return np.asarray((high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64))
    kind = np.complex128 if left.dtype.kind == "c" else np.float64
    with np.errstate(over="ignore"):
        return np.asarray(np.abs(left.astype(kind) - right.astype(kind)))


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _worst(reports: Sequence[OutputReport]) -> OutputReport:
    """The report of several runs that says most: a difference before none, the largest before smaller ones."""
    return max(reports, key=lambda r: (not r.equal, r.max_abs_error is None, r.max_abs_error or 0.0))


def _diagnose(
    model: Model,
    parts: Parts,
    feed: Feeds,
    *,
    optimize: bool,
    rtol: float,
    atol: float,
) -> tuple[str | None, str]:
    """Which section is the first to differ, or why the values cannot be compared at all.

    In sessions of their own: a seeded op begins again there, one without a seed does not.
    """
    tensors = list(dict.fromkeys(p.tensor for part in parts for p in part.outputs if p.tensor in model.index.tensors))
    with ExitStack() as opened:
        whole, sections = _open(opened, model, parts, optimize)
        again = opened.enter_context(closing(_Runner("whole", model, optimize)))
        expected = dict(zip(tensors, whole.run(feed, tensors), strict=True))
        repeated = dict(zip(tensors, again.run(feed, tensors), strict=True))
        values = run_parts(parts, feed, sections)

    def equal(tensor: str, other: Mapping[str, Array]) -> bool:
        return compare(tensor, expected[tensor], other[tensor], rtol=rtol, atol=atol).equal

    if not all(equal(t, repeated) for t in parts.outputs if t in expected):
        nodes = [
            n.name for n in model.index.nodes if n.stateful and ("Random" in n.op or "Multinomial" in n.op or "Shuffle" in n.op)
        ]
        named = f" ({', '.join(nodes[:3])}{' …' if len(nodes) > 3 else ''})" if nodes else ""
        return None, f"the whole gives other values each time it runs{named}, so nothing can be compared with it"
    for part in parts:
        if not all(equal(p.tensor, values) for p in part.outputs if p.tensor in expected):
            return part.name, ""
    return None, ""
