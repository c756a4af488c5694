"""A detector: pictures in, boxes with names out. The sections of the model are at work on several pictures at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from os import PathLike
from types import TracebackType
from typing import Any, cast

import numpy as np

from graphsplit.detection.decoding import decode, named
from graphsplit.detection.extras import opencv, supervision
from graphsplit.detection.frame import Frame
from graphsplit.detection.images import as_image, picture_input
from graphsplit.detection.labels import Labels, for_model
from graphsplit.detection.models import Detectable, class_count, detectable
from graphsplit.detection.sources import Picture, Source, open_source
from graphsplit.execution.pipeline import Pipeline, Policy
from graphsplit.execution.stages import open_sections
from graphsplit.formats import Model
from graphsplit.inference.endpoints import ClusterLike
from graphsplit.parts.parts import Parts

__all__ = ["Detector"]

# What a picture is called among the tensors of its frame: it travels with them, so that an answer knows its picture even
# when others were dropped on the way. No tensor has this name.
_PICTURE = "\0picture"
_SEGMENTED = 513  # pixels: the longest side that DeepLab's exporter was told of


class Detector:
    """Finds things in pictures.

        det = Detector("frozen_inference_graph.pb")
        found = det.detect("street.jpg")                  # supervision.Detections
        for frame in det.stream("traffic.mp4"):           # or "camera:0", "rtsp://…", a folder, any iterable of pictures
            print(frame.number, frame.detections.data["class_name"])

    model      a model, its parts, or the path of a model or of a split folder. A model is split where its preset says, else
               where the minimum cut finds one, without proof, for a quick start. Where nothing is worth cutting off,
               it runs whole, and `notes` says so
    labels     names of the classes: a file, "coco", a list, a dict {class id as the model gives it: name}. None: COCO's for
               a model of 90 classes (or of 80 counted from 0), else numbers
    threshold  scores below are left out
    devices    section → device
    split      False: run the whole as one section
    pixels     what 0 and 255 become in a float or quantised input; see `graphsplit.detection.images.picture_input`
    fuse_nms   one op for the non-maximum suppression of all classes, without proof; see `graphsplit.rewrites`
    cut        outputs, inputs, preset, autocrop, affinity, crop_file, model_outputs, repair: as of `graphsplit.split`
    cluster, target, threads, strict, trust, delegates: as of `graphsplit.execution.pipeline.Pipeline`

    notes      what was decided, in sentences
    cut        where the cut comes from, in a sentence

    Raises MissingExtraError without supervision and OpenCV, FormatError for a model whose outputs are not known (they are
    listed) and for labels that cannot be read, FeedError for a model that is not fed one picture, and what `split` and
    `Pipeline` raise.
    """

    def __init__(
        self,
        model: Model | Parts | str | PathLike[str],
        labels: Labels | None = None,
        threshold: float = 0.5,
        devices: Mapping[str, str] | None = None,
        *,
        split: bool = True,
        cluster: ClusterLike | None = None,
        target: str | None = None,
        threads: int | None = None,
        strict: bool = False,
        trust: bool = False,
        pixels: tuple[float, float] | None = None,
        fuse_nms: bool = False,
        delegates: Mapping[str, str | PathLike[str]] | None = None,
        **cut: Any,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a score from 0 to 1, not {threshold!r}")
        supervision(), opencv()  # missing ones are told before any work
        made: Detectable = detectable(model, split=split, trust=trust, fuse_nms=fuse_nms, **cut)
        self.threshold = threshold
        self.parts, self.cut, self.notes = made.parts, made.cut, made.notes
        self.layout = made.layout
        longest = _SEGMENTED if self.layout.labels else 0
        self._input = picture_input(made.inputs, pixels=pixels, longest=longest, quantised=made.quantised)
        self._labels = labels if labels is None or isinstance(labels, (str, PathLike, Mapping)) else list(labels)
        self._names: dict[int, str] | None = None
        for_model(self._labels, classes=None, first=self.layout.first)  # a wrong file is told before any work
        self._borders = self.parts.borders
        stages = open_sections(
            self.parts.sections,
            devices=devices,
            cluster=cluster,
            target=target,
            threads=threads,
            strict=strict,
            trust=trust,
            delegates=delegates,
        )
        outputs = (*dict.fromkeys((*self.layout.tensors, *self._borders)), _PICTURE)
        self.pipeline = Pipeline.from_stages(stages, inputs=self.parts.inputs, outputs=outputs)
        self._warm = False
        # A detector that is let go, or still there when the interpreter ends, closes its pipeline.
        self._close = weakref.finalize(self, self.pipeline.close)

    @property
    def devices(self) -> dict[str, str]:
        """Section → the device it really runs on."""
        return {stage.name: stage.device for stage in self.pipeline.stages}

    @property
    def names(self) -> dict[int, str]:
        """Class id as the model gives it → name. Known for sure once a picture was seen, which tells how many classes there are."""
        return dict(self._names or for_model(self._labels, classes=None, first=self.layout.first))

    def detect(self, image: Any) -> Any:
        """What is in a picture, as ``supervision.Detections`` (see `Frame`).

        image  uint8 RGB array (height, width, 3), also grey and RGBA; a PIL image; a path

        Raises FeedError for anything else, FormatError for a file that is no picture, SectionRunError.
        """
        picture = Picture(0, 0.0, as_image(image))
        return self._frame(self.pipeline.run(self._feed(picture))).detections

    def stream(
        self,
        source: Source | str | PathLike[str] | Iterable[Any],
        *,
        policy: Policy | None = None,
        max_frames: int | None = None,
    ) -> Iterator[Frame]:
        """The pictures of a source with what is in them, in order, as `Frame`.

        source      a path, ``camera:0``, ``rtsp://…`` (see `open_source`), a `Source`, or an iterable of pictures
        policy      "block": no picture is lost; "latest": the newest wins, others are dropped and counted
                    (``pipeline.statistics.dropped``). None: "latest" for cameras and streams, else "block"
        max_frames  stop after so many

        Raises FormatError for a source that is not there or not readable, and what `detect` raises.
        """
        if max_frames is not None and max_frames < 1:
            raise ValueError(f"max_frames is a whole number from 1, not {max_frames!r}")
        if isinstance(source, (str, PathLike)):
            source = open_source(source)
        if hasattr(source, "convert") or getattr(source, "ndim", None) in (2, 3):  # one picture, not its rows
            source = [source]
        if not isinstance(source, Source):
            return self._stream(_numbered(source), policy or "block", max_frames)
        if source.size is not None and source.count != 1 and max_frames != 1:
            self.warm_up(source.size)
        return self._stream(iter(source), policy or ("latest" if source.live else "block"), max_frames)

    def warm_up(self, size: tuple[int, int] = (640, 480)) -> None:
        """Run once on nothing, so that the slow first run does not hit a picture. size: (width, height) of what will come."""
        if not self._warm:
            blank = np.zeros((size[1], size[0], 3), np.uint8)
            self.pipeline.warm_up(self._feed(Picture(0, 0.0, blank)))
            self._warm = True

    def close(self) -> None:
        """End the threads and release the sessions. May be called twice."""
        self._close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _stream(self, pictures: Iterator[Picture], policy: Policy, max_frames: int | None) -> Iterator[Frame]:
        self.pipeline.statistics.clear()
        if policy == "block":  # not one picture more is asked for than will be answered
            pictures = islice(pictures, max_frames)
        # What is not read to its end ends here with this generator, the pipeline's stream with it.
        for count, values in enumerate(self.pipeline.stream(map(self._feed, pictures), policy=policy), 1):
            yield self._frame(values)
            if count == max_frames:
                return

    def _feed(self, picture: Picture) -> dict[str, Any]:
        return {self._input.tensor: self._input.feed(picture.image), _PICTURE: picture}

    def _frame(self, values: Mapping[str, Any]) -> Frame:
        self._warm = True
        picture = cast(Picture, values[_PICTURE])
        size = (picture.image.shape[0], picture.image.shape[1])
        found = decode(values, self.layout, image=size, fed=self._input.fed(size), threshold=self.threshold)
        if self._names is None:
            count = class_count(self.parts, self.layout, [np.shape(values[t]) for t in self._borders])
            self._names = for_model(self._labels, classes=count, first=self.layout.first)
        latency = 1000 * self.pipeline.statistics.recent[-1].latency
        return Frame(*picture, named(found, self._names), latency, regions=bool(self.layout.labels))


def _numbered(images: Iterable[Any]) -> Iterator[Picture]:
    for number, image in enumerate(images):
        yield Picture(number, 0.0, as_image(image))
