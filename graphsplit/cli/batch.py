"""graphsplit batch: an archive of pictures and videos → files of rows, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.cli.arguments import (
    Subparsers,
    add_command,
    add_cut,
    add_devices,
    add_fuse_nms,
    add_model,
    add_threads,
    count,
    cut_of,
)
from graphsplit.cli.detect import pixels, score
from graphsplit.cli.printing import print_json, say
from graphsplit.cli.progress import bar
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.graph.text import count_text

if TYPE_CHECKING:
    from graphsplit.batching import Item, Summary
    from graphsplit.batching.events import Event
    from graphsplit.batching.options import RayOptions
    from graphsplit.batching.running import Engine

__all__ = ["add"]

_REJECTED = 4  # finished, with some inputs rejected
_SHOWN = 10  # rejects that are printed; all of them are in the file


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "batch",
        run,
        "find things in an archive of images, folders and videos; rows to files",
        "Find things in an archive of images, folders and videos. One row a frame: source, frame, boxes (normalised), scores, "
        "classes. What cannot be read is listed in OUT/rejects.jsonl with the reason, and the status is 4. --resume continues "
        "after an interruption.",
    )
    add_model(parser, or_split=True)
    parser.add_argument("sources", metavar="INPUT", nargs="+", help="image, folder (with its subfolders), video")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="folder for the rows, new or empty")
    add_cut(parser)
    parser.add_argument("--resume", action="store_true", help="continue in OUT; what is finished there is not done again")
    parser.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl", help="of the rows (default jsonl)")
    parser.add_argument("--threshold", type=score, default=0.5, metavar="T", help="leave out scores below it (default 0.5)")
    parser.add_argument(
        "--sources-per-part", type=count, default=64, metavar="N", help="whole sources in one file of OUT (default 64)"
    )
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "--engine",
        choices=("ray", "local"),
        help="ray: actors of a cluster; local: a pipeline here. Both write the same (default: local; ray with --address)",
    )
    add_threads(how, default=1, note="1: the same rows on every machine; other numbers may round differently")
    add_devices(how)
    how.add_argument("--pixels", type=pixels, metavar="LOW,HIGH", help="values of 0 and 255 in a float input (default 0,255)")
    add_fuse_nms(how)
    ray = parser.add_argument_group("with --engine ray", "stages: read (with pre), each section in between, answer (with post)")
    ray.add_argument("--address", metavar="HOST:PORT", help="a cluster, or `auto` (default: RAY_ADDRESS, else one on this machine)")
    ray.add_argument("--batch-size", type=count, metavar="N", help="frames an actor takes at a time (default 8)")
    ray.add_argument(
        "--actors", action="append", type=_number, default=[], metavar="STAGE=N", help="actors of a stage (default: what fits)"
    )
    ray.add_argument(
        "--cpus", action="append", type=_share, default=[], metavar="STAGE=X", help="CPUs of each actor of a stage, also 0.5"
    )
    ray.add_argument(
        "--gpus", action="append", type=_share, default=[], metavar="STAGE=X", help="GPUs of each actor of a stage, also 0.5"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    engine: Engine = args.engine or ("ray" if args.address or os.environ.get("RAY_ADDRESS") else "local")
    if not args.verbose:  # OpenCV and its FFmpeg log to stderr, where one line of ours is promised
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    ray: RayOptions = {
        "address": args.address,
        "batch_size": args.batch_size,
        "actors": dict(args.actors),
        "cpus": dict(args.cpus),
        "gpus": dict(args.gpus),
        "verbose": args.verbose,
    }
    from graphsplit.batching.events import End
    from graphsplit.batching.running import run_batch
    from graphsplit.detection.extras import quiet_opencv

    with quiet_opencv(), quiet_tensorflow(args.verbose), warnings.catch_warnings(), bar("sources") as advance:
        warnings.simplefilter("ignore", UserWarning)  # a section that wants a device that is not here runs on the CPU

        def progress(event: Event, items: Sequence[Item]) -> None:
            if isinstance(event, End):
                advance(event.source + 1, len(items))

        summary = run_batch(
            args.model,
            args.sources,
            args.out,
            engine=engine,
            format=args.format,
            threshold=args.threshold,
            resume=args.resume,
            sources_per_part=args.sources_per_part,
            threads=args.threads,
            devices=dict(args.device),
            pixels=args.pixels,
            trust=args.trust,
            ray=ray,
            progress=progress,
            fuse_nms=args.fuse_nms,
            **cut_of(args),
        )
    if args.json:
        print_json(_answer(summary, engine))
    else:
        _print(summary, engine)
    return _REJECTED if summary.rejects else 0


def _answer(summary: Summary, engine: str) -> dict[str, object]:
    return {
        "out": str(summary.folder),
        "engine": engine,
        "files": list(summary.files),
        "sources": summary.sources,
        "resumed": summary.resumed,
        "frames": summary.frames,
        "answered": summary.answered,
        "rejects": [dict(r) for r in summary.rejects],
        "seconds": round(summary.seconds, 3),
        "cut": summary.cut,
        "notes": list(summary.notes),
    }


def _print(summary: Summary, engine: str) -> None:
    say(f"cut: {summary.cut}")
    for note in summary.notes:
        say(f"note: {note}")
    again = f" ({summary.resumed} of them finished before)" if summary.resumed else ""
    sources, frames, files = (
        count_text(n, noun) for n, noun in ((summary.sources, "source"), (summary.frames, "frame"), (len(summary.files), "file"))
    )
    say(f"{sources}{again}, {frames} in {files} of {summary.folder}")
    rate = summary.answered / summary.seconds if summary.seconds else 0.0
    say(f"{engine}: {count_text(summary.answered, 'frame')} in {summary.seconds:.1f} s, {rate:.1f} a second")
    for reject in summary.rejects[:_SHOWN]:
        say(f"rejected: {reject['source']}: {reject['reason']}")
    if summary.rejects:
        say(f"{count_text(len(summary.rejects), 'reject')} in {Path(summary.folder) / 'rejects.jsonl'}")


def _number(text: str) -> tuple[str, int]:
    """``STAGE=N``."""
    stage, _, number = text.partition("=")
    if not (stage and number.isdigit() and int(number) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE=N, as in read=2")
    return stage, int(number)


def _share(text: str) -> tuple[str, float]:
    """``STAGE=X``."""
    stage, _, number = text.partition("=")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not stage or not 0 <= share < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE=X, as in main=0.5")
    return stage, share
