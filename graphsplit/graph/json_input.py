"""JSON files from outside: read whole, of bounded size, and every way in which that can fail told as one kind of error."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.errors import FormatError

__all__ = ["read_json"]


def read_json(path: str | PathLike[str], *, what: str, limit: int) -> Any:
    """The content of a JSON file.

    what   what the file should be, for the error: "a crop file"
    limit  bytes it may have

    Raises FormatError for a file that cannot be read, is too large, or is not JSON.
    """
    where = Path(path)
    try:
        size = where.stat().st_size
        if size > limit:
            raise FormatError(f"too large for {what} ({size:,} bytes)", path=where)
        return json.loads(where.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=where) from error
    except FormatError:  # a ValueError, too
        raise
    except (ValueError, RecursionError) as error:  # bytes that are no text, text that is no JSON, absurd numbers
        raise FormatError(f"not JSON: {error}", path=where) from error
