"""The engine of one machine: the sections as a pipeline of threads, one stream through all sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from graphsplit.batching.events import End, Event
from graphsplit.batching.inventory import Item
from graphsplit.batching.work import Work, guarded, read
from graphsplit.execution.pipeline import Pipeline
from graphsplit.execution.stages import open_sections

__all__ = ["run_local"]

_FROM = "\0from"  # source, number and size of a frame travel with its tensors under a name that no tensor has


def run_local(work: Work, items: Sequence[Item]) -> Iterator[Event]:
    """Run every frame of every source, in order.

    Args:
        work: The model, and how to run it.
        items: The sources.

    Yields:
        A row for each frame, and the end of each source.

    Raises:
        PlacementError, TrustError: as of `graphsplit.Pipeline`.
    """
    stages = open_sections(work.parts.sections, **work.run)
    ends: dict[int, End] = {}

    def feeds() -> Iterator[dict[str, object]]:
        for number, item in enumerate(items):
            for event in read(item, number):
                if isinstance(event, End):
                    ends[number] = event
                else:
                    size = event.image.shape[:2]
                    yield {work.input.tensor: work.input.feed(event.image), _FROM: (number, event.number, size)}

    tensors = work.layout.tensors
    following = 0
    with Pipeline.from_stages([guarded(s) for s in stages], inputs=work.parts.inputs, outputs=(*tensors, _FROM)) as pipe:
        for values in pipe.stream(feeds()):
            source, frame, size = cast(tuple[int, int, tuple[int, int]], values[_FROM])
            # A source is read to its end before the next one begins, so all ends before this frame are known.
            while following < source:
                yield ends.pop(following)
                following += 1
            yield work.answer(source, frame, size, {tensor: values[tensor] for tensor in tensors})
        while following < len(items):
            yield ends.pop(following)
            following += 1
