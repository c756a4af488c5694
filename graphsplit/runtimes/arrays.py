"""Arrays as runtimes take and return them, and what their errors say. Imports no TensorFlow."""

from __future__ import annotations

import numpy as np

from graphsplit.isolation.failures import error_text
from graphsplit.isolation.messages import Array

__all__ = ["Array", "as_array", "dtype_name", "error_text"]


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
