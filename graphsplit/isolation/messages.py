"""Messages between a process and its child: JSON, then the bytes of arrays. What a child sends is checked, never unpickled.

length of the head, 8 bytes │ head: JSON [value, [{"dtype", "shape", "nbytes"}, …]] │ bytes of each array in turn
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

__all__ = ["Answer", "Array", "Message", "MessageError", "Pieces", "Reading", "Task", "Writing", "receive", "send"]

_LENGTH = struct.Struct(">Q")
_LARGEST_HEAD = 2**28  # bytes
_JOINED = 2**20  # bytes up to which small pieces are written at once
_AT_ONCE = 2**20  # bytes that are read at once; a pipe holds fewer
_KINDS = "biufc"  # NumPy's own dtypes that may cross

#: A NumPy array of any dtype and shape.
Array = np.ndarray[Any, Any]

#: What a task returns: what JSON holds, and arrays.
Answer: TypeAlias = "tuple[object, Sequence[Array]]"

#: A function of a module that the child can import; it takes what JSON held, and arrays.
Task: TypeAlias = "Callable[[Any, Sequence[Array]], Answer]"

#: Bytes in pieces, which arrive as one array of uint8.
Pieces: TypeAlias = "Sequence[memoryview | bytes]"


class MessageError(ValueError):
    """Bytes that are not a message."""


class Message(NamedTuple):
    """What is sent.

    Attributes:
        value: Anything that JSON holds.
        arrays: Arrays beside it.
    """

    value: object
    arrays: tuple[Array, ...]


class Writing(Protocol):
    """The end of a pipe that is written to."""

    def write(self, data: memoryview, /) -> int | None:
        """Write some of the bytes; how many."""
        ...


class Reading(Protocol):
    """The end of a pipe that is read from, unbuffered."""

    def read(self, size: int, /) -> bytes | None:
        """Read some bytes, at most that many; none at the end."""
        ...


def send(pipe: Writing, value: object, arrays: Iterable[Array | Pieces] = ()) -> None:
    """Write a message.

    Args:
        pipe: The pipe, unbuffered.
        value: Anything that JSON holds.
        arrays: Arrays, or bytes in pieces.

    Raises:
        ValueError: An array of a dtype that cannot cross; nothing has been written then.
        OSError: The other side has ended.
    """
    heads: list[dict[str, object]] = []
    bodies: list[memoryview | bytes] = []
    for array in arrays:
        head, body = _packed(array) if isinstance(array, np.ndarray) else _joined_head(array)
        heads.append(head)
        bodies += body
    text = json.dumps([value, heads]).encode()
    for piece in _joined([_LENGTH.pack(len(text)), text, *bodies]):
        left = memoryview(piece)
        while left:
            left = left[pipe.write(left) :]


def receive(pipe: Reading, limit: int | None = None) -> Message | None:
    """Read a message; None if the other side has ended.

    Args:
        pipe: The pipe, unbuffered.
        limit: Bytes that the arrays may have; None: any number.

    Raises:
        MessageError: Something else was sent.
    """
    try:
        (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
        if length > _LARGEST_HEAD:
            raise MessageError("a head of a size that no message has")
        value, entries = json.loads(_read(pipe, length))
        heads = [_head(entry) for entry in entries]
        if limit is not None and sum(nbytes for *_, nbytes in heads) > limit:
            raise MessageError(f"arrays of more than {limit:,} bytes")
        return Message(value, tuple(_unpacked(dtype, shape, _read(pipe, nbytes)) for dtype, shape, nbytes in heads))
    except EOFError:
        return None
    except MessageError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError, OverflowError) as error:
        raise MessageError(f"not a message: {error}") from error


def _joined(pieces: Iterable[memoryview | bytes]) -> Iterator[memoryview | bytes]:
    """The same bytes with small pieces put together: a model may consist of a piece for each node."""
    small: list[memoryview | bytes] = []
    size = 0
    for piece in pieces:
        large = len(piece) >= _JOINED
        if not large:
            small.append(piece)
            size += len(piece)
        if small and (large or size >= _JOINED):
            yield b"".join(small)
            small, size = [], 0
        if large:
            yield piece
    yield b"".join(small)


def _read(pipe: Reading, size: int) -> bytearray:
    content = bytearray(size)
    left = memoryview(content)
    while left:
        some = pipe.read(min(len(left), _AT_ONCE))
        if not some:
            raise EOFError
        left[: len(some)] = some
        left = left[len(some) :]
    return content


def _joined_head(pieces: Pieces) -> tuple[dict[str, object], list[memoryview | bytes]]:
    size = sum(len(piece) for piece in pieces)
    return {"dtype": "|u1", "shape": [size], "nbytes": size}, list(pieces)


def _packed(array: Array) -> tuple[dict[str, object], list[memoryview | bytes]]:
    """The head and the bytes of an array."""
    shape, dtype = list(array.shape), array.dtype
    if dtype.kind in "OSU":
        strings = [_as_bytes(value) for value in array.ravel()]
        lengths = np.array([len(s) for s in strings], dtype="<u8")
        nbytes = lengths.nbytes + sum(map(len, strings))
        return {"dtype": "string", "shape": shape, "nbytes": nbytes}, [lengths.tobytes(), *strings]
    if dtype.names:  # a quantised dtype of TensorFlow: a record of one field
        name = f"{dtype.names[0]}:{dtype[0].str}"
    else:
        name = dtype.str if dtype.kind in _KINDS and _is_plain(dtype) else dtype.name
    if _dtype(name) != dtype:
        raise ValueError(f"arrays of {dtype} cannot be passed to another process")
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return {"dtype": name, "shape": shape, "nbytes": flat.nbytes}, [flat.data]


def _is_plain(dtype: np.dtype[np.generic]) -> bool:
    """Whether NumPy itself knows a dtype by its short name."""
    try:
        return bool(np.dtype(dtype.str) == dtype)
    except TypeError:
        return False


def _as_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise ValueError(f"a {type(value).__name__} among strings; an array of objects holds bytes or str")


def _dtype(name: str) -> np.dtype[np.generic]:
    """The dtype of that name. Raises ValueError for one that no tensor has."""
    field, colon, base = name.partition(":")
    if colon:
        return np.dtype([(field, _dtype(base))])
    if name[:1] in "<>|":
        plain = np.dtype(name)
        if plain.kind in _KINDS:
            return plain
    else:
        import ml_dtypes

        kind = getattr(ml_dtypes, name, None)
        if isinstance(kind, type) and issubclass(kind, np.generic):
            return np.dtype(kind)
    raise ValueError(f"arrays of {name!r} cannot be passed to another process")


def _head(entry: dict[str, object]) -> tuple[str, tuple[int, ...], int]:
    """Dtype, shape and bytes of an array. Raises ValueError for sizes that contradict one another."""
    name, shape, nbytes = entry["dtype"], entry["shape"], entry["nbytes"]
    if not isinstance(name, str) or not isinstance(shape, list) or type(nbytes) is not int or nbytes < 0:
        raise ValueError("an array without dtype, shape and bytes")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"the shape {shape}")
    count = math.prod(shape)
    if (8 * count > nbytes) if name == "string" else (count * _dtype(name).itemsize != nbytes):
        raise ValueError(f"{name} {shape} in {nbytes} bytes")
    return name, tuple(shape), nbytes


def _unpacked(name: str, shape: tuple[int, ...], content: bytearray) -> Array:
    if name != "string":
        return np.ndarray(shape, _dtype(name), buffer=content)
    count = math.prod(shape)
    lengths = np.frombuffer(content, dtype="<u8", count=count).tolist()
    if 8 * count + sum(lengths) != len(content):
        raise ValueError("strings of other lengths than stated")
    strings = np.empty(count, dtype=object)
    at = 8 * count
    for number, length in enumerate(lengths):
        strings[number] = bytes(content[at : at + length])
        at += length
    return strings.reshape(shape)
