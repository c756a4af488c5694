"""What runs in the actors of a cluster: each class is a stage of the streaming pipeline, called with batches of frames.

sources ─▶ Reader ─▶ Section … ─▶ Answerer ─▶ rows
           decode,    main          post, boxes
           pre

A batch is only how frames travel; each is run alone. The end of a source travels behind its frames.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from graphsplit.batching.events import End, Event, Row
from graphsplit.batching.inventory import Item
from graphsplit.batching.packing import pack, unpack
from graphsplit.batching.work import Work, guarded, read
from graphsplit.execution.stages import Stage, open_sections

__all__ = ["Answerer", "Reader", "Section", "event_of"]

_BYTES = 32 * 2**20  # of pictures in one batch: large ones travel in fewer


class _Sections:
    """Sections that run one after the other in an actor.

    refs    of their `PackedPart` in the object store
    travel  tensors that leave the actor
    """

    def __init__(self, refs: Sequence[Any], travel: Sequence[str], work: Any, strict: bool) -> None:
        import ray

        self.work: Work = ray.get(work)
        self.travel = tuple(travel)
        parts = [packed.part() for packed in ray.get(list(refs))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a section that wants a device that is not here runs on the CPU
            opened = open_sections(parts, threads=self.work.threads, strict=strict, trust=self.work.trust) if parts else ()
        self.stages: list[Stage] = [guarded(s) for s in opened]

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        for stage in self.stages:
            values.update(zip(stage.outputs, stage.call([values[t] for t in stage.inputs]), strict=True))
        return values


class Reader(_Sections):
    """Sources → frames: decoded, made what the model is fed, through `pre`."""

    def __init__(self, refs: Sequence[Any], travel: Sequence[str], work: Any, strict: bool, batch_size: int) -> None:
        super().__init__(refs, travel, work, strict)
        self.batch_size = batch_size

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        frames: list[tuple[dict[str, Any], dict[str, Any]]] = []
        held = 0
        for source, path in zip(batch["source"], batch["path"], strict=True):
            for picture in read(Item("", str(path)), int(source)):
                if isinstance(picture, End):
                    frames.append(({"end": asdict(picture)}, {}))
                else:
                    image = picture.image
                    said = {"source": int(source), "frame": picture.number, "size": list(image.shape[:2])}
                    frames.append((said, self.run({self.work.input.tensor: self.work.input.feed(image)})))
                    held += image.nbytes
                if len(frames) == self.batch_size or held > _BYTES:
                    yield pack(frames, self.travel)
                    frames, held = [], 0
        if frames:
            yield pack(frames, self.travel)


class Section(_Sections):
    """Frames → frames, through a section."""

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return pack([(said, values if "end" in said else self.run(values)) for said, values in unpack(batch)], self.travel)


class Answerer(_Sections):
    """Frames → rows, through `post`."""

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        events = [_event(said, values, self) for said, values in unpack(batch)]
        return {"event": np.asarray(events, dtype=object)}


def _event(said: Mapping[str, Any], values: dict[str, Any], actor: Answerer) -> str:
    if "end" in said:
        return json.dumps({"end": said["end"]})
    made = actor.run(values)
    answers = {t: made[t] for t in actor.work.layout.tensors}
    row = actor.work.answer(said["source"], said["frame"], (said["size"][0], said["size"][1]), answers)
    return json.dumps({"row": asdict(row)})


def event_of(text: str) -> Event:
    """What an `Answerer` tells, again."""
    told = json.loads(text)
    return Row(**told["row"]) if "row" in told else End(**told["end"])
