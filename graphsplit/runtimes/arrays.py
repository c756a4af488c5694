"""Arrays as runtimes take and return them, and what their errors say. Imports no TensorFlow."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

__all__ = ["Array", "as_array", "dtype_name", "error_text"]

#: A NumPy array of any dtype and shape.
Array = np.ndarray[Any, Any]

_PREAMBLE = re.compile(r"=+$|Graph execution error:|Detected at node |Node: |\d+ root error\(s\) found|Original stack trace for ")


def as_array(value: object) -> Array:
    """A fed or fetched value as an array.

    Strings become an array of objects, since NumPy's own strings lose zeros at their end. An array is returned as it is.
    """
    array = np.asarray(value)
    return np.asarray(value, dtype=object) if array.dtype.kind in "SU" and not isinstance(value, np.ndarray) else array


def dtype_name(array: Array) -> str:
    """The dtype of an array by TensorFlow's name; quantised ones are records of one field to NumPy."""
    name: str = array.dtype.names[0] if array.dtype.names else array.dtype.name
    return "string" if array.dtype.kind in "OSU" else name


def error_text(error: BaseException) -> str:
    """The message of a runtime's error in one line: without its preamble and Python stack, with the node if it is known."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line and not _PREAMBLE.match(line)), type(error).__name__)
    text = re.sub(r"^\(0\) [A-Z_]+: ", "", text)  # the first of several
    node = getattr(getattr(error, "node_def", None), "name", "")
    return f"{text} (node {node!r})" if node and repr(node) not in text else text
