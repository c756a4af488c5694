"""The comparison of an export with its source: both run on the same feeds, output by output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from graphsplit.errors import FeedError, SectionRunError
from graphsplit.exports.joining import join
from graphsplit.exports.sources import Source, Written
from graphsplit.exports.targets import Target
from graphsplit.formats import Model
from graphsplit.inference.adapters import runtime_of
from graphsplit.inference.feeds import Feeds, check_feeds
from graphsplit.inference.fitting import fitting_feeds
from graphsplit.inference.sessions import NamedSession, open_named
from graphsplit.inference.synthesis import Synthesis
from graphsplit.runtimes.arrays import dtype_name
from graphsplit.verification.compare import OutputReport, compare
from graphsplit.verification.report import Report

__all__ = ["Comparison", "compare_export", "feeds_of"]

_TIMEOUT = 600.0  # seconds one run may take
_HINT = " (verify=False writes without comparing; feeds=… runs on other feeds)"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        report: Every output, over all runs.
        refused: Feeds that the source accepts and the export does not (typically a batch of two), each with the reason.
    """

    report: Report
    refused: tuple[str, ...]


def feeds_of(
    source: Source,
    feeds: Mapping[str, ArrayLike] | Iterable[Mapping[str, ArrayLike]] | None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
) -> list[Feeds]:
    """The feeds to compare on, by names of tensors of the whole.

    Args:
        source: What is exported.
        feeds: {tensor: array}, or several of these. None: synthetic ones (see `graphsplit.inference.synthesis.Synthesis`), as for
            inputs of a whole that a single one leaves out; a section gets what the sections before it compute from them.
        shapes: Input → shape that the file does not state, for synthetic feeds.

    Raises:
        FeedError: Feeds do not fit the inputs.
        SectionRunError: A section before, or the source, fails to run.
    """
    specs = [p.spec for p in source.inputs]
    if feeds is not None and not (isinstance(feeds, Mapping) and source.section is None):
        several = [feeds] if isinstance(feeds, Mapping) else list(feeds)
        if not several:
            raise FeedError(["no feeds, so nothing would be compared; pass at least one, or None for synthetic ones"])
        return [check_feeds(specs, feed) for feed in several]
    # After a section that was exported to another format the others are not joined; the section gets synthetic inputs.
    if len(source.sections) < 2 or not all(runtime_of(p.model).imports_graphs for p in source.sections):
        tensors = {p.name: p.tensor for p in source.inputs}
        names = {p.tensor: p.name for p in source.inputs}
        fixed = check_feeds(specs, feeds or {}, optional=[s.name for s in specs])
        given = {names[t]: v for t, v in fixed.items()}
        stated = {names.get(t, t): tuple(shape) for t, shape in (shapes or {}).items()}
        accepted = _accepted(source.model, [p.name for p in source.outputs], given, stated)
        return [{tensors[name]: value for name, value in feed.items() if name in tensors} for feed in accepted]
    model, joined = join(source.sections, [p.tensor for p in source.outputs])
    inputs = [p.tensor for p in source.inputs]
    computed: list[Feeds] = []
    before = open_named(model, "the sections before", "", trust=True, optimize=False, timeout=_TIMEOUT, hint=_HINT)
    accepted = _accepted(model, [joined[t] for t in inputs], {}, shapes or {})
    with closing(before) as session:  # trusted: `find_source` has checked each of them
        for feed in accepted:
            try:
                values = session.run(feed, [joined[t] for t in inputs])
            except SectionRunError:
                if computed:  # not a model for a batch of two
                    continue
                raise
            computed.append(dict(zip(inputs, values, strict=True)))
    return computed


def _accepted(model: Model, outputs: Sequence[str], fixed: Feeds, shapes: Mapping[str, Sequence[int | None]]) -> list[Feeds]:
    """Synthetic feeds; those that a model takes, where something about its inputs is unknown."""
    synthesis = Synthesis(model, shapes=shapes)
    if not synthesis.is_open(fixed):
        return synthesis.feeds(fixed=fixed)
    return fitting_feeds(
        synthesis,
        lambda: open_named(model, "the source", "", trust=True, optimize=False, timeout=_TIMEOUT, hint=_HINT),
        outputs,
        fixed=fixed,
    )


def compare_export(
    source: Source, target: Target, path: Path, written: Written, feeds: Sequence[Feeds], *, rtol: float, atol: float
) -> Comparison:
    """Run source and export on the same feeds and compare their outputs.

    Args:
        source: What was exported.
        target: The deployment target.
        path: Where the export was written.
        written: Its names of inputs and outputs.
        feeds: Feeds of the source, by names of tensors of the whole.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Raises:
        SectionRunError: One of the two fails on the first feed.
    """
    inputs, outputs = [p.tensor for p in source.inputs], [p.tensor for p in source.outputs]
    outcomes: list[list[OutputReport]] = []
    ran: list[str] = []
    refused: list[str] = []
    with ExitStack() as opened:
        # Trusted: `find_source` has checked the source, and the export was written from it.
        session = open_named(source.model, "the source", "", trust=True, optimize=False, timeout=_TIMEOUT, hint=_HINT)
        whole = opened.enter_context(closing(session))
        session = NamedSession(target.open(path, timeout=_TIMEOUT), "the export", "", timeout=_TIMEOUT, hint=_HINT)
        export = opened.enter_context(closing(session))
        for feed in feeds:
            described = ", ".join(f"{t} {dtype_name(v)}{list(v.shape)}" for t, v in feed.items())
            try:
                given = {p.name: feed[p.tensor] for p in source.inputs if p.tensor in feed}
                expected = whole.run(given, [p.name for p in source.outputs])
                left = [p for p in source.inputs if p.tensor not in feed]  # an export takes all its inputs, defaults as well
                defaults = whole.run(given, [p.name for p in left])
            except SectionRunError:
                if ran:
                    continue
                raise
            try:
                fed = feed | {p.tensor: value for p, value in zip(left, defaults, strict=True)}
                results = export.run({n: fed[t] for n, t in zip(written.inputs, inputs, strict=True)}, written.outputs)
            except SectionRunError as error:
                if not ran:
                    raise
                refused.append(f"{described}: {error}")
                continue
            ran.append(described)
            values = zip(outputs, expected, results, strict=True)
            outcomes.append([compare(tensor, one, other, rtol=rtol, atol=atol) for tensor, one, other in values])
    reports = tuple(_worst(same) for same in zip(*outcomes, strict=True))
    equal = all(o.equal for o in reports)
    return Comparison(Report(equal, len(ran), reports, feeds=tuple(ran)), tuple(refused))


def _worst(reports: Sequence[OutputReport]) -> OutputReport:
    return max(reports, key=lambda r: (not r.equal, r.max_abs_error is None, r.max_abs_error or 0.0))
