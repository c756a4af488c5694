"""The keys by which a file names inputs and outputs: of a SavedModel's or TFLite file's signature, of a Keras model; and which of
several signatures a model is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from graphsplit.errors import OptionError
from graphsplit.graph.text import list_text

__all__ = ["Choice", "Signature", "chosen", "tags_text"]


@dataclass(frozen=True, slots=True)
class Signature(Mapping[str, str]):
    """Key → tensor of the whole, inputs first. A key of an input that is also one of an output is that of the output.

    Attributes:
        inputs: Key → tensor to feed.
        outputs: Key → tensor to fetch.
    """

    inputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    outputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __getitem__(self, key: str) -> str:
        return self.outputs[key] if key in self.outputs else self.inputs[key]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.inputs, **self.outputs})

    def __len__(self) -> int:
        return len({**self.inputs, **self.outputs})

    def kept(self, inputs: Iterable[str], outputs: Iterable[str]) -> Signature:
        """What remains of it if only these tensors are fed and fetched."""
        fed, fetched = set(inputs), set(outputs)
        return Signature(
            {k: t for k, t in self.inputs.items() if t in fed},
            {k: t for k, t in self.outputs.items() if t in fetched},
        )

    def key(self, tensor: str) -> str | None:
        """The first key of a tensor."""
        return next((k for k, t in (*self.outputs.items(), *self.inputs.items()) if t == tensor), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which signature and which meta graph of its file a model is, and what else the file holds.

    Attributes:
        name: The signature; None: the file has none.
        tags: Of the meta graph (SavedModel); None: the format has no tags.
        names: Every signature of that meta graph, or of the file.
        tag_sets: The tags of every meta graph.
    """

    name: str | None = None
    tags: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()
    tag_sets: tuple[tuple[str, ...], ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out, in one line; nothing if that is nothing."""
        names = [repr(n) for n in self.names if n != self.name]
        graphs = [tags_text(t) for t in self.tag_sets if t != self.tags]
        left = [f"signature{'s' if len(names) > 1 else ''} {list_text(names, 10)}"] if names else []
        left += [f"the meta graph{'s' if len(graphs) > 1 else ''} tagged {list_text(graphs, 10)}"] if graphs else []
        here = f"signature {self.name!r}" if self.name is not None else "the graph"
        return (f"{here} of the file; left out: {' and '.join(left)}",) if left else ()


def chosen(asked: str, names: Sequence[str]) -> str:
    """The signature of that name. Raises OptionError with the closest names."""
    if asked in names:
        return asked
    close = difflib.get_close_matches(asked, names, n=3, cutoff=0.6) if isinstance(asked, str) else []
    same = [n for n in names if isinstance(asked, str) and n.casefold() == asked.casefold()]
    hint = f"did you mean {' or '.join(map(repr, same or close))}?" if same or close else ""
    known = f"there {'are' if len(names) > 1 else 'is'} {list_text([repr(n) for n in names], 10)}" if names else "the file has none"
    raise OptionError(f"no signature {asked!r:.100}; {hint or known}", option="signature")


def tags_text(tags: Iterable[str]) -> str:
    """Tags as a set: ``{serve, gpu}``."""
    return "{" + ", ".join(tags) + "}"
