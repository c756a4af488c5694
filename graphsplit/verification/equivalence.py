"""The proof: whole and sections on the same feeds, every output compared bit by bit.

Both sides run with the same kernels and options and without Grappler: then every legal cut is bit-equal. NaN equals
NaN; dtype and shape are compared first; integers, bools and strings are compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any, Protocol

from graphsplit.errors import FeedError, FormatError, SectionRunError
from graphsplit.formats import Model, ModelLike, as_model
from graphsplit.graph.options import check_count, check_number, hinted
from graphsplit.inference.feeds import Feeds, check_feeds, made_feeds
from graphsplit.inference.runtime import Runnable
from graphsplit.inference.sessions import NamedSession, check_runnable, open_named
from graphsplit.isolation.failures import ChildError, error_kind
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.arrays import Array, dtype_name
from graphsplit.verification.compare import OutputReport, compare
from graphsplit.verification.detections import compare_detections
from graphsplit.verification.report import Report, worst

__all__ = ["run_parts", "verify", "with_ties"]

_UNSET = {"Empty", "FakeParam"}  # ops whose values are what happens to be in memory
_TIMEOUT = 300.0  # seconds one run may take; a loop that never ends is a legal graph
_REMEDY = "feeds=… runs on other feeds, verify=False leaves the proof out"


class _Open(Protocol):
    """Opens a session of a model; `outputs` as of `graphsplit.inference.sessions.open_session`."""

    def __call__(self, model: Model, what: str, section: str, *, outputs: Sequence[str] | None = None) -> NamedSession: ...


@hinted
def verify(
    model: ModelLike,
    parts: Parts | str | PathLike[str],
    feeds: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    runs: int = 1,
    optimize: bool = False,
    trust: bool = False,
    isolate: bool = True,
) -> Report:
    """Run whole and sections on the same feeds and compare every output. A difference is reported, not raised.

    Args:
        model: The whole: a model, or anything that `graphsplit.load` takes.
        parts: Its sections, or the folder of its split.
        feeds: {tensor: array}, or several of these; None: synthetic ones, see `graphsplit.inference.feeds.made_feeds`, of
            which a batch of two is left out if the whole refuses it.
        rtol: Relative tolerance; 0 and 0 mean bit for bit.
        atol: Absolute tolerance.
        runs: Number of synthetic feeds of each batch size.
        optimize: Run both sides with Grappler, as deployed; differences by rounding are then not the fault of the cut.
        trust: Run models that reach files, the network or Python.
        isolate: Run in a child process with a deadline and a bound on memory (see `graphsplit.isolation.shared`); False: in
            this one.

    Raises:
        OptionError: for a tolerance below 0, or fewer than one run.
        FeedError: for feeds that do not fit.
        TrustError: if the whole or a section needs trust.
        FormatError: for a model that is not frozen, or lacks inputs or outputs of the parts.
        SectionRunError: if the whole or a section fails to run, crashes, or takes too much time or memory.
    """
    check_count("runs", runs)
    check_number("rtol", rtol)
    check_number("atol", atol)
    model = as_model(model, trust=trust, isolate=isolate)
    parts = parts if isinstance(parts, Parts) else load_parts(parts)
    _check_belongs(model, parts)
    check_runnable(model, trust, parts.outputs)
    for part in parts:
        check_runnable(part.model, trust)
    unused = [s.name for s in model.inputs if s.name not in parts.inputs]
    several = made_feeds(model, runs=runs) if feeds is None else _several(feeds)
    several = [check_feeds(model.inputs, feed, optional=unused) for feed in several]
    opening = partial(open_named, trust=trust, optimize=optimize, timeout=_TIMEOUT, isolate=isolate)
    try:
        return _compared(model, parts, several, opening, synthetic=feeds is None, rtol=rtol, atol=atol)
    except SectionRunError as error:
        cause = error.__cause__
        if not isinstance(cause, (ChildError, TimeoutError)):
            raise
        raise SectionRunError(f"{error}; {_REMEDY}", section=error.section) from cause


def _compared(
    model: Model, parts: Parts, several: Sequence[Feeds], opening: _Open, *, synthetic: bool, rtol: float, atol: float
) -> Report:
    """The report of `verify`, of feeds that fit."""
    found: list[list[OutputReport]] = []
    ran: list[Feeds] = []
    divergent: str | None = None
    reason = ""
    ties = 0
    refused: SectionRunError | None = None
    with ExitStack() as opened:
        whole, sections = _open(opened, model, parts, opening)
        for feed in several:
            try:
                expected = whole.run(feed, list(parts.outputs))
            except SectionRunError as error:
                if not synthetic or not _refused(error):
                    raise
                refused = refused or error
                continue
            # A section in another format lacks the default of an input: it gets the one that the whole computes.
            if left := [p.tensor for p in parts.input_ports if not p.optional and p.tensor not in feed]:
                feed = feed | dict(zip(left, whole.run(feed, left), strict=True))
            ran.append(feed)
            values = run_parts(parts, feed, sections)
            reports = [compare(t, e, values[t], rtol=rtol, atol=atol) for t, e in zip(parts.outputs, expected, strict=True)]
            if parts.rewrites and not all(r.equal for r in reports):
                reports, reordered = with_ties(reports, dict(zip(parts.outputs, expected, strict=True)), values)
                ties += reordered
            found.append(reports)
            if divergent is None and not reason and not all(r.equal for r in reports):
                divergent, reason = _diagnose(model, parts, feed, opening, rtol=rtol, atol=atol)
    if refused is not None and not ran:
        advice = "the feeds were synthetic; pass real ones (feeds=…)"
        raise SectionRunError(f"{refused}; {advice}", section=refused.section) from refused
    outputs = tuple(worst(same) for same in zip(*found, strict=True))
    return Report(
        equal=all(o.equal for o in outputs),
        runs=len(ran),
        outputs=outputs,
        first_divergent_section=divergent,
        reason=reason,
        feeds=tuple(", ".join(f"{k} {dtype_name(v)}{list(v.shape)}" for k, v in feed.items()) or "defaults only" for feed in ran),
        ties=ties,
    )


def with_ties(
    reports: Sequence[OutputReport], whole: Mapping[str, Array], other: Mapping[str, Array]
) -> tuple[list[OutputReport], bool]:
    """Reports in which detections of equal scores may come in any order, and whether some did.

    Args:
        reports: Of each output, compared element by element.
        whole: Values of the outputs in the whole.
        other: Values of the same tensors from the sections.
    """
    found = compare_detections({r.tensor: whole[r.tensor] for r in reports}, other)
    if found is None or not found.equal or not found.images:
        return list(reports), False
    note = "detections of equal scores in another order"
    return [
        replace(r, equal=True, max_abs_error=0.0, max_rel_error=0.0, note=note) if r.tensor in found.tensors and not r.equal else r
        for r in reports
    ], True


def _several(feeds: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    several = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    if not several:
        raise FeedError(["no feeds, so nothing would be compared; pass at least one, or None for synthetic ones"])
    return several


def _check_belongs(model: Model, parts: Parts) -> None:
    """Refuse a model that is not the whole of these parts. Raises FormatError."""
    for kind, tensors in (("input", parts.inputs), ("output", parts.outputs)):
        if absent := [t for t in tensors if t not in model.index.tensors]:
            raise FormatError(f"the model has no {kind} {absent[0]!r}; pass the model that was split", path=model.path)


def _open(opened: ExitStack, model: Model, parts: Parts, opening: _Open) -> tuple[NamedSession, dict[str, NamedSession]]:
    """Sessions of the whole and of each section, to be closed with `opened`."""

    def named(model: Model, what: str, section: str, outputs: Sequence[str] | None = None) -> NamedSession:
        return opened.enter_context(closing(opening(model, what, section, outputs=outputs)))

    whole = named(model, "the whole model", "whole", parts.outputs)
    sections = {}
    for part in parts:
        what = f"section {part.name!r}"
        try:
            sections[part.name] = named(part.model, what, part.name)
        except FormatError as error:
            raise SectionRunError(f"{what} cannot be run: {error}", section=part.name) from error
    return whole, sections


def _refused(error: SectionRunError) -> bool:
    """Whether a model rejected what it was fed."""
    cause = error.__cause__
    return isinstance(cause, (ValueError, RuntimeError)) or error_kind(cause) == "InvalidArgumentError"


def run_parts(parts: Parts, feeds: Mapping[str, Array], sessions: Mapping[str, Runnable]) -> dict[str, Array]:
    """Run the sections in order, each seeing only its declared inputs.

    Args:
        parts: The sections.
        feeds: Tensor → array; inputs that have a default may be left out.
        sessions: Section → what runs it.

    Returns:
        The feeds and every tensor that the sections produced, by its name in the whole.
    """
    values = dict(feeds)
    for part in parts:
        inputs = {p.name: values[p.tensor] for p in part.inputs if not p.optional or p.tensor in values}
        produced = sessions[part.name].run(inputs, [p.name for p in part.outputs])
        values |= {p.tensor: v for p, v in zip(part.outputs, produced, strict=True)}
    return values


def _diagnose(
    model: Model,
    parts: Parts,
    feed: Feeds,
    opening: _Open,
    *,
    rtol: float,
    atol: float,
) -> tuple[str | None, str]:
    """Which section is the first to differ, or why the values cannot be compared at all.

    In sessions of their own: a seeded op begins again there, one without a seed does not.
    """
    tensors = list(dict.fromkeys(p.tensor for part in parts for p in part.outputs if p.tensor in model.index.tensors))
    with ExitStack() as opened:
        whole, sections = _open(opened, model, parts, opening)
        again = opened.enter_context(closing(opening(model, "the whole model", "whole", outputs=parts.outputs)))
        expected = dict(zip(tensors, whole.run(feed, tensors), strict=True))
        repeated = dict(zip(tensors, again.run(feed, tensors), strict=True))
        values = run_parts(parts, feed, sections)

    def equal(tensor: str, other: Mapping[str, Array]) -> bool:
        return compare(tensor, expected[tensor], other[tensor], rtol=rtol, atol=atol).equal

    differing = [t for t in parts.outputs if t in expected and not equal(t, values)]
    read = model.index.ancestors(model.index.producer[t] for t in differing)
    unset = [n.name for n in model.index.nodes if n.op in _UNSET and n.name in read]
    if unset or not all(equal(t, repeated) for t in parts.outputs if t in expected):
        nodes = unset or [
            n.name for n in model.index.nodes if n.stateful and ("Random" in n.op or "Multinomial" in n.op or "Shuffle" in n.op)
        ]
        named = f" ({', '.join(nodes[:3])}{' …' if len(nodes) > 3 else ''})" if nodes else ""
        return None, f"the whole is not deterministic{named}, so nothing can be compared with it"
    for part in parts:
        if not all(equal(p.tensor, values) for p in part.outputs if p.tensor in expected):
            return part.name, ""
    return None, ""
