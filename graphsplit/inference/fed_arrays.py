"""What callers feed, as plain arrays: everything that NumPy would change without a word is converted or refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphsplit.graph.index import TensorSpec
from graphsplit.graph.text import shape_text
from graphsplit.runtimes.arrays import Array

__all__ = ["fed_array", "shape_fault"]

_QUANTISED = {"qint8", "quint8", "qint16", "quint16", "qint32"}  # TensorFlow's own, records of one field to NumPy
_LONGEST = 120  # characters of another library's error


def shape_fault(spec: TensorSpec, array: Array) -> str:
    """What is wrong with the shape of an array for an input; empty if nothing is."""
    shape = spec.shape
    if shape is None or (array.ndim == len(shape) and all(d in (None, n) for d, n in zip(shape, array.shape, strict=True))):
        return ""
    return f"{spec.name!r} must have shape {shape_text(shape)}, not {shape_text(array.shape)}"


def fed_array(value: object, *, copy: bool = False) -> Array:
    """A fed value as an array in the byte order of this machine; text as objects that are bytes.

    Args:
        value: An array, a number, a text, nested sequences of these, or anything with ``__array__``.
        copy: Copy it, so that the caller may reuse its buffer.

    Raises:
        ValueError: Says what it is instead.
    """
    if np.ma.is_masked(value) or (isinstance(value, (list, tuple)) and any(np.ma.is_masked(v) for v in value)):
        raise ValueError("has masked values; pass what is to be fed in their place: filled(…)")
    try:
        array = np.asarray(value)
    except Exception as error:  # nested lists of unequal lengths, symbolic tensors, whatever __array__ raises
        raise ValueError(f"is not an array{_named(value)}: {' '.join(str(error).split())[:_LONGEST]}") from error
    kind = array.dtype.kind
    if kind == "S" and isinstance(value, np.ndarray):
        _check_uncut(array)
    if kind in "OSUT":
        return _texts(array if isinstance(value, np.ndarray) or kind == "O" else _nested(value, array.shape))
    if array.dtype.names is not None and not _is_quantised(array.dtype):
        raise ValueError(f"is an array of records ({', '.join(array.dtype.names[:4])}); pass one array for each input")
    if array.dtype.type is np.void and array.dtype.names is None:
        raise ValueError(f"is an array of raw bytes ({array.dtype}); view it in its dtype")
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array.copy() if copy else array


def _named(value: object) -> str:
    return "" if isinstance(value, (list, tuple)) else f" but a {type(value).__name__}"


def _is_quantised(dtype: np.dtype[np.generic]) -> bool:
    fields = dict(dtype.fields or {})
    return len(fields) == 1 and all(n in _QUANTISED and f[0] == np.dtype(n.removeprefix("q")) for n, f in fields.items())


def _check_uncut(array: Array) -> None:
    """Refuse byte strings of which NumPy may have cut zeros at the end: it pads with zeros, and does not keep the lengths."""
    if any(len(text) < array.dtype.itemsize for text in array.ravel().tolist()):
        raise ValueError(
            f"is an array of {array.dtype.itemsize}-byte strings, some of them shorter, so that zeros at their ends may be lost; "
            "build it with dtype=object"
        )


def _nested(value: object, shape: tuple[int, ...]) -> Array:
    """An array of objects of nested sequences of texts, by their leaves: NumPy would cut its own texts while it copies them."""
    array = np.empty(shape, object)
    for where in np.ndindex(shape):
        leaf = value
        for place in where:
            leaf = leaf[place] if isinstance(leaf, Sequence) else np.asarray(leaf)[place]
        array[where] = leaf
    return array


def _texts(array: Array) -> Array:
    """Copies of texts as bytes. Raises ValueError for any other object."""
    texts = np.empty(array.shape, object)
    for where in np.ndindex(array.shape):
        text: object = array[where]
        if isinstance(text, bytes):
            texts[where] = bytes(text)
        elif isinstance(text, str):
            try:
                texts[where] = text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"holds a text with a lone surrogate at {list(where)}; pass bytes") from error
        elif not where:
            raise ValueError(f"is not an array but a {type(text).__name__}")
        else:
            raise ValueError(f"is an array of objects ({type(text).__name__} at {list(where)}); only texts are fed so")
    return texts
