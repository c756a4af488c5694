"""A detector: images in, boxes with class names out. The sections of its model work on several images at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from os import PathLike
from textwrap import shorten
from types import TracebackType
from typing import TYPE_CHECKING, cast, get_args

import numpy as np

from graphsplit.detection.decoding import decode, name_classes
from graphsplit.detection.extras import opencv, supervision
from graphsplit.detection.frame import Frame
from graphsplit.detection.images import ImageLike, as_image, picture_input
from graphsplit.detection.labels import Labels, for_model, packed_labels
from graphsplit.detection.models import class_count, detectable
from graphsplit.detection.options import DetectorOptions, check_threshold, separate_options
from graphsplit.detection.pictures import Picture, Report, Source, source_name
from graphsplit.detection.sources import open_source
from graphsplit.execution.pipeline import Pipeline, Policy
from graphsplit.execution.stages import open_sections
from graphsplit.formats import ModelLike
from graphsplit.graph.options import check_choice, check_count, check_options
from graphsplit.parts.parts import Parts

if TYPE_CHECKING:
    from supervision import Detections
    from typing_extensions import Unpack

__all__ = ["Detector"]

# The image travels with the tensors of its frame under a name that no tensor has, so that a result knows its image even if
# other frames were dropped.
_PICTURE = "\0picture"


class Detector:
    """Detects objects in images, videos and cameras.

        det = Detector("frozen_inference_graph.pb")
        detections = det.detect("street.jpg")             # supervision.Detections
        for frame in det.stream("traffic.mp4"):           # or "camera:0", "rtsp://…", a folder, any iterable of images
            print(frame.number, frame.detections.data["class_name"])

    A model is split at its preset, else where the minimum cut finds a cut, and the split is not verified, for a quick start.
    If nothing is worth cutting off, it runs whole, and `notes` says so.

    Args:
        model: A model or anything else that `graphsplit.load` takes, its parts, or the path of the folder of a split.
        labels: Class names: a file, "coco", a list, or a dict {class id as the model numbers them: name}. None: those
            packed with a TFLite file, else COCO's for a model of 90 classes (or of 80 counted from 0), else ids.
        threshold: The lowest score of a detection, 0 … 1.
        devices: Section → device, overriding what the parts say.
        split: False: run the whole as one section.
        pixels: The values of a float or quantised input that pixels of 0 and 255 become; see
            `graphsplit.detection.images.picture_input`.
        fuse_nms: Replace the non-maximum suppression of all classes by one op, not verified; see `graphsplit.rewrites`.
        **options: Where to cut, as of `graphsplit.plan`: `outputs`, `inputs`, `preset`, `autocrop`, `affinity`, `crop_file`,
            `model_outputs`, `repair`; and how to run, as of `graphsplit.Pipeline`: `cluster`, `target`, `threads`, `strict`,
            `trust`, `config`, `delegates`.

    Attributes:
        parts: The sections.
        cut: Where the cut comes from, one sentence.
        notes: What else was decided, one sentence each.
        threshold: The lowest score of a detection; may be changed at any time.
        pipeline: The running sections; `pipeline.statistics` has the times of the last stream.

    Raises:
        OptionError: for an option that does not exist, or a threshold outside 0 … 1.
        MissingExtraError: without supervision or OpenCV.
        FormatError: for a model whose outputs are not recognised (they are listed), and for labels that cannot be read.
        FeedError: for a model whose only input is not an image.
        CutError, TensorNotFoundError: as of `graphsplit.plan`.
        PlacementError, TrustError: as of `graphsplit.Pipeline`.
    """

    def __init__(
        self,
        model: ModelLike | Parts,
        labels: Labels | None = None,
        threshold: float = 0.5,
        devices: Mapping[str, str] | None = None,
        *,
        split: bool = True,
        pixels: tuple[float, float] | None = None,
        fuse_nms: bool = False,
        **options: Unpack[DetectorOptions],
    ) -> None:
        check_options(Detector, options, DetectorOptions)
        check_threshold(threshold)
        supervision(), opencv()  # if missing, say so before any work
        cut, run = separate_options(options)
        target = detectable(model, split=split, trust=run.get("trust", False), fuse_nms=fuse_nms, **cut)
        self.threshold = threshold
        self.parts, self.cut, self.notes = target.parts, target.cut, target.notes
        self.layout = target.layout
        self._input = picture_input(target.inputs, pixels=pixels, longest=self.layout.longest_side, quantised=target.quantised)
        self._labels = labels if labels is None or isinstance(labels, (str, PathLike, Mapping)) else list(labels)
        if labels is None and (lines := next((p.model.labels for p in self.parts if p.model.labels), ())):
            self._labels = packed_labels(lines, first=self.layout.first)
        # Provisional: the number of classes is known after the first image.
        self._names = for_model(self._labels, classes=None, first=self.layout.first)
        self._named = False
        self._borders = self.parts.borders
        run["devices"] = devices
        stages = open_sections(self.parts.sections, **run)
        outputs = (*dict.fromkeys((*self.layout.tensors, *self._borders)), _PICTURE)
        self.pipeline = Pipeline.from_stages(stages, inputs=self.parts.inputs, outputs=outputs)
        self._warm = False
        # A detector that is garbage-collected, or still exists when the interpreter exits, closes its pipeline.
        self._close = weakref.finalize(self, self.pipeline.close)

    @property
    def devices(self) -> dict[str, str]:
        """Section → the device it actually runs on."""
        return {stage.name: stage.device for stage in self.pipeline.stages}

    @property
    def names(self) -> dict[int, str]:
        """Class id as the model numbers them → name. Final after the first image, which shows how many classes there are."""
        return dict(self._names)

    def detect(self, image: ImageLike) -> Detections:
        """Detect the objects in one image.

        Args:
            image: uint8 array, RGB [height, width, 3], grey or RGBA; a PIL image; or a path.

        Returns:
            ``supervision.Detections``, as in `Frame.detections`.

        Raises:
            FeedError: for anything else.
            FormatError: for a file that is not an image.
            SectionRunError: if a section fails.
        """
        picture = Picture(0, 0.0, as_image(image))
        return self._frame(self.pipeline.run(self._feed(picture))).detections

    def stream(
        self,
        source: Source | ImageLike | Iterable[ImageLike],
        *,
        policy: Policy | None = None,
        max_frames: int | None = None,
        report: Report | None = None,
    ) -> Iterator[Frame]:
        """Detect the objects in every image of a source, in order.

        Args:
            source: A path, ``camera:0``, ``rtsp://…`` (see `open_source`), a `Source`, one image, or an iterable of images.
            policy: "block": no frame is lost; "latest": the newest frame wins, the others are dropped and counted
                (``pipeline.statistics.dropped``). None: "latest" for cameras and streams, else "block".
            max_frames: Stop after this many.
            report: Called with a `Notice` for each file that cannot be read, which is then skipped, and for a source that
                ended early; from another thread. None: a file that cannot be read raises FormatError.

        Yields:
            `Frame`, as soon as its detections are there.

        Raises:
            OptionError: for a policy that does not exist, or `max_frames` below 1.
            FormatError: for a source that does not exist or cannot be read.
            FeedError, SectionRunError: as of `detect`.
        """
        check_count("max_frames", max_frames)
        if policy is not None:
            check_choice("policy", policy, get_args(Policy))
        if isinstance(source, (str, PathLike)):
            source = open_source(source)
        if not isinstance(source, Source):
            single = hasattr(source, "convert") or getattr(source, "ndim", None) in (2, 3)  # one image, not its rows
            images = cast("Iterable[ImageLike]", [source] if single else source)
            return self._stream(_numbered(images), policy or "block", max_frames)
        if source.size is not None and source.count != 1 and max_frames != 1:
            self.warm_up(source.size)
        return self._stream(source.read(report), policy or ("latest" if source.live else "block"), max_frames)

    def warm_up(self, size: tuple[int, int] = (640, 480)) -> None:
        """Run once on a blank image, since the first run is slow.

        Args:
            size: (width, height) of the images to come.
        """
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

    def __repr__(self) -> str:
        if (close := getattr(self, "_close", None)) is None:  # __init__ has not finished
            return "Detector(not open)"
        sections = " → ".join(f"{name} on {device}" for name, device in self.devices.items())
        classes = f"{len(self._names)} classes" if self._names else "unnamed classes"
        return f"Detector({sections}; cut: {shorten(self.cut, 80, placeholder=' …')}; {classes}{'' if close.alive else '; closed'})"

    def _stream(self, pictures: Iterator[Picture], policy: Policy, max_frames: int | None) -> Iterator[Frame]:
        self.pipeline.statistics.clear()
        if policy == "block":  # never read more images than will be answered
            pictures = islice(pictures, max_frames)
        # If the consumer stops early, the pipeline's stream ends with this generator.
        for count, values in enumerate(self.pipeline.stream(map(self._feed, pictures), policy=policy), 1):
            yield self._frame(values)
            if count == max_frames:
                return

    def _feed(self, picture: Picture) -> dict[str, object]:
        return {self._input.tensor: self._input.feed(picture.image), _PICTURE: picture}

    def _frame(self, values: Mapping[str, object]) -> Frame:
        self._warm = True
        picture = cast(Picture, values[_PICTURE])
        size = (picture.image.shape[0], picture.image.shape[1])
        tensors = {name: np.asarray(value) for name, value in values.items() if name != _PICTURE}
        detections = decode(tensors, self.layout, image=size, fed=self._input.fed(size), threshold=self.threshold)
        if not self._named:
            count = class_count(self.parts, self.layout, [tensors[t].shape for t in self._borders])
            self._names, self._named = for_model(self._labels, classes=count, first=self.layout.first), True
        return Frame(
            picture.number,
            picture.time_s,
            picture.image,
            name_classes(detections, self._names),
            latency_ms=1000 * self.pipeline.statistics.recent[-1].latency,
            regions=bool(self.layout.segmentation),
            source=picture.source,
        )


def _numbered(images: Iterable[ImageLike]) -> Iterator[Picture]:
    for number, image in enumerate(images):
        pixels = as_image(image)
        if isinstance(image, np.ndarray) and np.may_share_memory(pixels, image):
            pixels = pixels.copy()  # the caller may reuse its buffer
        yield Picture(number, 0.0, pixels, source_name(image) if isinstance(image, (str, PathLike)) else "")
