"""Names that any client can write: the keys of a signature.

``Postprocessor/Slice:0`` → ``Postprocessor_Slice``, ``top:1`` → ``top_1``, ``3d/box:0`` → ``t3d_box``
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

__all__ = ["signature_keys"]


def signature_keys(tensors: Iterable[str]) -> dict[str, str]:
    """A key for each tensor; the same tensors in the same order give the same keys.

    Port 0 goes without saying, another one is appended with ``_``; what is no ASCII letter, digit or ``_`` becomes ``_``; what
    does not start with a letter gets a ``t`` before it; words of Python get a ``_`` behind them, since its clients pass
    inputs as keyword arguments; a name that is taken gets ``_2``, ``_3`` …
    """
    keys: dict[str, str] = {}
    for tensor in dict.fromkeys(tensors):
        node, colon, port = tensor.rpartition(":")
        plain = (node if int(port) == 0 else f"{node}_{port}") if colon and port.isdigit() else tensor
        key = re.sub(r"[^A-Za-z0-9_]", "_", plain)
        if not re.match(r"[A-Za-z]", key):
            key = f"t{key}"
        if keyword.iskeyword(key) or key == "self":
            key = f"{key}_"
        taken, number = set(keys.values()), 1
        while (made := key if number == 1 else f"{key}_{number}") in taken:
            number += 1
        keys[tensor] = made
    return keys
