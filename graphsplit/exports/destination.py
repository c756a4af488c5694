"""Where an export goes: a file, or a folder that holds nothing but an export."""

from __future__ import annotations

import os
from collections.abc import Iterable, Set
from pathlib import Path

from graphsplit.errors import OverwriteError
from graphsplit.formats.atomic import check_folder, check_free, check_not_source

__all__ = ["check_destination"]


def check_destination(target: Path, own: Set[str], sources: Iterable[Path], *, overwrite: bool) -> Path:
    """Refuse to export over what nobody asked to replace, and over the model itself.

    Args:
        target: The file or folder to write.
        own: Names that a folder may hold ("a"), and those that a folder in it may ("a/b"); empty for a target that is a file.
        sources: Files and folders that are exported.
        overwrite: Whether an earlier export may be replaced.

    Returns:
        The path of the target, for a folder without links.

    Raises:
        OverwriteError: It must not be written there.
    """
    if not own:
        check_free([target], sources=sources, overwrite=overwrite)
        return Path(os.path.abspath(target))
    place, here = Path(os.path.realpath(target)), Path(os.path.realpath(os.curdir))
    if place in (here, *here.parents):
        raise OverwriteError(f"{target} is the current folder, or above it; name one that can be replaced", paths=[target])
    check_not_source([target], sources)
    check_folder(place)
    if place.is_dir() and (foreign := _foreign(place, own)) is not None:
        raise OverwriteError(
            f"{target} holds {foreign!r}, which is not part of such a model, and is never replaced; name another folder",
            paths=[target],
        )
    check_folder(place, overwrite=overwrite, then="overwrite=True replaces it")
    return place


def _foreign(folder: Path, own: Set[str], inside: str = "") -> str | None:
    """Something in a folder that is not part of the target."""
    for entry in sorted(folder.iterdir()):
        name = f"{inside}{entry.name}"
        if name not in own:
            return name
        if any(n.startswith(f"{name}/") for n in own):
            if entry.is_symlink() or not entry.is_dir():
                return name
            if (deeper := _foreign(entry, own, f"{name}/")) is not None:
                return deeper
    return None
