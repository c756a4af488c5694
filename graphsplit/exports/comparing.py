"""An export against its source: both run on the same feeds, every output compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphsplit.errors import FeedError, SectionRunError
from graphsplit.exports.joining import join
from graphsplit.exports.sources import Source, Written
from graphsplit.exports.targets import Target
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.adapters import runtime_of
from graphsplit.inference.feeds import Feeds, check_feeds, made_feeds
from graphsplit.inference.sessions import NamedSession, open_named
from graphsplit.runtimes.arrays import dtype_name
from graphsplit.verification.compare import OutputReport, compare
from graphsplit.verification.report import Report

__all__ = ["Comparison", "compare_export", "feeds_of"]

_TIMEOUT = 600.0  # seconds one run may take
_HINT = " (verify=False writes without comparing; feeds=… runs on other feeds)"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found.

    report   every output, over all runs
    refused  feeds that the source takes and the export does not, each with the reason: a batch of two, typically
    """

    report: Report
    refused: tuple[str, ...]


def feeds_of(source: Source, given: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None) -> list[Feeds]:
    """Feeds of the source by the names of tensors in the whole.

    given  None: made ones (see `graphsplit.inference.feeds.made_feeds`); a section gets what the sections before it make of these

    Raises FeedError, SectionRunError.
    """
    if given is not None:
        several = [given] if isinstance(given, Mapping) else list(given)
        if not several:
            raise FeedError(["no feeds, so nothing would be compared; give at least one, or None for made ones"])
        specs = [TensorSpec(p.tensor, p.dtype, p.shape) for p in source.inputs]
        return [check_feeds(specs, feed) for feed in several]
    # A section that was exported before is no GraphDef any more: what comes behind it is fed what is made up for it.
    if len(source.sections) < 2 or not all(runtime_of(p.model).imports_graphs for p in source.sections):
        tensors = {p.name: p.tensor for p in source.inputs}
        return [{tensors[name]: value for name, value in feed.items() if name in tensors} for feed in made_feeds(source.model)]
    model, names = join(source.sections, [p.tensor for p in source.outputs])
    wanted = [p.tensor for p in source.inputs]
    found: list[Feeds] = []
    before = open_named(model, "the sections before", "", trust=True, optimize=False, timeout=_TIMEOUT, hint=_HINT)
    with closing(before) as session:  # trusted: `find_source` has checked each of them
        for feed in made_feeds(model):
            try:
                values = session.run(feed, [names[t] for t in wanted])
            except SectionRunError:
                if found:  # a batch of two that it does not take
                    continue
                raise
            found.append(dict(zip(wanted, values, strict=True)))
    return found


def compare_export(
    source: Source, target: Target, path: Path, written: Written, feeds: Sequence[Feeds], *, rtol: float, atol: float
) -> Comparison:
    """Run source and export on feeds and compare. Raises SectionRunError when one of them fails on the first feed."""
    inputs, outputs = [p.tensor for p in source.inputs], [p.tensor for p in source.outputs]
    found: list[list[OutputReport]] = []
    ran: list[str] = []
    refused: list[str] = []
    with ExitStack() as opened:
        # Trusted: `find_source` has checked the source, and the export was written from it.
        session = open_named(source.model, "the source", "", trust=True, optimize=False, timeout=_TIMEOUT, hint=_HINT)
        one = opened.enter_context(closing(session))
        session = NamedSession(target.open(path, timeout=_TIMEOUT), "the export", "", timeout=_TIMEOUT, hint=_HINT)
        other = opened.enter_context(closing(session))
        for feed in feeds:
            told = ", ".join(f"{t} {dtype_name(v)}{list(v.shape)}" for t, v in feed.items())
            try:
                expected = one.run({p.name: feed[p.tensor] for p in source.inputs}, [p.name for p in source.outputs])
            except SectionRunError:
                if ran:
                    continue
                raise
            try:
                made = other.run({n: feed[t] for n, t in zip(written.inputs, inputs, strict=True)}, written.outputs)
            except SectionRunError as error:
                if not ran:
                    raise
                refused.append(f"{told}: {error}")
                continue
            ran.append(told)
            found.append([compare(t, e, m, rtol=rtol, atol=atol) for t, e, m in zip(outputs, expected, made, strict=True)])
    reports = tuple(_worst(same) for same in zip(*found, strict=True))
    equal = all(o.equal for o in reports)
    return Comparison(Report(equal, len(ran), reports, feeds=tuple(ran)), tuple(refused))


def _worst(reports: Sequence[OutputReport]) -> OutputReport:
    return max(reports, key=lambda r: (not r.equal, r.max_abs_error is None, r.max_abs_error or 0.0))
