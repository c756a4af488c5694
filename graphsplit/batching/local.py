"""The engine of one machine: the sections as a pipeline of threads, one stream through all sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from graphsplit.batching.events import End, Event
from graphsplit.batching.inventory import Item
from graphsplit.batching.work import Work, guarded, read
from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import open_sections

__all__ = ["run_local"]

_FROM = "\0from"  # what travels with the tensors of a frame: its source, number and size. No tensor has this name


def run_local(work: Work, items: Sequence[Item]) -> Iterator[Event]:
    """Every frame of every source, in order. Raises what `open_sections` raises."""
    stages = open_sections(work.parts.sections, devices=work.devices, threads=work.threads, trust=work.trust)
    ends: dict[int, End] = {}

    def feeds() -> Iterator[dict[str, Any]]:
        for number, item in enumerate(items):
            for read_one in read(item, number):
                if isinstance(read_one, End):
                    ends[number] = read_one
                else:
                    size = read_one.image.shape[:2]
                    yield {work.input.tensor: work.input.feed(read_one.image), _FROM: (number, read_one.number, size)}

    tensors = work.layout.tensors
    following = 0
    with Pipeline.from_stages([guarded(s) for s in stages], inputs=work.parts.inputs, outputs=(*tensors, _FROM)) as pipe:
        for values in pipe.stream(feeds()):
            source, frame, size = cast(tuple[int, int, tuple[int, int]], values.pop(_FROM))
            # A source is read to its end before the next one begins, so the ends of those before this frame are known.
            while following < source:
                yield ends.pop(following)
                following += 1
            yield work.answer(source, frame, size, values)
        while following < len(items):
            yield ends.pop(following)
            following += 1
