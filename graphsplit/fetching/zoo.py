"""Names of published models and their addresses. The table is data: zoo.json."""

from __future__ import annotations

import difflib
import json
from functools import cache
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from graphsplit.errors import FetchError

__all__ = ["address_of", "addresses", "plain_name"]

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")


@cache
def addresses() -> MappingProxyType[str, str]:
    """Name → address, for every model in the table."""
    table = json.loads((Path(__file__).parent / "zoo.json").read_text(encoding="utf-8"))
    return MappingProxyType({name: pattern.format(name=name) for pattern, names in table.items() for name in names})


def address_of(name: str) -> str:
    """The address of a model by its name in the table; an address is returned as it is.

    Raises:
        FetchError: The name is unknown; the message has close ones.
    """
    if urlsplit(name).scheme in ("http", "https"):
        return name
    known = addresses()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`graphsplit fetch` lists the names; an http address works too"
    raise FetchError(f"no published model named {name!r}; {hint}", address=name)


def plain_name(address: str) -> tuple[str, str]:
    """The file name of an address and its ending: ``…/x.tar.gz`` → ``("x", ".tar.gz")``.

    Raises:
        ValueError: The address does not end in a plain file name.
    """
    last = unquote(urlsplit(address).path).rpartition("/")[2]
    if not last or last.startswith(".") or any(c in last for c in '/\\:*?"<>|') or not last.isprintable() or len(last) > 200:
        raise ValueError(f"the address does not end in a plain file name: {address}")
    ending = next((e for e in _PACKED if last.endswith(e) and len(last) > len(e)), "")
    return last.removesuffix(ending), ending
