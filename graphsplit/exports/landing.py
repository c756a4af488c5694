"""Where an export lands: a file or a folder that is there whole or not at all, and nothing else touched."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from graphsplit.errors import FormatError, GraphSplitError, OverwriteError

__all__ = ["check_target", "landing"]


def check_target(target: Path, own: Set[str], sources: Iterable[Path], *, overwrite: bool) -> Path:
    """Refuse to write over what is there unasked, and over the model itself. The real place of the target.

    own      names that a folder of the target may hold ("a"), and those that a folder in it may ("a/b", where it says so);
             empty for a target that is a file
    sources  files and folders that the export is made of

    Raises OverwriteError.
    """

    def refuse(why: str) -> OverwriteError:
        return OverwriteError(f"{target} {why}", paths=[target])

    place = Path(os.path.realpath(target)) if own else Path(os.path.abspath(target))
    if not place.name or (own and place in (here := Path(os.path.realpath(os.curdir)), *here.parents)):
        raise refuse("is the folder you are in, or above it; name one that can be replaced")
    if place.exists() and any(path.exists() and os.path.samefile(path, place) for path in sources):
        raise refuse("is the model itself; name another place")
    if not own and place.is_dir():
        raise refuse("is a folder; name a file")
    if not os.path.lexists(place):
        return place
    if own:
        if not place.is_dir():
            raise refuse("is a file; name a folder")
        if (foreign := _foreign(place, own)) is not None:
            raise refuse(f"holds {foreign!r}, which is no part of such a model, and is never replaced; name another folder")
        if not any(place.iterdir()):
            return place
    if not overwrite:
        raise refuse("exists already; --overwrite (overwrite=True) replaces it")
    return place


def _foreign(folder: Path, own: Set[str], inside: str = "") -> str | None:
    """Something in a folder that is no part of the target."""
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


@contextmanager
def landing(target: Path) -> Iterator[Path]:
    """A place to write a file or folder to, in a folder of its own beside the target, whose name it takes when all went well.

    Folders above the target are made if need be. When anything fails, what was there before is there again.
    Raises FormatError when it cannot be written.
    """
    made: list[Path] = [p for p in target.parents if not p.exists()]  # the innermost first
    work = target.parent / f".graphsplit.{secrets.token_hex(4)}.tmp"
    before = work / "before"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        place = work / "new" / target.name
        place.parent.mkdir()
        yield place
        if os.path.lexists(target):
            os.replace(target, before)
        os.replace(place, target)
    except BaseException as error:
        with suppress(OSError):
            if os.path.lexists(before) and not os.path.lexists(target):
                os.replace(before, target)
        shutil.rmtree(work, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # somebody else may have put something in
                folder.rmdir()
        if isinstance(error, OSError) and not isinstance(error, GraphSplitError):
            raise FormatError(f"cannot be written: {error.strerror or error}", path=target) from error
        raise
    shutil.rmtree(work, ignore_errors=True)
