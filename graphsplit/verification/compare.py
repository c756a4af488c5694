"""Two values of one tensor, compared bit by bit or within a tolerance.

NaN equals NaN; dtype and shape are compared first; integers, bools and strings are compared as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphsplit.runtimes.arrays import Array, dtype_name

__all__ = ["OutputReport", "compare"]


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One output of the whole, over all runs.

    Attributes:
        tensor: Its name in the whole.
        dtype: ``float32`` …
        shape: Of the value in the whole.
        equal: Whether the values agree, within the tolerance if there is one.
        max_abs_error: Largest absolute difference; None if there is no such number (strings, other shapes, NaN against a
            number).
        max_rel_error: The same relative to the value in the whole.
        note: What differs, in words; empty if nothing does.
    """

    tensor: str
    dtype: str
    shape: tuple[int, ...]
    equal: bool
    max_abs_error: float | None
    max_rel_error: float | None
    note: str = ""


def compare(tensor: str, whole: Array, other: Array, *, rtol: float = 0.0, atol: float = 0.0) -> OutputReport:
    """Compare two values of one tensor. NaN equals NaN; positive and negative zero are equal.

    Args:
        tensor: Its name, for the report.
        whole: The value in the whole.
        other: The value to compare, of any shape and dtype.
        rtol: Relative tolerance; 0 and 0 mean bit for bit.
        atol: Absolute tolerance.
    """

    def report(equal: bool, abs_error: float | None, rel_error: float | None, note: str = "") -> OutputReport:
        return OutputReport(tensor, dtype_name(whole), tuple(whole.shape), equal, abs_error, rel_error, note)

    if whole.dtype != other.dtype:
        return report(False, None, None, f"is {dtype_name(other)} instead of {dtype_name(whole)}")
    if whole.shape != other.shape:
        return report(False, None, None, f"has shape {list(other.shape)} instead of {list(whole.shape)}")
    same = _same(whole, other)
    if same.all():
        return report(True, 0.0, 0.0)
    count = int((~same).sum())
    if whole.dtype.kind in "OSUb" or whole.dtype.names:
        return report(False, None, None, f"differs in {count} of {same.size} elements")
    left, right = whole[~same], other[~same]
    odd = int((~(_finite(left) & _finite(right))).sum())
    if odd:
        return report(False, None, None, f"differs by NaN or infinity in {odd} of {same.size} elements")
    error, size = _distance(left, right), np.abs(left.astype(np.complex128 if left.dtype.kind == "c" else np.float64))
    with np.errstate(divide="ignore", over="ignore"):
        largest, relative = float(error.max()), float((error / size).max())
        close = bool((error <= atol + rtol * size).all())
    note = "" if close else f"differs by up to {largest:g} in {count} of {same.size} elements"
    return report(close, _number(largest), _number(relative), note)


def _same(whole: Array, other: Array) -> Array:
    """Which elements are equal; of a complex number, both parts."""
    if whole.dtype.kind == "c":
        return _same(whole.real, other.real) & _same(whole.imag, other.imag)
    same = np.asarray(whole == other)
    return same if whole.dtype.kind in "OSUb" else same | np.asarray((whole != whole) & (other != other))


def _finite(values: Array) -> Array:
    return np.isfinite(values if values.dtype.kind in "fc" else values.astype(np.float64))


def _distance(left: Array, right: Array) -> Array:
    """Absolute differences as float64; integers are subtracted exactly first, so that no difference rounds to zero."""
    if left.dtype.kind in "iu":
        high, low = np.maximum(left, right), np.minimum(left, right)
        return np.asarray((high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64))
    kind = np.complex128 if left.dtype.kind == "c" else np.float64
    with np.errstate(over="ignore"):
        return np.asarray(np.abs(left.astype(kind) - right.astype(kind)))


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
