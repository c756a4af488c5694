"""The proof: whole and sections on the same feeds, every output compared bit by bit.

Both sides run with the same kernels and options and without Grappler: then every legal cut is bit-equal. NaN equals
NaN; dtype and shape are compared first; integers, bools and strings are compared as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import chain
from os import PathLike
from typing import Any, Protocol

from graphsplit.errors import FeedError, FormatError, SectionRunError
from graphsplit.formats import Model, ModelLike, as_model
from graphsplit.graph.index import Node
from graphsplit.graph.options import check_count, check_number, hinted
from graphsplit.graph.training import training_note
from graphsplit.inference.feeds import Feeds, check_feeds
from graphsplit.inference.fitting import ADVICE, fitting_feeds, was_refused
from graphsplit.inference.runtime import Runnable
from graphsplit.inference.sessions import NamedSession, check_runnable, open_named
from graphsplit.inference.synthesis import Synthesis, as_fed
from graphsplit.isolation.failures import ChildError
from graphsplit.parts.manifest import load_parts
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.arrays import Array, dtype_name
from graphsplit.verification.compare import OutputReport, compare
from graphsplit.verification.detections import compare_detections
from graphsplit.verification.report import Report, worst

__all__ = ["run_parts", "verify", "with_ties"]

_UNSET = {"Empty", "FakeParam"}  # ops whose values are what happens to be in memory
_RANDOM = re.compile(r"Random|Multinomial|TruncatedNormal|SampleDistortedBoundingBox")
_STATEFUL = 3  # runs of a model that carries values from one to the next
_FEW = 16  # elements of a fed value that a manifest holds
_TIMEOUT = 300.0  # seconds one run may take; a loop that never ends is a legal graph
_REMEDY = "feeds=… and shapes=… run on other feeds, verify=False leaves the proof out"


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
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    optimize: bool = False,
    trust: bool = False,
    isolate: bool = True,
) -> Report:
    """Run whole and sections on the same feeds and compare every output. A difference is reported, not raised.

    Values of random ops are drawn once for both sides, wherever they lie outside of loops and functions.

    Args:
        model: The whole: a model, or anything that `graphsplit.load` takes.
        parts: Its sections, or the folder of its split.
        feeds: {tensor: array}, or several of these. Inputs that a single one leaves out get synthetic values, and so do all
            inputs with None, see `graphsplit.inference.synthesis.Synthesis`; of these a batch of two is left out if the whole
            refuses it.
        rtol: Relative tolerance; 0 and 0 mean bit for bit.
        atol: Absolute tolerance.
        runs: Number of synthetic feeds of each batch size.
        shapes: Input → shape that the file does not state, for synthetic feeds; None in it: unknown.
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
    model = model.fed_with(parts.inputs)
    _check_belongs(model, parts)
    check_runnable(model, trust, parts.outputs)
    for part in parts:
        check_runnable(part.model, trust)
    unused = [s.name for s in model.inputs if s.name not in parts.inputs]
    whole = model.pruned(parts.outputs)
    if whole.section_format == "tflite" and any(n.stateful for n in whole.index.nodes):
        runs = max(runs, _STATEFUL)
    gone = {s.name for s in model.inputs} - {s.name for s in whole.inputs}
    # What an earlier proof chose, and the manifest keeps.
    kept = {t: v for t, v in parts.feeds.items() if (feeds is None or isinstance(feeds, Mapping)) and t not in gone}
    stated = {t: v["shape"] for t, v in kept.items() if isinstance(v, Mapping)} | dict(shapes or {})
    synthesis = Synthesis(whole, shapes={t: s for t, s in stated.items() if not {t, f"{t}:0"} & gone})
    unused += [s.name for s in model.inputs if s.name not in synthesis.inputs]
    attempts: Iterable[list[Feeds]]
    if feeds is None or isinstance(feeds, Mapping):
        fixed = check_feeds(model.inputs, feeds or {}, optional=[s.name for s in model.inputs])
        values = {t: v for t, v in kept.items() if not isinstance(v, Mapping) and t not in fixed}
        fixed = {t: v for t, v in fixed.items() if t not in gone} | as_fed(whole.inputs, values)
        synthetic = any(n not in fixed and not i.spec.optional for n, i in synthesis.inputs.items()) or not fixed
        attempts = _attempts(synthesis, parts, fixed, runs, trust) if synthetic else [[fixed]]
    else:
        fixed, synthetic = {}, False
        checked = [check_feeds(model.inputs, feed, optional=unused) for feed in _several(feeds)]
        attempts = [[{t: v for t, v in feed.items() if t not in gone} for feed in checked]]
    tried = iter(attempts)
    attempts = chain([next(tried)], tried)  # what is too large to be fed is refused before anything is opened
    opening = partial(open_named, trust=trust, optimize=optimize, timeout=_TIMEOUT, isolate=isolate)
    try:
        return _compared(whole, parts, synthesis if synthetic else None, attempts, fixed, opening, rtol=rtol, atol=atol)
    except SectionRunError as error:
        cause = error.__cause__
        if not isinstance(cause, (ChildError, TimeoutError)):
            raise
        raise SectionRunError(f"{error}; {_REMEDY}", section=error.section) from cause


