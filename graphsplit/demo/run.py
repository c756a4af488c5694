"""The demo: a small detector of shapes, split, verified, measured and run, without a download.

folder/ shapes_ssd.pb          the model, trained by models/shapes/train.py
        shapes.mp4             a synthetic video of moving shapes
        split/                 shapes_ssd_main.pb, shapes_ssd_post.pb, split.json
        detections.mp4, .png   the detections of the split model
        bench.png              the timeline of each stage
        report.md              the figures
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path

from graphsplit.benchmark.chart import draw_chart
from graphsplit.benchmark.measure import BenchReport, bench
from graphsplit.demo.data import labels, model
from graphsplit.detection.detector import Detector
from graphsplit.detection.extras import opencv
from graphsplit.detection.sinks import ImageFile, VideoFile
from graphsplit.detection.sources import open_source
from graphsplit.errors import FormatError
from graphsplit.formats import load
from graphsplit.formats.atomic import check_folder
from graphsplit.parts.folder import save
from graphsplit.parts.parts import Parts
from graphsplit.splitting.surgery import plan, split
from graphsplit.verification.equivalence import verify
from graphsplit.verification.report import Report

__all__ = ["Demo", "run_demo"]

_SIZE = (480, 360)  # (width, height) of the video, in pixels
_FRAMES, _RATE = 96, 24  # frames, frames per second
_SEED = 7


@dataclass(frozen=True, slots=True)
class Demo:
    """The results of the demo.

    Attributes:
        folder: Where its files are.
        cut: Where the cut comes from, one sentence.
        parts: The sections.
        proof: The comparison of the sections with the whole.
        bench: Whole and pipeline, measured.
        frames: Frames of the video.
        detections: Detections in all frames.
        devices: Section → the device it actually ran on.
        files: The files in the order in which they were written, relative to the folder.
    """

    folder: Path
    cut: str
    parts: Parts
    proof: Report
    bench: BenchReport
    frames: int
    detections: int
    devices: dict[str, str]
    files: tuple[str, ...]


def run_demo(folder: Path, *, overwrite: bool = False, progress: Callable[[str], object] = lambda step: None) -> Demo:
    """Run the demo.

    Args:
        folder: Where its files are written.
        overwrite: Replace the files of an earlier demo.
        progress: Called with each step before it starts.

    Raises:
        OverwriteError: if the folder is not empty.
        MissingExtraError: without OpenCV, supervision or Matplotlib.
        EquivalenceError: if the sections do not compute what the whole computes.
    """
    check_folder(folder, overwrite=overwrite, then="overwrite=True replaces the files of an earlier demo")
    opencv()
    folder.mkdir(parents=True, exist_ok=True)
    whole_path = folder / "shapes_ssd.pb"
    with as_file(model()) as packed:
        shutil.copyfile(packed, whole_path)

    progress("drawing a video of moving shapes")
    video = folder / "shapes.mp4"
    _make_video(video)

    progress("splitting the model at its preset")
    whole = load(whole_path)
    planned = plan(whole, isolate=False)  # the model of this package
    parts = split(whole, planned, devices=_devices(), isolate=False)
    progress("verifying that the sections compute what the whole computes")
    proof = verify(whole, parts, isolate=False)
    proof.check()
    save(parts, folder / "split", overwrite=overwrite)

    progress("measuring whole and pipeline in turns")
    measured = bench(parts, frames=60)
    draw_chart(measured, folder / "bench.png", title="graphsplit demo: timeline of the stages")

    progress("running the pipeline over the video")
    frames, detections, devices = _detect(parts, video, folder)
    files = ("shapes_ssd.pb", "shapes.mp4", "split/split.json", "detections.mp4", "detections.png", "bench.png", "report.md")
    demo = Demo(folder, planned.origin, parts, proof, measured, frames, detections, devices, files)
    (folder / "report.md").write_text(_report(demo), encoding="utf-8")
    return demo


def _devices() -> dict[str, str] | None:
    """The default devices if there is a GPU, else the CPU for all, which avoids a warning."""
    from graphsplit.inference.devices import available_devices
    from graphsplit.runtimes.tensorflow import session_config

    return None if any("gpu" in d for d in available_devices(session_config())) else {"main": "/cpu:0"}


def _make_video(path: Path) -> None:
    import numpy as np

    from graphsplit.demo.data.shapes import Scene

    cv2 = opencv()
    width, height = _SIZE
    scene = Scene.random(np.random.default_rng(_SEED), width=width, height=height, count=7, sizes=(0.16, 0.4), speed=5.0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), float(_RATE), _SIZE)
    if not writer.isOpened():
        raise FormatError("OpenCV cannot write this video", path=path)
    for image, _, _ in scene.frames(_FRAMES):
        writer.write(image[:, :, ::-1])
    writer.release()


def _detect(parts: Parts, video: Path, folder: Path) -> tuple[int, int, dict[str, str]]:
    movie = VideoFile(folder / "detections.mp4", fps=float(_RATE))
    picture = ImageFile(folder / "detections.png")
    frames = detections = 0
    with Detector(parts, labels=labels(), threshold=0.5) as detector:
        try:
            for frame in detector.stream(open_source(video)):
                movie.write(frame)
                if frames == _FRAMES // 3:
                    picture.write(frame)
                frames += 1
                detections += len(frame.detections)
            movie.keep()
            picture.keep()
        except BaseException:
            movie.drop()
            picture.drop()
            raise
        return frames, detections, detector.devices


def _report(demo: Demo) -> str:
    import platform

    measured = demo.bench
    modes = [
        ("whole model", measured.whole),
        ("sections in sequence", measured.sequential),
        ("pipelined", measured.pipelined),
    ]
    lines = [
        "# graphsplit demo",
        "",
        f"Cut: {demo.cut}.",
        "",
        f"Proof: {demo.proof.summary()} ({'; '.join(demo.proof.feeds)}).",
        "",
        f"Video: {demo.frames} frames, {demo.detections} detections at a threshold of 0.5.",
        "",
        "![frame](detections.png)",
        "",
        "| | frames/s | ms p50 | ms p95 |",
        "|---|---|---|---|",
        *(f"| {name} | {m.fps:.1f} | {m.p50:.1f} | {m.p95:.1f} |" for name, m in modes),
        "",
        "| section | ms alone | ran on | outputs |",
        "|---|---|---|---|",
        *(
            f"| {p.name} | {measured.sections[p.name]:.1f} | {demo.devices[p.name]} | {', '.join(o.tensor for o in p.outputs)} |"
            for p in demo.parts
        ),
        "",
        f"**{measured.verdict}**: {measured.reason}. Efficiency of the pipeline {measured.efficiency:.2f}.",
        "",
        "![timeline](bench.png)",
        "",
        f"Python {platform.python_version()} on {platform.machine()}, {sys.platform}.",
        "",
    ]
    return "\n".join(lines)
