"""Names of tensors as users write them, and as they are printed for users to paste."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from graphsplit.errors import OptionError, TensorNotFoundError
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.signature import Choice

#: What to say where `name_flags` finds no words.
UNWRITABLE = "these names cannot be written on a command line; split the model in Python"

__all__ = ["UNWRITABLE", "Names", "choice_flags", "name_flags", "tensors_of", "written"]

#: One name, several in one string with commas between, or an iterable of names.
Names = str | Iterable[str]


def tensors_of(index: GraphIndex, names: Names) -> tuple[str, ...]:
    """Full names of tensors as users write them, each once.

    Args:
        index: The graph.
        names: One name, or several in one string with commas between, or an iterable of such strings. Since names may hold
            commas, a string that is the name of a tensor is never divided.

    Raises:
        TensorNotFoundError: with the closest names.
        OptionError: for what is not a string.
    """
    several = isinstance(names, Iterable) and not isinstance(names, (str, bytes))
    found: dict[str, None] = {}
    for text in names if several else [names]:
        if not isinstance(text, str):
            raise OptionError(f"{text!r} is not the name of a tensor; names are strings", option="outputs")
        found |= dict.fromkeys(map(index.tensor, _divided(index, text)))
    return tuple(found)


def _divided(index: GraphIndex, text: str) -> Iterator[str]:
    """The names in a string; since names may hold commas, each is the longest that exists."""
    pieces = text.split(",")
    start = 0
    while start < len(pieces):
        end = next((e for e in range(len(pieces), start + 1, -1) if _exists(index, ",".join(pieces[start:e]))), start + 1)
        name = ",".join(pieces[start:end])
        if name.strip():
            yield name
        start = end


def _exists(index: GraphIndex, name: str) -> bool:
    plain = name.strip().removeprefix("^")
    return name in index.producer or plain in index.producer or plain in index.name_to_node_map


def written(index: GraphIndex, tensors: Sequence[str]) -> str | None:
    """Some tensors in one string that `tensors_of` reads again; None if there is none, or a terminal would not show it.

    Args:
        index: The graph.
        tensors: Their full names.
    """
    text = ",".join(_short(index, t) for t in tensors)
    try:
        same = tensors_of(index, text) == tuple(tensors)
    except TensorNotFoundError:
        return None
    return text if same and text.isprintable() else None


def name_flags(index: GraphIndex, flags: Iterable[tuple[str, Sequence[str]]]) -> list[str] | None:
    """The words of a command line that name some tensors, to be quoted; None if a terminal cannot take them.

    Args:
        index: The graph.
        flags: Flag and full names of tensors; one without tensors is left out.
    """
    words: list[str] = []
    for flag, tensors in flags:
        names = written(index, tensors)
        if names is None:
            return None
        if names:
            words += [f"{flag}={names}"] if names.startswith("-") else [flag, names]
    return words


def choice_flags(choice: Choice) -> list[str]:
    """The words of a command line that choose the same signature and meta graph, where there are others."""
    words = [] if choice.name is None or len(choice.names) < 2 else ["--signature", choice.name]
    return words if choice.tags is None or len(choice.tag_sets) < 2 else [*words, "--tags", ",".join(choice.tags)]


def _short(index: GraphIndex, tensor: str) -> str:
    """A name without ``:0`` where that means the same."""
    plain = tensor.removesuffix(":0")
    try:
        return plain if plain and index.tensor(plain) == tensor else tensor
    except TensorNotFoundError:
        return tensor
