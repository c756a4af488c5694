"""Fetch a published model: download, check, unpack, and say what in it can be loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from graphsplit.errors import FetchError
from graphsplit.fetching.download import Progress, download
from graphsplit.fetching.unpacking import unpack
from graphsplit.fetching.zoo import address_of, plain_name
from graphsplit.formats.atomic import check_free, landing

__all__ = ["Fetched", "fetch"]

_NO_GRAPHS = ("keras_metadata.pb", "fingerprint.pb")  # beside a SavedModel


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model that is there.

    path    the folder it was unpacked into, or the file
    models  what in it `graphsplit.load` reads: frozen graphs, SavedModel folders, .tflite and .keras files, best first
    sha256  of what was downloaded; nothing when it was there already
    """

    name: str
    address: str
    path: Path
    models: tuple[Path, ...]
    sha256: str = ""


def fetch(
    name: str,
    directory: str | PathLike[str] = ".",
    *,
    overwrite: bool = False,
    progress: Progress = lambda there, total: None,
) -> Fetched:
    """Fetch a model by name (see `graphsplit.fetching.zoo`) or address (http, https) into a folder.

    overwrite  download again what is there, and replace it
    progress   called with bytes that are there and bytes there will be (None: not told)

    An interrupted download is gone on with. Its checksum is kept beside it; the next download of the same has to have it.

    Raises FetchError for a name nobody knows and for what the network does, FormatError for an archive
    that is damaged or hostile, or not the one of the first time.
    """
    address = address_of(name)
    try:
        plain, ending = plain_name(address)
    except ValueError as error:
        raise FetchError(str(error), address=address) from error
    folder = Path(directory)
    path = folder / plain
    if os.path.lexists(path) and not overwrite:
        return Fetched(name, address, path, _loadable(path))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{plain}{ending}"
    if ending:
        check_free([file], overwrite=overwrite)
    found = download(address, file, progress=progress)
    if ending:
        try:
            with landing(path) as place:
                unpack(file, place, name=plain)
        finally:
            file.unlink(missing_ok=True)
    return Fetched(name, address, path, _loadable(path), found)


def _loadable(path: Path) -> tuple[Path, ...]:
    """What can be loaded, the frozen graph first."""
    if path.is_file():
        return (path,)
    frozen = sorted(p for p in path.rglob("*.pb") if p.name.startswith("frozen_inference_graph"))
    lite = sorted(path.rglob("*.tflite"))
    saved = sorted(p.parent for p in path.rglob("saved_model.pb"))
    keras = sorted(path.rglob("*.keras"))
    taken = {*frozen, *(p / "saved_model.pb" for p in saved)}
    others = sorted(p for p in path.rglob("*.pb") if p not in taken and p.name not in _NO_GRAPHS)
    return tuple(dict.fromkeys((*frozen, *lite, *saved, *keras, *others)))
