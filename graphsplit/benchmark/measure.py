"""Does splitting pay? Whole, sections one after the other, sections as a pipeline, in interleaved rounds of one run.

    round 1: whole │ main │ post │ sequential │ pipelined      round 2: whole │ main │ …

The machine's speed drifts; rounds expose every mode to the same drift. The whole gets all cores, each section its share.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from graphsplit.benchmark.side import Loaded, Run, Side, write_sides
from graphsplit.benchmark.verdict import Verdict, judge
from graphsplit.execution.metrics import percentile
from graphsplit.execution.options import RunOptions
from graphsplit.formats import Model, ModelLike
from graphsplit.graph.options import check_count, check_options
from graphsplit.inference.devices import check_sections
from graphsplit.inference.feeds import Feeds, check_feeds
from graphsplit.inference.fitting import fitting_feeds
from graphsplit.inference.sessions import check_runnable, open_named
from graphsplit.inference.synthesis import Synthesis, as_fed
from graphsplit.parts.parts import Parts
from graphsplit.rewrites.opening import open_parts, whole_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BenchReport", "Mode", "bench"]

_ROUNDS = 5
_PATIENCE = 300.0  # seconds for one run


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the model.

    Attributes:
        fps: Frames per second, median of the rounds.
        p50: Median latency of a frame in milliseconds.
        p95: Its 95th percentile.
    """

    fps: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured.

    Attributes:
        whole: The whole model, with all cores.
        sequential: The sections one after the other, one frame at a time.
        pipelined: The sections as a pipeline.
        sections: Section → median milliseconds alone.
        devices: Section → where it really ran.
        efficiency: Pipelined fps × seconds of the slowest section; no pipeline can exceed 1.
        ratio: Pipelined against whole, median of the rounds.
        verdict: Whether splitting pays.
        reason: Why, one sentence.
        frames: Frames for each mode.
        threads: Threads of each section's own pool; None: the default.
        transfer: Section → {"device_ms", "copy_ms"}, or None if TensorFlow does not report them (GPUs only).
        timeline: Frame → (start, end) in each section, seconds, of the last pipelined round.
    """

    whole: Mode
    sequential: Mode
    pipelined: Mode
    sections: Mapping[str, float]
    devices: Mapping[str, str]
    efficiency: float
    ratio: float
    verdict: Verdict
    reason: str
    frames: int
    threads: int | None
    transfer: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)
    timeline: tuple[tuple[tuple[float, float], ...], ...] = field(default=(), repr=False)


def bench(
    parts: Parts | ModelLike,
    feeds: Mapping[str, object] | None = None,
    *,
    model: ModelLike | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    frames: int = 100,
    progress: Callable[[int, int], object] = lambda done, total: None,
    **options: Unpack[RunOptions],
) -> BenchReport:
    """Measure a split: whole, sections one after the other, and sections as a pipeline, in turns.

    Args:
        parts: From `graphsplit.split`, the folder of a split, or anything that `graphsplit.load` takes, which is split first.
        feeds: Tensor → array, of one frame that is run again and again; inputs that are left out get synthetic values.
        model: The whole, if it is neither at hand nor where the manifest says; rewrites of the split are applied to it.
        shapes: Input → shape that the file does not state; None in it: unknown.
        frames: Frames for each mode, over all rounds.
        progress: Called with the number of measurements done and the total.
        **options: How to run the sections; see `graphsplit.execution.options.RunOptions`.

    Raises:
        TrustError: The whole or a section reaches outside itself, and `trust` is not set.
        FormatError: The whole is not where the manifest says, or a model is not frozen.
        FeedError: Feeds that do not fit.
        OptionError: An unknown option, or fewer than one frame.
        SectionNotFoundError: `devices` or `delegates` names a section that does not exist.
        GraphSplitError: A side failed to run.
    """
    check_options(bench, options, RunOptions)
    check_count("frames", frames)
    trust = options.get("trust", False)
    parts = open_parts(parts, trust=trust)
    names = [p.name for p in parts]
    check_sections("delegates", options.get("delegates"), names)
    check_sections("devices", options.get("devices"), names)
    whole_model = whole_of(parts, model, rewritten=True, trust=trust)
    check_runnable(whole_model, trust, parts.outputs)
    for part in parts:
        check_runnable(part.model, trust)
    unused = [s.name for s in whole_model.inputs if s.name not in parts.inputs]
    kept = whole_model.pruned(parts.outputs)
    fed = _frame(whole_model, kept, parts, feeds, shapes, unused, trust)
    whole_model = kept
    each = max(2, frames // _ROUNDS)
    modes = ["whole", *names, "sequential", "pipelined"]
    runs: dict[str, list[Run]] = {mode: [] for mode in modes}
    with tempfile.TemporaryDirectory(prefix="graphsplit-bench-") as temporary:
        folder = Path(temporary)
        write_sides(folder, whole_model, parts, fed)
        with Side("whole", folder, options) as whole, Side("sections", folder, options) as sections:
            for number in range(_ROUNDS):
                for place, mode in enumerate(modes):
                    runs[mode].append((whole if mode == "whole" else sections).run(mode, each))
                    progress(number * len(modes) + place + 1, _ROUNDS * len(modes))
            loaded = sections.loaded
    return _report(runs, names, each, loaded, options.get("threads"))


def _frame(
    model: Model,
    kept: Model,
    parts: Parts,
    feeds: Mapping[str, object] | None,
    shapes: Mapping[str, Sequence[int | None]] | None,
    unused: Sequence[str],
    trust: bool,
) -> Feeds:
    """Feeds of one frame that the whole takes.

    Args:
        model: The whole, whose inputs may all be fed.
        kept: The whole without what the outputs of the parts do not need.
        parts: The sections.
        feeds, shapes: As of `bench`.
        unused: Inputs of the whole that no section reads.
        trust: Run a model that needs trust.
    """
    names = {s.name for s in kept.inputs}
    chosen = {t: v for t, v in parts.feeds.items() if t in names}
    stated = {t: v["shape"] for t, v in chosen.items() if isinstance(v, Mapping)} | dict(shapes or {})
    synthesis = Synthesis(kept, shapes=stated)
    fixed = check_feeds(model.inputs, feeds or {}, optional=[s.name for s in model.inputs])
    fixed = {t: v for t, v in fixed.items() if t in names}
    fixed |= as_fed(kept.inputs, {t: v for t, v in chosen.items() if not isinstance(v, Mapping) and t not in fixed})
    if all(n in fixed or i.spec.optional for n, i in synthesis.inputs.items()):
        return fixed
    if not synthesis.is_open(fixed):
        unread = [s.name for s in model.inputs if s.name not in synthesis.inputs]
        return check_feeds(model.inputs, synthesis.feeds(fixed=fixed)[0], optional=[*unused, *unread])
    return fitting_feeds(
        synthesis,
        lambda: open_named(kept, "the whole model", "whole", trust=trust, timeout=_PATIENCE, outputs=parts.outputs),
        parts.outputs,
        fixed=fixed,
    )[0]


def _report(runs: Mapping[str, Sequence[Run]], names: Sequence[str], each: int, loaded: Loaded, threads: int | None) -> BenchReport:
    def mode(name: str) -> Mode:
        latencies = [1000 * t for r in runs[name] for t in r["latencies"]]
        return Mode(median(each / r["seconds"] for r in runs[name]), percentile(latencies, 0.5), percentile(latencies, 0.95))

    sections = {n: 1000 * percentile([t for r in runs[n] for t in r["latencies"]], 0.5) for n in names}
    slowest = max(sections, key=lambda n: sections[n])
    ratio = median(w["seconds"] / p["seconds"] for w, p in zip(runs["whole"], runs["pipelined"], strict=True))
    efficiency = median(
        each / p["seconds"] * percentile(s["latencies"], 0.5) for p, s in zip(runs["pipelined"], runs[slowest], strict=True)
    )
    verdict, reason = judge(ratio, sections, loaded["devices"])
    return BenchReport(
        whole=mode("whole"),
        sequential=mode("sequential"),
        pipelined=mode("pipelined"),
        sections=sections,
        devices=loaded["devices"],
        efficiency=efficiency,
        ratio=ratio,
        verdict=verdict,
        reason=reason,
        frames=each * _ROUNDS,
        threads=threads,
        transfer=loaded["transfer"],
        timeline=tuple(tuple((a, b) for a, b in frame) for frame in runs["pipelined"][-1]["timeline"]),
    )
