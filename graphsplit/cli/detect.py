"""graphsplit detect: find things in images, videos and cameras; sections of the model work on several frames at once."""

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
from graphsplit.errors import OverwriteError
from graphsplit.formats.detect import recognise
from graphsplit.parts.manifest import find_manifest

if TYPE_CHECKING:
    from graphsplit.detection.detector import Detector
    from graphsplit.detection.sinks import Sink
    from graphsplit.detection.sources import Source
    from graphsplit.detection.window import Window

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "detect",
        run,
        "find things in an image, a folder of images, a video, a camera or a stream",
        "Find things in an image, a folder of images, a video, a camera or a stream. Ctrl-C ends it cleanly: what was done until "
        "then is kept (status 130, of cameras and streams 0). After an error nothing is left behind.",
    )
    add_model(parser, or_split=True)
    parser.add_argument("source", metavar="SOURCE", help="image, folder of images, video file, camera:0, rtsp://…")
    add_cut(parser)
    parser.add_argument("--no-split", action="store_true", help="run the whole as one section")
    out = parser.add_argument_group("what to do with the answers")
    out.add_argument("--save", metavar="OUT", help="annotated image, folder of images, or video with the source's size and rate")
    out.add_argument("--jsonl", metavar="OUT", help="one JSON object a frame: boxes (normalised), scores, classes, times")
    out.add_argument("--show", action="store_true", help="a window; q, Escape or its button ends it")
    add_overwrite(out, replaces="OUT")
    out.add_argument(
        "--labels", metavar="FILE", help="label map (.pbtxt), a name a line, or `coco` (default: COCO's for a model of 90 classes)"
    )
    out.add_argument("--threshold", type=score, default=0.5, metavar="T", help="leave out scores below it (default 0.5)")
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "--policy",
        choices=("block", "latest"),
        help="block: no frame is lost (default for files); latest: the newest wins, others are dropped and counted (default for "
        "cameras and streams)",
    )
    how.add_argument("--max-frames", type=count, metavar="N", help="stop after so many frames")
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
        if not args.verbose:  # OpenCV and its FFmpeg log to stderr, where one line of ours is promised
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
        if args.json:
            print_json(answer_of(args, detector, tally))
        else:
            print_answer(args, detector, tally)
        if window is not None and source.kind == "image" and not tally.stopped:
            window.wait()
    # A camera is always ended by its user; a file that was not read to its end is worth a status.
    return 130 if tally.stopped == "interrupted" and not source.live else 0


def _quiet_opencv() -> AbstractContextManager[None]:
    from graphsplit.detection.extras import quiet_opencv

    return quiet_opencv()


def _open(args: argparse.Namespace, opened: ExitStack) -> tuple[Source, Window | None, list[Sink]]:
    """Everything that may be wrong and can be told before a model is loaded."""
    from graphsplit.detection.labels import read_labels
    from graphsplit.detection.saving import check_place, saver
    from graphsplit.detection.sinks import JsonLines
    from graphsplit.detection.sources import open_source
    from graphsplit.detection.window import Window

    if find_manifest(args.model) is None:
        recognise(Path(args.model))  # pictures given first are told as such
    if args.labels is not None and args.labels != "coco":
        read_labels(args.labels)
    window = None
    if args.show:
        window = Window(f"graphsplit: {args.source}")
        opened.callback(window.close)
    source = open_source(args.source)
    sinks: list[Sink] = []
    if args.save is not None:
        sinks.append(saver(source, args.save, overwrite=args.overwrite))
    if args.jsonl is not None:
        check_place(source, Path(args.jsonl), overwrite=args.overwrite)
        if sinks and sinks[0].path.absolute() == Path(args.jsonl).absolute():
            raise OverwriteError(f"{args.jsonl} is named by --save and by --jsonl", paths=[args.jsonl])
        sinks.append(JsonLines(Path(args.jsonl)))
    for sink in sinks:
        opened.callback(sink.drop)  # what is not kept until then
    return source, window, sinks


def _detector(args: argparse.Namespace) -> Detector:
    from graphsplit.detection.detector import Detector

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where sections really run is part of the answer
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
            for frame in detector.stream(source, policy=args.policy, max_frames=args.max_frames):
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
