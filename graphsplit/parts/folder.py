"""A split on disk: the section files and ``split.json``, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from graphsplit.errors import FormatError, GraphSplitError, OptionError
from graphsplit.formats import Model
from graphsplit.formats.atomic import check_folder, check_free
from graphsplit.graph.options import check_path
from graphsplit.parts.manifest import MANIFEST, file_names, manifest_json
from graphsplit.parts.parts import Parts

__all__ = ["check_save", "save"]


def check_save(parts: Parts, directory: str | PathLike[str], *, overwrite: bool = False, then: str | None = None) -> None:
    """Refuse to save parts over what is there.

    Args:
        parts: What is to be saved.
        directory: The folder to save it into.
        overwrite: Whether files of the same names may be replaced.
        then: What to do about files that exist, for the message; by default, to set `overwrite`.

    Raises:
        OverwriteError: A file is there already, or there cannot be such a folder.
        OptionError: `parts` are not parts, or `directory` is not a path.
    """
    if not isinstance(parts, Parts):
        raise OptionError(f"parts must be the result of split, not {parts!r:.100}; as in save(parts, directory)", option="parts")
    check_path("directory", directory, "a folder")
    folder = Path(directory)
    check_folder(folder)
    whole = parts.source.path
    sources = [whole] if whole is not None and os.path.isfile(whole) else []  # also where nobody may look
    check_free([folder / name for name in (*file_names(parts).values(), MANIFEST)], sources=sources, overwrite=overwrite, then=then)


def save(parts: Parts, directory: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the section files and the manifest into a folder.

    Everything is written beside its place first and renamed at the end, the manifest last. If anything fails, what was
    there before is restored. Files that do not belong to the split are never touched.

    Args:
        parts: What to save.
        directory: The folder; created if it does not exist.
        overwrite: Replace the files of an earlier split.

    Returns:
        The folder.

    Raises:
        OverwriteError: if one of the files exists and `overwrite` is not set.
        FormatError: if a file cannot be written.
        OptionError: if `parts` are not parts, or `directory` is not a path.
    """
    try:
        check_save(parts, directory, overwrite=overwrite)
        target = Path(directory)
        _save(parts, target)
    except OSError as error:
        if isinstance(error, GraphSplitError):  # an OverwriteError is a FileExistsError
            raise
        raise FormatError(f"cannot be written: {error.strerror or error}", path=error.filename or directory) from error
    return target


def _save(parts: Parts, target: Path) -> None:
    names = file_names(parts)
    made = _first_missing(target)
    work = target / f".graphsplit.{secrets.token_hex(4)}.tmp"
    try:
        target.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        sums = _write(parts, names, work)
        text = json.dumps(manifest_json(parts, sums, target), indent=1, ensure_ascii=False) + "\n"
        # A path that is not UTF-8 holds lone surrogates; a backslash before them is JSON's own way to write them.
        (work / MANIFEST).write_bytes(text.encode("utf-8", "backslashreplace"))
        with _locked(target):
            _move(work, target, [*names.values(), MANIFEST])
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        for folder in _made(target, made):
            with suppress(OSError):  # somebody else may have put something in
                folder.rmdir()
        raise
    shutil.rmtree(work, ignore_errors=True)


def _first_missing(path: Path) -> Path | None:
    """The outermost folder that would have to be made for a path."""
    missing = None
    while not path.exists():
        missing, path = path, path.parent
    return missing


def _made(target: Path, first: Path | None) -> list[Path]:
    """The folders that were made for `target`, the innermost first."""
    if first is None:
        return []
    return [target, *(p for p in target.parents if p == first or first in p.parents)] if target != first else [target]


def _write(parts: Parts, names: dict[str, str], work: Path) -> dict[str, str]:
    """Write the section files; checksums come from other threads, since hashing takes as long as writing."""

    def checksum(model: Model) -> str:
        total = hashlib.sha256()
        for chunk in model.chunks:
            total.update(chunk)
        return total.hexdigest()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(lambda: parts.source.sha256)  # computed once and kept by the model
        sums = {part.name: pool.submit(checksum, part.model) for part in parts}
        for part in parts:
            with open(work / names[part.name], "xb") as file:
                for chunk in part.model.chunks:
                    file.write(chunk)
        return {name: found.result() for name, found in sums.items()}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time, so that the files of two splits into one folder do not mix. No lock where the system has none."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _move(work: Path, target: Path, names: list[str]) -> None:
    """Put the files in place, and everything back when one of them cannot be.

    What has been done is read off the folders, so that it does not matter between which two steps the failure came.
    """
    before = {name for name in names if os.path.lexists(target / name)}
    try:
        for name in names:
            if name in before:
                os.replace(target / name, work / f"{name}.before")
            os.replace(work / name, target / name)
    except BaseException:
        for name in names:
            with suppress(OSError):
                if os.path.lexists(work / f"{name}.before"):
                    os.replace(work / f"{name}.before", target / name)
                elif name not in before and not os.path.lexists(work / name):
                    os.unlink(target / name)
        raise
