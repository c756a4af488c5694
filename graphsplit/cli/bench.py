"""graphsplit bench: does splitting pay on this machine?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from graphsplit.cli.arguments import add_command, add_cut, add_delegate, count, cut_of
from graphsplit.cli.printing import console, print_json, quiet_tensorflow, table
from graphsplit.cli.rewrite import add_fuse_nms
from graphsplit.cli.verify import whole_of
from graphsplit.errors import CutError, FormatError, OverwriteError
from graphsplit.formats import Model, as_graphdef, load
from graphsplit.parts.folder import MANIFEST, load_parts
from graphsplit.parts.parts import Parts

__all__ = ["add", "print_report", "report_json"]


def add(commands: Any) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "bench",
        run,
        "whole, sections one after the other, sections as a pipeline: measured in turns, with a verdict",
    )
    parser.add_argument("model", metavar="MODEL|DIR", help="a model, or the folder of a split")
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="picture, folder or video to take a frame from (default: made)")
    add_cut(parser)
    parser.add_argument("--frames", type=count, default=100, metavar="N", help="frames for each way to run (default 100)")
    parser.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads of each section's own pool (default: the cores shared between them); the whole always gets all",
    )
    add_delegate(parser)
    add_fuse_nms(parser)
    parser.add_argument("--chart", metavar="PNG", help="draw what each stage did when, and the comparison")
    parser.add_argument("--overwrite", action="store_true", help="replace the chart if it is there")
    parser.add_argument("--trust", action="store_true", help="run a model that reaches files, the network or Python")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.chart and Path(args.chart).exists() and not args.overwrite:
        raise OverwriteError(f"{args.chart} exists already; --overwrite replaces it", paths=[args.chart])
    model, parts = _open(args)
    with quiet_tensorflow(args.verbose):
        from graphsplit.benchmark.measure import bench
        from graphsplit.inference.feeds import made_feeds

        feeds = made_feeds(model)[0] if args.source is None else _first_frame(parts, args.source)
        with _progress() as progress:
            report = bench(
                model,
                parts,
                feeds,
                frames=args.frames,
                threads=args.threads,
                delegates=dict(args.delegate),
                trust=args.trust,
                progress=progress,
            )
    if args.chart:
        from graphsplit.benchmark.chart import draw_chart

        draw_chart(report, args.chart, title=Path(args.model).name)
    if args.json:
        print_json({**report_json(report), "rewrites": [dict(r) for r in parts.rewrites]})
        return 0
    print_report(report)
    if args.chart:
        console().print(f"wrote {args.chart}", soft_wrap=True)
    return 0


def _open(args: argparse.Namespace) -> tuple[Model, Parts]:
    if (Path(args.model) / MANIFEST).is_file():
        if args.fuse_nms:
            raise CutError("a split was given; --fuse-nms goes with `graphsplit split`, or give the model")
        parts = load_parts(args.model)
        return _rewritten(whole_of(parts, None, trust=args.trust), parts), parts
    from graphsplit.splitting.surgery import choose, plan_choice, split

    with quiet_tensorflow(args.verbose):
        model = load(args.model, trust=args.trust)
        choice = choose(model, **cut_of(args))
        if args.fuse_nms:
            from graphsplit.rewrites import fused

            model, choice = fused(as_graphdef(model, "--fuse-nms"), choice, args.model_outputs)
        plan = plan_choice(model, choice, model_outputs=args.model_outputs, repair=args.repair)
        return model, split(model, plan, shapes=False)


def _rewritten(model: Model, parts: Parts) -> Model:
    """The whole with the rewrites of its split: both sides of a measurement are to do the same work."""
    if not parts.rewrites:
        return model
    from graphsplit.rewrites import rewrite_again

    return rewrite_again(as_graphdef(model, "a rewrite"), parts.rewrites)


def _first_frame(parts: Parts, source: str) -> dict[str, Any]:
    from graphsplit.detection.images import picture_input
    from graphsplit.detection.sources import open_source

    ports = {p.tensor: p for part in parts for p in part.inputs if p.tensor in parts.inputs}
    wanted = picture_input(list(ports.values()), pixels=None)
    first = next(iter(open_source(source)), None)
    if first is None:
        raise FormatError("no picture in it", path=source)
    return {wanted.tensor: wanted.feed(first.image)}


def _progress() -> Any:
    """A bar on a terminal, nothing in a pipe; a context that gives the function to call."""
    from contextlib import contextmanager

    @contextmanager
    def shown() -> Any:
        if not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("measuring in turns", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    return shown()


def report_json(report: Any) -> dict[str, Any]:
    """The answer with --json."""

    def mode(found: Any) -> dict[str, Any]:
        return {"fps": found.fps, "latency_ms": {"p50": found.p50, "p95": found.p95}}

    return {
        "whole": mode(report.whole),
        "sequential": mode(report.sequential),
        "pipelined": mode(report.pipelined),
        "sections": {n: {"ms_p50": ms, "device": report.devices[n]} for n, ms in report.sections.items()},
        "efficiency": report.efficiency,
        "ratio": report.ratio,
        "verdict": report.verdict,
        "reason": report.reason,
        "devices": dict(report.devices),
        "frames": report.frames,
        "threads": report.threads,
        "transfer": dict(report.transfer),
    }


def print_report(report: Any) -> None:
    """Tables of a measurement."""
    modes = [("whole", report.whole), ("sections, one after the other", report.sequential), ("pipelined", report.pipelined)]
    table(
        "Ways to run it",
        ["", "frames/s", "ms p50", "ms p95"],
        [(n, f"{m.fps:.1f}", f"{m.p50:.1f}", f"{m.p95:.1f}") for n, m in modes],
    )
    table(
        "Sections alone",
        ["section", "ms p50", "ran on"],
        [(n, f"{ms:.1f}", report.devices[n]) for n, ms in report.sections.items()],
    )
    out = console()
    for name, found in report.transfer.items():
        if found:
            out.print(f"{name}: {found['device_ms']:.2f} ms in kernels, {found['copy_ms']:.2f} ms copying", soft_wrap=True)
    if report.devices and all("cpu" in d for d in report.devices.values()):
        share = f"{report.threads} thread(s) each" if report.threads else "an equal share of the cores each"
        out.print(f"no accelerator was used: the sections ran on the CPU with {share}, the whole with all cores", soft_wrap=True)
    out.print(f"efficiency of the pipeline: {report.efficiency:.2f} of what its slowest section allows", soft_wrap=True)
    out.print(f"[bold]{report.verdict}[/]: {report.reason}", soft_wrap=True)
