"""graphsplit bench: does splitting pay on this machine?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.cli.arguments import (
    Subparsers,
    add_command,
    add_cut,
    add_delegates,
    add_fuse_nms,
    add_model,
    add_overwrite,
    add_threads,
    count,
    cut_of,
)
from graphsplit.cli.feeds import add_feeds, feeds_of, named_shapes
from graphsplit.cli.printing import print_json, say, table
from graphsplit.cli.progress import bar
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.errors import FormatError
from graphsplit.formats.atomic import check_free, check_parent
from graphsplit.parts.parts import Parts
from graphsplit.splitting.request import named_options

if TYPE_CHECKING:
    import numpy as np

    from graphsplit.benchmark.measure import BenchReport, Mode

__all__ = ["add", "print_report", "report_json"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "bench",
        run,
        "whole, sections one after the other, sections as a pipeline: measured in turns, with a verdict",
    )
    add_model(parser, or_split=True)
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", help="picture, folder or video to take a frame from (default: a synthetic one)"
    )
    add_cut(parser)
    parser.add_argument("--frames", type=count, default=100, metavar="N", help="frames for each way to run (default 100)")
    add_feeds(parser, images=False)
    add_threads(parser, note="the cores, shared between the sections; the whole always gets all of them")
    add_delegates(parser)
    add_fuse_nms(parser)
    parser.add_argument("--chart", metavar="PNG", help="draw what each stage did when, and the comparison")
    add_overwrite(parser, replaces="the chart")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.chart:
        check_free([args.chart], overwrite=args.overwrite)
        check_parent(args.chart)
    with quiet_tensorflow(args.verbose):
        from graphsplit.benchmark.measure import bench
        from graphsplit.rewrites.opening import open_parts, whole_of

        cut = cut_of(args)
        parts = open_parts(
            args.model, fuse_nms=args.fuse_nms, trust=args.trust, **(cut if named_options(cut) or args.repair != "auto" else {})
        )
        whole = whole_of(parts, trust=args.trust)
        named = feeds_of(args, whole)
        feeds = {} if args.source is None else _first_frame(parts, args.source)
        feeds |= {} if named is None or isinstance(named, list) else named
        with bar("measuring in turns") as progress:
            report = bench(
                parts,
                feeds,
                shapes=named_shapes(args),
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
        say(f"wrote {args.chart}")
    return 0


def _first_frame(parts: Parts, source: str) -> dict[str, np.ndarray]:
    from graphsplit.detection.images import picture_input
    from graphsplit.detection.sources import open_source

    ports = {p.tensor: p for part in parts for p in part.inputs if p.tensor in parts.inputs}
    picture = picture_input(list(ports.values()), pixels=None)
    first = next(iter(open_source(source)), None)
    if first is None:
        raise FormatError("no picture in it", path=source)
    return {picture.tensor: picture.feed(first.image)}


def report_json(report: BenchReport) -> dict[str, object]:
    """The answer with --json."""

    def mode(found: Mode) -> dict[str, object]:
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


def print_report(report: BenchReport) -> None:
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
    for name, times in report.transfer.items():
        if times:
            say(f"{name}: {times['device_ms']:.2f} ms in kernels, {times['copy_ms']:.2f} ms copying")
    if report.devices and all("cpu" in d for d in report.devices.values()):
        share = f"{report.threads} thread(s) each" if report.threads else "an equal share of the cores each"
        say(f"no accelerator was used: the sections ran on the CPU with {share}, the whole with all cores")
    say(f"efficiency of the pipeline: {report.efficiency:.2f} of what its slowest section allows")
    say(f": {report.reason}", bold=report.verdict)
