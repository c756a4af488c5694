"""What is done to a frame, whichever engine does it: read, run through the sections, answered.

A frame is always run alone, as a batch of one: its row depends neither on the frames beside it nor on the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphsplit.batching.events import End, Row
from graphsplit.batching.inventory import Item
from graphsplit.detection.decoding import decode
from graphsplit.detection.extras import opencv
from graphsplit.detection.images import Input
from graphsplit.detection.layouts import Layout
from graphsplit.detection.sinks import found_json
from graphsplit.detection.sources import Picture, open_source
from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.execution.stages import Stage
from graphsplit.parts.parts import Parts
from graphsplit.runtimes.arrays import error_text

__all__ = ["Failed", "Work", "guarded", "read"]


@dataclass(frozen=True, slots=True)
class Failed:
    """What stands for the tensors that a section could not make of a frame."""

    reason: str


@dataclass(frozen=True)
class Work:
    """The model, and what is asked of it.

    parts      its sections
    input      how a picture becomes what it is fed
    layout     where its answer is
    threshold  scores below it are left out
    devices    section → device, over what the parts say
    threads    of each section's own pool. Another number may round the last bit of a score in another way
    trust      run parts that reach files, the network or Python
    """

    parts: Parts
    input: Input
    layout: Layout
    threshold: float
    devices: Mapping[str, str]
    threads: int = 1
    trust: bool = False

    def answer(self, source: int, frame: int, size: tuple[int, int], values: Mapping[str, Any]) -> Row:
        """The row of a frame.

        size    (height, width) of the picture, in pixels
        values  the tensors of the layout, or `Failed` in their place
        """
        failed = next((v for v in values.values() if isinstance(v, Failed)), None)
        if failed is not None:
            return Row(source, frame, None, failed.reason)
        try:
            found = decode(values, self.layout, image=size, fed=self.input.fed(size), threshold=self.threshold)
        except GraphSplitError as error:
            return Row(source, frame, None, str(error))
        return Row(source, frame, found_json(found, *size))


def read(item: Item, number: int) -> Iterator[Picture | End]:
    """The pictures of a source, and its end, always last. What cannot be read is told there and never raised."""
    frames = 0
    try:
        with open_source(item.path) as source:
            for picture in source:
                yield picture
                frames += 1
            note = source.note
    except (FormatError, OSError, opencv().error) as error:
        note = str(error).replace(f"{item.path}: ", "").strip() or type(error).__name__
    yield End(number, frames, " ".join(note.split()))


def guarded(stage: Stage) -> Stage:
    """The stage, giving `Failed` for a frame on which it fails, so that the frames behind it go on.

    Lack of memory is no fault of a frame and is raised.
    """

    def call(values: Sequence[Any]) -> Sequence[Any]:
        failed = next((v for v in values if isinstance(v, Failed)), None)
        if failed is None:
            try:
                return stage.call(values)
            except Exception as error:
                if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
                    raise
                failed = Failed(f"section {stage.name!r} failed: {error_text(error)}")
        return [failed] * len(stage.outputs)

    return replace(stage, call=call)
