"""A split on disk: the section files and ``split.json``, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path

from graphsplit.errors import OptionError
from graphsplit.formats.atomic import check_folder, check_free
from graphsplit.formats.staging import Staging
from graphsplit.formats.switch import reported
from graphsplit.graph.options import check_path, hinted
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
    folder = _folder(parts, directory)
    check_folder(folder)
    whole = parts.source.path
    sources = [whole] if whole is not None and os.path.isfile(whole) else []  # also where nobody may look
    check_free([folder / name for name in (*file_names(parts).values(), MANIFEST)], sources=sources, overwrite=overwrite, then=then)


@hinted
def save(parts: Parts, directory: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the section files and the manifest into a folder.

    Everything is written aside first and renamed at the end, the manifest last. If anything fails, or the process is killed,
    what was there before is restored (see `graphsplit.formats.switch`). Files that do not belong to the split are never touched.

    Args:
        parts: What to save.
        directory: The folder; created if it does not exist.
        overwrite: Replace the files of an earlier split.

    Returns:
        The folder.

    Raises:
        OverwriteError: if one of the files exists, or another run has written it meanwhile, and `overwrite` is not set.
        FormatError: if a file cannot be written, or the file of the whole has changed since it was read.
        OptionError: if `parts` are not parts, or `directory` is not a path.
    """
    target = _folder(parts, directory)
    with reported(target):
        check_save(parts, target, overwrite=overwrite)
        staging = Staging(target, overwrite=overwrite)
        try:
            sums = _write(parts, target, staging)
            text = json.dumps(manifest_json(parts, sums, target), indent=1, ensure_ascii=False) + "\n"
            # A path that is not UTF-8 holds lone surrogates; a backslash before them is JSON's own way to write them.
            staging.place(target / MANIFEST).write_bytes(text.encode("utf-8", "backslashreplace"))
            if parts.source.model is not None:
                parts.source.model.check_unchanged()
            staging.keep()
        finally:
            staging.drop()
    return target


def _folder(parts: Parts, directory: str | PathLike[str]) -> Path:
    """The folder, once both arguments are known to be of their types. Raises OptionError."""
    if not isinstance(parts, Parts):
        raise OptionError(f"parts must be the result of split, not {parts!r:.100}; as in save(parts, directory)", option="parts")
    check_path("directory", directory, "a folder")
    return Path(directory)


def _write(parts: Parts, target: Path, staging: Staging) -> dict[str, str]:
    """Write the section files, and sum what is written, while another thread sums the source."""
    sums, names = {}, file_names(parts)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: parts.source.sha256)  # computed once and kept by the model
        for part in parts:
            path, total = target / names[part.name], hashlib.sha256()
            with reported(path), open(staging.place(path), "xb") as file:
                for chunk in part.model.chunks:
                    file.write(chunk)
                    total.update(chunk)
            sums[part.name] = total.hexdigest()
    return sums
