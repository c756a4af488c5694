"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from graphsplit.errors import FormatError, GraphSplitError

__all__ = ["whole_file"]


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name only when all went well. An existing file is replaced then.

    with whole_file(path) as file:
        file.write(data)

    Raises FormatError when the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # open(…, "xb") gives the permissions of the user's umask; tempfile would give 0600.
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and not isinstance(error, GraphSplitError):
            raise FormatError(f"cannot be written: {error.strerror or error}", path=path) from error
        raise
