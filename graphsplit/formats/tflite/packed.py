"""Files that are packed behind a flatbuffer, as a zip archive: labels and vocabularies, which metadata name."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

__all__ = ["pack", "packed_files"]

_LIMIT = 64 * 2**20  # bytes of all files
_MOST = 1000  # files
_MARK = b"PK\x03\x04"


def packed_files(data: memoryview, end: int) -> dict[str, bytes]:
    """The files by name; none if there is no archive, or one that is damaged, encrypted, or larger than label files are.

    Args:
        data: The file.
        end: Where its flatbuffer ends.
    """
    tail = bytes(data[end:]) if len(data) - end <= 2 * _LIMIT else b""
    if _MARK not in tail:
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(tail)) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
            if len(entries) > _MOST or sum(e.file_size for e in entries) > _LIMIT:
                return {}
            files = {}
            for entry in entries:
                with archive.open(entry) as stream:
                    files[entry.filename] = stream.read(entry.file_size)
            return files
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
        return {}


def pack(content: memoryview, files: Mapping[str, bytes]) -> memoryview:
    """A model with files behind it, uncompressed and without times, as the readers of metadata expect them."""
    stream = io.BytesIO()
    stream.write(content)
    with zipfile.ZipFile(stream, "w") as archive:  # its offsets count from the beginning of the file
        for name, held in files.items():
            archive.writestr(zipfile.ZipInfo(name), held)
    return stream.getbuffer()
