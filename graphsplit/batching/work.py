"""What is done to a frame, in either engine: it is read, run through the sections and decoded.

A frame is always run alone, as a batch of one: its row depends neither on other frames nor on the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from graphsplit.batching.events import End, Row
from graphsplit.batching.inventory import Item
from graphsplit.detection.decoding import decode
from graphsplit.detection.extras import opencv
from graphsplit.detection.images import Input
from graphsplit.detection.layouts import Layout
from graphsplit.detection.pictures import Notice, Picture, reason_of
from graphsplit.detection.sinks import detections_json
from graphsplit.detection.sources import open_source
from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.execution.options import RunOptions
from graphsplit.execution.stages import Stage
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.arrays import Array, error_text

__all__ = ["Failed", "Work", "guarded", "read"]


@dataclass(frozen=True, slots=True)
class Failed:
    """Takes the place of the tensors that a section failed to compute for a frame.

    Attributes:
        reason: Why.
    """

    reason: str


@dataclass(frozen=True)
class Work:
    """The model, and how to run it.

    Attributes:
        parts: Its sections.
        input: How an image becomes the input of the model.
        layout: Which outputs detections are read from.
        threshold: The lowest score of a detection.
        run: How to run the sections. The number of threads may change the last bit of a score.
    """

    parts: Parts
    input: Input
    layout: Layout
    threshold: float
    run: RunOptions = field(default_factory=RunOptions)

    def answer(self, source: int, frame: int, size: tuple[int, int], values: Mapping[str, Array | Failed]) -> Row:
        """Decode the row of a frame.

        Args:
            source: Index of its source in the list of items.
            frame: Index in its source.
            size: (height, width) of the image, in pixels.
            values: The tensors of the layout, or `Failed` in their place.
        """
        failed = next((v for v in values.values() if isinstance(v, Failed)), None)
        if failed is not None:
            return Row(source, frame, None, failed.reason)
        tensors = {name: value for name, value in values.items() if not isinstance(value, Failed)}
        try:
            detections = decode(tensors, self.layout, image=size, fed=self.input.fed(size), threshold=self.threshold)
        except GraphSplitError as error:
            return Row(source, frame, None, str(error))
        return Row(source, frame, detections_json(detections, *size))


def read(item: Item, number: int) -> Iterator[Picture | End]:
    """Read the images of a source.

    Args:
        item: The source.
        number: Its index in the list of items.

    Yields:
        Its images, and always its end, which says what could not be read; nothing is raised for that.
    """
    frames = 0
    notices: list[Notice] = []
    try:
        with open_source(item.path) as source:
            for picture in source.read(notices.append):
                yield picture
                frames += 1
        reason = "; ".join(notice.reason for notice in notices)
    except (FormatError, OSError, opencv().error) as error:
        reason = reason_of(error)
    yield End(number, frames, reason)


def guarded(stage: Stage) -> Stage:
    """Make a stage return `Failed` for a frame on which it fails, so that later frames are not affected.

    Lack of memory is not the fault of a frame and is raised.
    """

    def call(values: Sequence[Array | Failed | None]) -> Sequence[Array | Failed]:
        failed = next((v for v in values if isinstance(v, Failed)), None)
        if failed is None:
            try:
                return stage.call(cast(Sequence[Array | None], values))
            except Exception as error:
                if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
                    raise
                failed = Failed(f"section {stage.name!r} failed: {error_text(error)}")
        return [failed] * len(stage.outputs)

    # Between guarded stages a `Failed` travels like an array.
    return replace(stage, call=cast(Callable[[Sequence[Array | None]], Sequence[Array]], call))
