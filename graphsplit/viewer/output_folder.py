"""The folder that a workbench writes into: plain names only, and no file is overwritten."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from graphsplit.errors import CutError, GraphSplitError, OverwriteError
from graphsplit.formats.atomic import check_free, whole_file
from graphsplit.parts.folder import check_save, save
from graphsplit.parts.manifest import MANIFEST, file_names
from graphsplit.parts.parts import Parts

__all__ = ["OutputFolder"]

_RENAME = "choose another name"  # the page cannot overwrite
_NAME = re.compile(r"[^\W_][\w.+-]{0,99}")


class OutputFolder:
    """A folder to save into. Names come from the page, so they lead nowhere else.

    Args:
        path: The folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save_crop(self, name: str, inputs: Sequence[str], ends: Sequence[Sequence[str]]) -> Path:
        """Write the border tensors of a cut as a crop file.

        Args:
            name: Name of the file; ``.json`` is appended if it is missing.
            inputs: Tensors at which main starts.
            ends: Tensors at which main ends; at most one list.

        Returns:
            The file.

        Raises:
            CutError: The cut is empty or N-way, which a crop file cannot express.
            OverwriteError: The file exists.
            GraphSplitError: The name is not a plain file name.
        """
        if len(ends) > 1:
            raise CutError("a crop file holds one cut; split into a folder to save an N-way split")
        target = self._target(name, ".json")
        check_free([target], then=_RENAME)
        content = {"inputs": list(inputs), "outputs": [t for end in ends for t in end]}
        content = {key: value for key, value in content.items() if value}
        if not content:
            raise CutError("the cut has no border tensors, so there is nothing to save; choose at least one")
        with whole_file(target) as file:
            file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        return target

    def free_folder(self, name: str, parts: Parts) -> Path:
        """The path for the sections of a split.

        Args:
            name: Name of the folder, which may exist.
            parts: What is to be saved there.

        Raises:
            OverwriteError: The folder holds one of the files already, or is a link.
            GraphSplitError: The name is not a plain file name.
        """
        target = self._target(name, "")
        if target.is_symlink():
            raise OverwriteError(f"{target.name} is a link; {_RENAME}", paths=[target])
        check_save(parts, target, then=_RENAME)
        return target

    def save_split(self, name: str, parts: Parts) -> tuple[Path, list[str]]:
        """Write sections and manifest into a folder of that name.

        Returns:
            The folder, and the names of the files.

        Raises:
            OverwriteError, GraphSplitError: As `free_folder`.
            FormatError: A file cannot be written.
        """
        target = self.free_folder(name, parts)
        save(parts, target)
        return target, sorted([*file_names(parts).values(), MANIFEST])

    def _target(self, name: str, suffix: str) -> Path:
        """A path directly in the folder. Raises GraphSplitError for anything but a plain file name."""
        plain = name.strip()
        if not _NAME.fullmatch(plain) or plain.endswith("."):
            raise GraphSplitError(
                f"{name[:60]!r} is not a plain file name; use letters, digits and . _ + -, starting with a letter or a digit"
            )
        return self.path / (plain if plain.endswith(suffix) else plain + suffix)
