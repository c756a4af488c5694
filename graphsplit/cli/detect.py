"""graphsplit detect: detect objects in images, videos and cameras; sections of the model work on several frames at once."""

from __future__ import annotations

import argparse
import os
import warnings
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.cli.arguments import (
    Subparsers,
    add_cluster,
    add_command,
    add_cut,
    add_delegates,
    add_devices,
    add_fuse_nms,
    add_model,
    add_overwrite,
    add_threads,
    count,
    cut_of,
)
from graphsplit.cli.detect_answer import Tally, answer_of, print_answer, progress
from graphsplit.cli.printing import print_json
from graphsplit.cli.progress import working
from graphsplit.cli.quiet import quiet_tensorflow
from graphsplit.cli.terminal import complain
from graphsplit.errors import OverwriteError
from graphsplit.formats import locate
from graphsplit.formats.detect import detect_format
from graphsplit.parts.manifest import find_manifest

if TYPE_CHECKING:
    from graphsplit.detection.detector import Detector
    from graphsplit.detection.pictures import Source
    from graphsplit.detection.sinks import Sink
    from graphsplit.detection.window import Window

__all__ = ["add"]

_REJECTED = 4  # finished, with some inputs rejected


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "detect",
        run,
        "detect objects in images, folders of images, videos, a camera or a stream",
        "Detect objects in images, folders of images, videos, a camera or a stream. Images that cannot be read are listed on "
        "stderr and skipped (status 4). Ctrl-C ends it cleanly and keeps the results so far (status 130, of cameras and streams "
        "0). After an error no partial output remains.",
    )
    add_model(parser, or_split=True)
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="image, folder of images or video file, also several; camera:0; rtsp://…"
    )
    add_cut(parser)
    parser.add_argument("--no-split", action="store_true", help="run the whole model as one section")
    out = parser.add_argument_group("what to do with the results")
    out.add_argument(
        "--save",
        metavar="OUT",
        help="annotated image, or video with the size and frame rate of the source; of a folder or several sources, a folder",
    )
    out.add_argument("--jsonl", metavar="OUT", help="one JSON object per frame: source, boxes (normalised), scores, classes, times")
    out.add_argument("--show", action="store_true", help="show a window; q, Escape or its button ends the run")
    add_overwrite(out, replaces="OUT")
    out.add_argument(
        "--labels",
        metavar="FILE",
        help="label map (.pbtxt), a name per line, or `coco` (default: COCO's for a model of 90 classes)",
    )
    out.add_argument("--threshold", type=score, default=0.5, metavar="T", help="omit detections with a lower score (default 0.5)")
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "--policy",
        choices=("block", "latest"),
        help="block: no frame is lost (default for files); latest: the newest frame wins, the others are dropped and counted "
        "(default for cameras and streams)",
    )
    how.add_argument("--max-frames", type=count, metavar="N", help="stop after N frames")
    add_devices(how, default="as the split says, else main=/gpu:0, the others /cpu:0")
    add_cluster(how)
    add_delegates(how)
    add_fuse_nms(how)
    add_threads(how)
    how.add_argument(
        "--pixels",
        type=pixels,
        metavar="LOW,HIGH",
        help="values of 0 and 255 in a float input, as in --pixels=-1,1 (default 0,255)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    with ExitStack() as opened:
        if not args.verbose:  # OpenCV and its FFmpeg log to stderr, which is for our own lines
            os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
            opened.enter_context(_quiet_opencv())
        source, window, sinks = _open(args, opened)
        with quiet_tensorflow(args.verbose), working(f"opening {args.model}"):
            detector = opened.enter_context(_detector(args))
        tally = Tally(source)
        _loop(args, detector, source, window, sinks, tally)
        if tally.frames:
            for sink in sinks:
                sink.keep()
                tally.written.append(str(sink.path))
        for notice in tally.rejects:
            complain(f"graphsplit: {notice.source}: {notice.reason}")
        if args.json:
            print_json(answer_of(args, detector, tally))
        else:
            print_answer(args, detector, tally)
        if window is not None and source.kind == "image" and not tally.stopped:
            window.wait()
    # A camera is always ended by its user; a file that was not read to its end deserves a status.
    if tally.stopped == "interrupted" and not source.live:
        return 130
    return _REJECTED if tally.rejects else 0


def _quiet_opencv() -> AbstractContextManager[None]:
    from graphsplit.detection.extras import quiet_opencv

    return quiet_opencv()


def _open(args: argparse.Namespace, opened: ExitStack) -> tuple[Source, Window | None, list[Sink]]:
    """Check everything that can be checked before a model is loaded."""
    from graphsplit.detection.labels import read_labels
    from graphsplit.detection.saving import check_place, saver
    from graphsplit.detection.sinks import JsonLines
    from graphsplit.detection.sources import open_sources
    from graphsplit.detection.window import Window

    if find_manifest(args.model) is None:
        detect_format(locate(args.model))  # says so if an image comes first
    if args.labels is not None and args.labels != "coco":
        read_labels(args.labels)
    window = None
    if args.show:
        window = Window(f"graphsplit: {', '.join(args.sources)}")
        opened.callback(window.close)
    source = opened.enter_context(open_sources(args.sources))
    sinks: list[Sink] = []
    if args.save is not None:
        sinks.append(saver(source, args.save, overwrite=args.overwrite))
    if args.jsonl is not None:
        check_place(source, Path(args.jsonl), overwrite=args.overwrite)
        if sinks and sinks[0].path.absolute() == Path(args.jsonl).absolute():
            raise OverwriteError(f"{args.jsonl} is named by both --save and --jsonl", paths=[args.jsonl])
        sinks.append(JsonLines(Path(args.jsonl), overwrite=args.overwrite))
    for sink in sinks:
        opened.callback(sink.drop)  # removes what has not been kept
    return source, window, sinks


def _detector(args: argparse.Namespace) -> Detector:
    from graphsplit.detection.detector import Detector

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the answer says where sections run
        return Detector(
            args.model,
            args.labels,
            args.threshold,
            dict(args.device) or None,
            split=not args.no_split,
            threads=args.threads,
            cluster=args.cluster,
            delegates=dict(args.delegate),
            trust=args.trust,
            pixels=args.pixels,
            fuse_nms=args.fuse_nms,
            **cut_of(args),
        )


def _loop(
    args: argparse.Namespace, detector: Detector, source: Source, window: Window | None, sinks: list[Sink], tally: Tally
) -> None:
    with progress(source, args.max_frames, detector) as advance:
        try:
            for frame in detector.stream(source, policy=args.policy, max_frames=args.max_frames, report=tally.notices.append):
                for sink in sinks:
                    sink.write(frame)
                tally.add(frame)
                advance(tally)
                if window is not None and not window.show(frame):
                    tally.stopped = "window closed"
                    break
        except KeyboardInterrupt:
            tally.stopped = "interrupted"


def score(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def pixels(text: str) -> tuple[float, float]:
    """``LOW,HIGH``."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH, as in 0,1") from None
    return low, high
