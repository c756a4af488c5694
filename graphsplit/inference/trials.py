"""Which sizes to try next, from what a model said when it refused the last ones.

    refused at a deep node ──▶ its message first: ranks, ratios, numbers ──▶ then ranks and sizes that are usual

Only inputs that the refusing node depends on are varied. A guess that the model took further than others is varied first.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, pairwise
from math import sqrt

from graphsplit.graph.index import Shape
from graphsplit.inference.synthesis import Feeds, Guess, Input, Synthesis

__all__ = ["Trials"]

_TRIALS = 120
_PIXELS = (224, 299, 256, 300, 128, 192, 160, 96, 416, 512, 227, 112, 64, 32, 28)
_LENGTHS = (128, 64, 256, 512, 16, 32, 2, 4, 8, 10, 784, 16_000, 1024, 2048, 4096, 3, 5, 40, 44_032, 8_000)
_RANKS = (2, 4, 3, 0, 1, 5)
_BATCHES = 1024  # more is no batch
_NUMBER = re.compile(r"(?<![\w.])\d{1,7}(?![\w.])")
_RANK = re.compile(r"rank[ (=]*(\d)\b|\b(\d)-?(?:D\b|dimension)|\b(\d) dimensions")
_WORDS = {"scalar": 0, "vector": 1, "matrix": 2, "matrices": 2}
_PLACE = re.compile(r"\{\{node ([^}]+)\}\}|\(node '([^']+)'\)")
_LARGEST = 1024  # pixels
_CLOSE = 0.04  # a computed size is taken for a usual one within this share of it


@dataclass(frozen=True)
class _Candidate:
    """Guesses of some inputs."""

    guesses: Mapping[str, Guess]

    @property
    def key(self) -> frozenset[tuple[str, Guess]]:
        return frozenset(self.guesses.items())

    def but(self, name: str, **changed: object) -> _Candidate:
        old = self.guesses.get(name, Guess())
        return _Candidate({**self.guesses, name: replace(old, **changed)})  # type: ignore[arg-type]


class Trials:
    """Guesses for the inputs of a model, the most promising first.

    Args:
        synthesis: Of the model.
        fixed: Values of some inputs, which are not guessed.
    """

    def __init__(self, synthesis: Synthesis, fixed: Feeds) -> None:
        self._index = synthesis.model.index
        self._inputs = {
            n: i for n, i in synthesis.inputs.items() if n not in fixed and (i.is_open or i.is_free) and i.value is None
        }
        self._synthesis = synthesis
        self._waiting: list[tuple[int, int, int, _Candidate]] = []
        self._numbers = count()
        self._seen: set[frozenset[tuple[str, Guess]]] = set()
        self._last = _Candidate({})
        self._add(0, 0, self._last)

    def __iter__(self) -> Iterator[Mapping[str, Guess]]:
        for _ in range(_TRIALS):
            if not self._waiting:
                return
            self._last = heapq.heappop(self._waiting)[-1]
            yield self._last.guesses

    def refused(self, message: str) -> None:
        """Learn from the message with which the model refused the last guesses."""
        place = _PLACE.search(message)
        node = "" if place is None else place[1] or place[2]
        needed = self._index.ancestors([node]) if node in self._index.name_to_node_map else None
        text = message.partition(" for '{{node")[0].partition("(node '")[0]
        suspects = [i for n, i in self._inputs.items() if needed is None or self._index.producer[n] in needed]
        numbers = list(dict.fromkeys(int(n) for n in _NUMBER.findall(text)))
        depth = -len(needed or ())
        for of in suspects:
            if of.is_open:
                self._vary(of, depth, text, numbers)
        last = self._last
        for size in _PIXELS if any(i.channels is not None for i in suspects) else _LENGTHS:
            everywhere = last
            for of in (i for i in suspects if i.is_open):
                everywhere = everywhere.but(of.name, size=size)
            self._add(depth, 4, everywhere)
        for one, other in pairwise(numbers):
            if one and other % one == 0 and 2 < other // one <= _BATCHES:
                self._add(depth, 3, last.but("", size=other // one))
        for number in numbers:
            if 2 < number <= _BATCHES:
                self._add(depth, 5, last.but("", size=number))

    def _vary(self, of: Input, depth: int, text: str, numbers: list[int]) -> None:
        """Other guesses of one input."""
        last, guess = self._last, self._last.guesses.get(of.name, Guess())
        if of.shape is None:
            told = [int(n) for groups in _RANK.findall(text) for n in groups if n]
            told += [rank for word, rank in _WORDS.items() if word in text]
            told += [n + 1 for n in numbers if n < 5]
            for kind, ranks in ((0, told), (3, _RANKS)):
                for rank in ranks:
                    shape: Shape = (None,) * rank if rank != 4 else (None, None, None, 3)
                    if guess.shape is None or len(guess.shape) != rank:
                        self._add(depth, kind, last.but(of.name, shape=shape, size=None))
        now = self._synthesis.shape(of.guessed(guess), 1, guess.size)
        size = guess.size if isinstance(guess.size, int) else max(now, default=1)
        for one, other in pairwise(numbers):
            for wanted, had in ((one, other), (other, one)):
                if of.channels is not None and had and wanted:
                    scaled = max(1, round(size * sqrt(wanted / had)))
                    for near in (_usual(scaled), scaled, scaled + 1, scaled - 1):
                        if 0 < near <= _LARGEST:
                            self._add(depth, 1, last.but(of.name, size=near))
                elif had and (size * wanted) % had == 0 and size * wanted // had > 1:
                    self._add(depth, 2, last.but(of.name, size=size * wanted // had))
        for number in numbers:
            if number > 1 and number not in now and (of.channels is None or number <= _LARGEST):
                self._add(depth, 2, last.but(of.name, size=number))

    def _add(self, depth: int, kind: int, candidate: _Candidate) -> None:
        if candidate.key not in self._seen:
            self._seen.add(candidate.key)
            heapq.heappush(self._waiting, (depth, kind, next(self._numbers), candidate))


def _usual(size: int) -> int:
    """The usual size nearest to a computed one, if it is close; else the computed one."""
    nearest = min(_PIXELS, key=lambda s: abs(s - size))
    return nearest if abs(nearest - size) <= _CLOSE * size else size
