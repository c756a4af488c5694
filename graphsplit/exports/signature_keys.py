"""Keys of a signature: names that any client can use.

``Postprocessor/Slice:0`` → ``Postprocessor_Slice``, ``top:1`` → ``top_1``, ``3d/box:0`` → ``t3d_box``
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from graphsplit.graph.signature import Signature

__all__ = ["signature_keys"]


def signature_keys(tensors: Iterable[str], stated: Signature | None = None) -> dict[str, str]:
    """A key for each tensor; the same tensors in the same order get the same keys.

    Port 0 is left out, any other is appended with ``_``. Characters other than ASCII letters, digits and ``_`` become ``_``. A name
    that does not start with a letter gets the prefix ``t``, a keyword of Python the suffix ``_``, since its clients pass inputs as
    keyword arguments, and a name that is taken ``_2``, ``_3`` …

    Args:
        tensors: The tensors.
        stated: Keys that the file of the whole states, which are kept.
    """
    several = list(dict.fromkeys(tensors))
    keys: dict[str, str] = {}
    for tensor in several:
        key = None if stated is None else stated.key(tensor)
        if key and key not in keys.values():
            keys[tensor] = key
    for tensor in several:
        if tensor in keys:
            continue
        node, colon, port = tensor.rpartition(":")
        plain = (node if int(port) == 0 else f"{node}_{port}") if colon and port.isdigit() else tensor
        key = re.sub(r"[^A-Za-z0-9_]", "_", plain)
        if not re.match(r"[A-Za-z]", key):
            key = f"t{key}"
        if keyword.iskeyword(key) or key == "self":
            key = f"{key}_"
        taken, number = set(keys.values()), 1
        while (free := key if number == 1 else f"{key}_{number}") in taken:
            number += 1
        keys[tensor] = free
    return keys
