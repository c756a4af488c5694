"""Names of tensors as users write them, and as they are printed for users to paste."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from graphsplit.errors import OptionError, TensorNotFoundError
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.lookup import ending_with, spellings, without_shapes
from graphsplit.graph.signature import Choice

#: What to say where `name_flags` finds no words.
UNWRITABLE = "these names cannot be written on a command line; split the model in Python"

__all__ = ["UNWRITABLE", "Names", "choice_flags", "name_flags", "tensors_of", "written"]

#: One name, several in one string with commas between, or an iterable of names.
Names = str | Iterable[str]


def tensors_of(index: GraphIndex, names: Names) -> tuple[str, ...]:
    """Full names of tensors as users write them, each once.

    What exists as it is written is meant. Else blanks, quotes, brackets, shapes and ``import/`` that were copied along are left
    out, ``;`` and blanks divide a string like commas, and the last components of one tensor's name are enough.

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
        found |= dict.fromkeys(_read(index, text))
    return tuple(found)


_COMMA = re.compile(",")
_OTHERS = (_COMMA, re.compile("[,;]"), re.compile(r"[,;\s]"))  # what else divides a string, the likeliest first
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def _read(index: GraphIndex, text: str) -> list[str]:
    """The tensors in a string."""
    pieces = list(_divided(index, text, _COMMA))
    tensors = [index.exact(piece) for piece in pieces]
    if None not in tensors:
        return [t for t in tensors if t is not None]
    if len(pieces) > 1 and (whole := _meant(index, text)) is not None:
        return [whole]
    tensors = [_meant(index, piece) for piece in pieces]
    plain = without_shapes(text).strip()
    if _BRACKETS.get(plain[:1]) == plain[-1:]:
        plain = plain[1:-1]
    for divider in _OTHERS:
        if None not in tensors:
            break
        others = list(_divided(index, plain, divider))
        meant = [_meant(index, piece) for piece in others]
        if None not in meant or not any(tensors):
            pieces, tensors = others, meant
    # `tensor` raises the error for one that is not there.
    return [index.tensor(piece) if tensor is None else tensor for piece, tensor in zip(pieces, tensors, strict=True)]


def _divided(index: GraphIndex, text: str, divider: re.Pattern[str]) -> Iterator[str]:
    """The names in a string; since names may hold what divides it, each is the longest that exists."""
    ends = [m.start() for m in divider.finditer(text)] + [len(text)]
    most = 1 + max((len(divider.findall(t)) for t in index.producer), default=0) if len(ends) > 1 else 1
    begin, place = 0, 0
    while place < len(ends):
        several = range(min(len(ends), place + most) - 1, place, -1)
        last = next((e for e in several if index.exact(text[begin : ends[e]]) is not None), place)
        name = text[begin : ends[last]]
        if name.strip():
            yield name
        begin, place = ends[last] + 1, last + 1


def _meant(index: GraphIndex, text: str) -> str | None:
    """The tensor that is meant by a name; None if there is none, or several might be."""
    plain = text
    for plain in spellings(text):
        if (tensor := index.exact(plain)) is not None:
            return tensor
    ends = ending_with(index, plain)
    return ends[0] if len(ends) == 1 else None


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
