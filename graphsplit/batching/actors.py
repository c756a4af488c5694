"""What runs in the actors of a cluster: each class is a stage of the streaming pipeline, called with batches of frames.

    sources ─▶ Reader ─▶ Section … ─▶ Answerer ─▶ rows
               decode,    main          post,
               pre                      boxes

A batch is only how frames travel; each is run alone. The end of a source travels after its frames.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import numpy as np

from graphsplit.batching.events import End, Event, Row
from graphsplit.batching.inventory import Item
from graphsplit.batching.packing import Batch, FrameInfo, Values, pack, unpack
from graphsplit.batching.work import Failed, Work, guarded, read
from graphsplit.execution.stages import Stage, open_sections
from graphsplit.runtimes.arrays import Array

if TYPE_CHECKING:
    from ray import ObjectRef

__all__ = ["Answerer", "Reader", "Section", "event_of"]

_BYTES = 32 * 2**20  # of images in one batch: large images travel in smaller batches


class _Sections:
    """Sections that run one after the other in an actor.

    Args:
        refs: Of their `PackedPart` in the object store.
        travel: Tensors that leave the actor.
        work: Of the `Work`, without its sections.
        strict: Raise PlacementError if there is no GPU.
    """

    def __init__(self, refs: Sequence[ObjectRef], travel: Sequence[str], work: ObjectRef, strict: bool) -> None:
        import ray

        self.work: Work = ray.get(work)
        self.travel = tuple(travel)
        parts = [packed.part() for packed in ray.get(list(refs))]
        run = self.work.run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a section whose device does not exist runs on the CPU
            opened = open_sections(parts, threads=run.get("threads"), strict=strict, trust=run.get("trust", False)) if parts else ()
        self.stages: list[Stage] = [guarded(s) for s in opened]

    def run(self, values: Mapping[str, Array | Failed]) -> Values:
        """The tensors that were passed, and those that the sections compute."""
        computed = dict(values)
        for stage in self.stages:
            inputs = stage.values(cast(dict[str, Array], computed))  # a guarded stage takes `Failed` as well
            computed.update(zip(stage.outputs, stage.call(inputs), strict=True))
        return computed


class Reader(_Sections):
    """Sources → frames: decoded, converted to the input of the model, and run through `pre`.

    Args:
        batch_size: The most frames in a batch.
    """

    def __init__(self, refs: Sequence[ObjectRef], travel: Sequence[str], work: ObjectRef, strict: bool, batch_size: int) -> None:
        super().__init__(refs, travel, work, strict)
        self.batch_size = batch_size

    def __call__(self, batch: Batch) -> Iterator[dict[str, Array]]:
        frames: list[tuple[FrameInfo, Values]] = []
        held = 0
        for source, path in zip(batch["source"], batch["path"], strict=True):
            for event in read(Item("", str(path)), int(source)):
                if isinstance(event, End):
                    frames.append(({"end": asdict(event)}, {}))
                else:
                    info: FrameInfo = {"source": int(source), "frame": event.number, "size": list(event.image.shape[:2])}
                    frames.append((info, self.run({self.work.input.tensor: self.work.input.feed(event.image)})))
                    held += event.image.nbytes
                if len(frames) == self.batch_size or held > _BYTES:
                    yield pack(frames, self.travel)
                    frames, held = [], 0
        if frames:
            yield pack(frames, self.travel)


class Section(_Sections):
    """Frames → frames, through a section."""

    def __call__(self, batch: Batch) -> dict[str, Array]:
        return pack([(info, values if "end" in info else self.run(values)) for info, values in unpack(batch)], self.travel)


class Answerer(_Sections):
    """Frames → rows, through `post`."""

    def __call__(self, batch: Batch) -> dict[str, Array]:
        events = [self._event(info, values) for info, values in unpack(batch)]
        return {"event": np.asarray(events, dtype=object)}

    def _event(self, info: FrameInfo, values: Mapping[str, Array | Failed]) -> str:
        if "end" in info:
            return json.dumps({"end": info["end"]})
        computed = self.run(values)
        outputs = {t: computed[t] for t in self.work.layout.tensors}
        height, width = info["size"]
        return json.dumps({"row": asdict(self.work.answer(info["source"], info["frame"], (height, width), outputs))})


def event_of(text: str) -> Event:
    """Parse an event of an `Answerer`."""
    event = json.loads(text)
    return Row(**event["row"]) if "row" in event else End(**event["end"])
