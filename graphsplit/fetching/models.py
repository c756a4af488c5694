"""Published models as files: downloaded, checked, unpacked, and searched for what can be loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from graphsplit.errors import FetchError, FormatError
from graphsplit.fetching.download import Progress, download, remember
from graphsplit.fetching.unpacking import unpack
from graphsplit.fetching.zoo import address_of, plain_name
from graphsplit.formats.atomic import check_free, landing
from graphsplit.formats.detect import detect_format
from graphsplit.graph.options import check_path, hinted

__all__ = ["Fetched", "fetch", "fetch_files"]

_NO_GRAPHS = ("keras_metadata.pb", "fingerprint.pb")  # files of a SavedModel


@dataclass(frozen=True, slots=True)
class Fetched:
    """A published model on this machine.

    Attributes:
        name: As it was asked for.
        address: Where it was published.
        path: The folder it was unpacked into, or the file.
        models: What `graphsplit.load` reads of it: frozen graphs, .tflite files, SavedModel folders and .keras files, best first.
        sha256: Checksum of the download; empty if nothing was downloaded, since it existed already.
    """

    name: str
    address: str
    path: Path
    models: tuple[Path, ...]
    sha256: str = ""


@hinted
def fetch(
    name: str,
    directory: str | PathLike[str] = ".",
    *,
    overwrite: bool = False,
    progress: Progress = lambda received, total: None,
) -> Path:
    """Download a published model, check it and unpack it.

    An interrupted download resumes. The checksum of the first download is kept beside it, and later ones must match. A model that
    was fetched before is not downloaded again.

        model = gs.load(gs.fetch("ssd_mobilenet_v2_coco_2018_03_29", "zoo"))

    Args:
        name: A name that `graphsplit fetch` lists, or an http or https address of a model or of an archive.
        directory: Folder to put it into; created if it does not exist.
        overwrite: Download it again and replace an earlier download.
        progress: Called with the bytes received and the bytes in total (None: unknown).

    Returns:
        The path of the model, for `graphsplit.load`: of an archive that holds several, the frozen graph.

    Raises:
        FetchError: The name is unknown, the network or the server failed, or the archive holds no model.
        FormatError: The archive is damaged or hostile, or its checksum is not that of the first download.
        OverwriteError: A file with the name of the archive exists already.
    """
    fetched = fetch_files(name, directory, overwrite=overwrite, progress=progress)
    if not fetched.models:
        raise FetchError(f"{fetched.address} holds no model that can be loaded; see {fetched.path}", address=fetched.address)
    return fetched.models[0]


def fetch_files(
    name: str,
    directory: str | PathLike[str] = ".",
    *,
    overwrite: bool = False,
    progress: Progress = lambda received, total: None,
) -> Fetched:
    """Download a published model as `fetch` does, and list all that it holds. Raises what `fetch` raises."""
    check_path("directory", directory, "a folder")
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
    checksum = download(address, file, progress=progress)
    if ending:
        try:
            with landing(path) as place:
                unpack(file, place, name=plain)
        finally:
            file.unlink(missing_ok=True)
    if ending or _is_model(path):
        remember(file, checksum)  # not before: the sum of a bad file would refuse the good one
    return Fetched(name, address, path, _loadable(path), checksum)


def _is_model(path: Path) -> bool:
    try:
        detect_format(path)
    except FormatError:
        return False
    return True


def _loadable(path: Path) -> tuple[Path, ...]:
    """The models in a folder, the frozen graph first."""
    if path.is_file():
        return (path,)
    frozen = sorted(p for p in path.rglob("*.pb") if p.name.startswith("frozen_inference_graph"))
    lite = sorted(path.rglob("*.tflite"))
    saved = sorted(p.parent for p in path.rglob("saved_model.pb"))
    keras = sorted(path.rglob("*.keras"))
    taken = {*frozen, *(p / "saved_model.pb" for p in saved)}
    others = sorted(p for p in path.rglob("*.pb") if p not in taken and p.name not in _NO_GRAPHS)
    return tuple(dict.fromkeys((*frozen, *lite, *saved, *keras, *others)))