def _compared(
    model: Model,
    parts: Parts,
    synthesis: Synthesis | None,
    attempts: Iterable[list[Feeds]],
    fixed: Feeds,
    opening: _Open,
    *,
    rtol: float,
    atol: float,
) -> Report:
    """The report of `verify`, of the first feeds that the whole takes; of those that are not synthetic it has to take all."""
    found: list[list[OutputReport]] = []
    ran: list[Feeds] = []
    divergent: str | None = None
    reason = ""
    ties = 0
    refused: SectionRunError | None = None
    drawn = _random_tensors(model, parts)
    with ExitStack() as opened:
        whole, sections = _open(opened, model, parts, opening)
        for several in attempts:
            for feed in several:
                try:
                    alike = dict(zip(drawn, whole.run(feed, drawn), strict=True))
                    expected = whole.run(feed | alike, list(parts.outputs))
                except SectionRunError as error:
                    if synthesis is None or not was_refused(error):
                        raise
                    refused = refused or error
                    continue
                # A section in another format lacks the default of an input: it gets the one that the whole computes.
                if left := [p.tensor for p in parts.input_ports if not p.optional and p.tensor not in feed]:
                    feed = feed | dict(zip(left, whole.run(feed, left), strict=True))
                ran.append(feed)
                values = run_parts(parts, feed, sections, alike)
                reports = [compare(t, e, values[t], rtol=rtol, atol=atol) for t, e in zip(parts.outputs, expected, strict=True)]
                if parts.rewrites and not all(r.equal for r in reports):
                    reports, reordered = with_ties(reports, dict(zip(parts.outputs, expected, strict=True)), values)
                    ties += reordered
                found.append(reports)
                if divergent is None and not reason and not all(r.equal for r in reports):
                    divergent, reason = _diagnose(model, parts, feed, alike, opening, rtol=rtol, atol=atol)
            if ran:
                break
    if refused is not None and not ran:
        raise SectionRunError(f"{refused}; {ADVICE}{_note(model, parts)}", section=refused.section) from refused
    outputs = tuple(worst(same) for same in zip(*found, strict=True))
    return Report(
        equal=all(o.equal for o in outputs),
        runs=len(ran),
        outputs=outputs,
        first_divergent_section=divergent,
        reason=reason,
        feeds=tuple(", ".join(f"{k} {_fed_text(v)}" for k, v in feed.items()) or "defaults only" for feed in ran),
        ties=ties,
        chosen=_chosen(model, ran[0], fixed, synthesis) if ran else {},
        drawn=drawn,
    )


def _attempts(synthesis: Synthesis, parts: Parts, fixed: Feeds, runs: int, trust: bool) -> Iterator[list[Feeds]]:
    """Synthetic feeds; where something about the inputs is unknown, or the first ones were refused, those that the whole takes."""
    if not synthesis.is_open(fixed):
        yield synthesis.feeds(runs=runs, fixed=fixed)
    model, outputs = synthesis.model, list(dict.fromkeys((*parts.outputs, *parts.borders)))
    # In the child process in any case: kernels may crash on what they are tried on.
    opening = partial(open_named, model, "the whole model", "whole", trust=trust, timeout=_TIMEOUT, outputs=parts.outputs)
    try:
        yield fitting_feeds(synthesis, partial(opening, optimize=False), outputs, runs=runs, fixed=fixed)
    except SectionRunError as error:
        raise SectionRunError(f"{error}{_note(model, parts)}", section=error.section) from error.__cause__


def _note(model: Model, parts: Parts) -> str:
    note = training_note(model.index, parts.outputs)
    return f", or cut anew: {note}" if note else ""


def _fed_text(value: Array) -> str:
    """``float32[1, 784]``; of a single number or flag also its value."""
    text = f"{dtype_name(value)}{list(value.shape)}"
    return f"{text} = {value.item()}" if value.ndim == 0 and value.dtype.kind in "biuf" else text


def _chosen(model: Model, feed: Feeds, fixed: Feeds, synthesis: Synthesis | None) -> dict[str, object]:
    """What a proof ran on and the file does not state: small values as they are, else {"shape": …}."""
    chosen: dict[str, object] = {}
    for spec in model.inputs:
        if spec.name not in feed:
            continue
        value = feed[spec.name]
        if spec.name not in fixed and spec.shape is not None and (None not in spec.shape[1:] or len(spec.shape) == 4):
            continue
        if value.size <= _FEW and value.dtype.kind in "biuf" and (spec.name in fixed or value.ndim == 0):
            chosen[spec.name] = value.tolist()
        else:
            known = None if synthesis is None or spec.name in fixed else synthesis.inputs[spec.name].shape
            batch = known is not None and known[:1] == (None,)
            chosen[spec.name] = {"shape": [None, *value.shape[1:]] if batch else list(value.shape)}
    return chosen


def _is_unset(model: Model, node: Node) -> bool:
    """Whether an output of a node is what happens to be in memory."""
    return node.op in _UNSET or (node.op == "Svd" and "false" in model.attributes(node.name).get("compute_uv", ""))


def _random_tensors(model: Model, parts: Parts) -> tuple[str, ...]:
    """Outputs of random ops that both sides can be fed: outside of loops, branches and functions, and in some section."""
    if model.section_format != "graphdef":
        return ()
    index = model.index
    held = [part.model.index.name_to_node_map for part in parts if part.model.section_format == "graphdef"]
    return tuple(
        t
        for n in index.nodes
        if n.stateful and _RANDOM.search(n.op) and any(n.name in nodes for nodes in held)
        for t in n.outputs
        if t not in index.captive and index.tensors[t].dtype not in ("resource", "variant")
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


def run_parts(
    parts: Parts, feeds: Mapping[str, Array], sessions: Mapping[str, Runnable], alike: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Run the sections in order, each seeing only its declared inputs.

    Args:
        parts: The sections.
        feeds: Tensor → array; inputs that have a default may be left out.
        sessions: Section → what runs it.
        alike: Inner tensor → array that is used instead of what the section that holds it would draw.

    Returns:
        The feeds and every tensor that the sections produced, by its name in the whole.
    """
    values = dict(feeds)
    for part in parts:
        inputs = {p.name: values[p.tensor] for p in part.inputs if not p.optional or p.tensor in values}
        inner = {t: v for t, v in (alike or {}).items() if t in part.model.index.tensors and t not in inputs}
        produced = sessions[part.name].run(inputs | inner, [p.name for p in part.outputs])
        values |= {p.tensor: v for p, v in zip(part.outputs, produced, strict=True)}
    return values


def _diagnose(
    model: Model,
    parts: Parts,
    feed: Feeds,
    alike: Feeds,
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
        expected = dict(zip(tensors, whole.run(feed | alike, tensors), strict=True))
        repeated = dict(zip(tensors, again.run(feed | alike, tensors), strict=True))
        values = run_parts(parts, feed, sections, alike)

    def equal(tensor: str, other: Mapping[str, Array]) -> bool:
        return compare(tensor, expected[tensor], other[tensor], rtol=rtol, atol=atol).equal

    differing = [t for t in parts.outputs if t in expected and not equal(t, values)]
    read = model.index.ancestors(model.index.producer[t] for t in differing)
    unset = [n.name for n in model.index.nodes if n.name in read and _is_unset(model, n)]
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
