"""A download that resumes where it was interrupted, with the checksum of the first download.

x.tar.gz.part       received so far
x.tar.gz.part.tag   version of that file (ETag, else Last-Modified); no other version is resumed
x.tar.gz.sha256     checksum of the first download; any other is refused
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from graphsplit.errors import FetchError, FormatError

__all__ = ["Progress", "download", "sum_of"]

#: Called with the bytes received and the bytes in total (None: unknown).
Progress = Callable[[int, int | None], object]

_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 20
_LIMIT = 8 * 2**30  # bytes of a file


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, never to a file of this machine."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError(f"redirected to {newurl[:80]}, which is not an http or https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(address: str, file: Path, *, progress: Progress = lambda received, total: None) -> str:
    """Download a file. Resumes an interrupted download.

    Args:
        address: http or https.
        file: Where to write it; an existing file is replaced.
        progress: Called with the bytes received and the bytes in total (None: unknown).

    Returns:
        Its SHA-256.

    Raises:
        FetchError: The network or the server failed, or the file is too large.
        FormatError: The checksum is not that of the first download.
    """
    part, tag = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.tag")
    try:
        _receive(address, part, tag, progress)
    except urllib.error.HTTPError as error:
        raise FetchError(f"{address}: the server answered {error.code} {error.reason}", address=address) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        kept = f" ({part.stat().st_size:,} bytes are kept; fetching again resumes)" if part.exists() else ""
        raise FetchError(
            f"{address}: the download failed ({reason or type(error).__name__}){kept}; on a machine without network, "
            f"copy the file to {file}",
            address=address,
        ) from error
    checksum = sum_of(part)
    noted = file.with_name(f"{file.name}.sha256")
    if noted.exists():
        first = noted.read_text(encoding="ascii", errors="replace").split()[:1]
        if first != [checksum]:
            with suppress(OSError):
                part.unlink()
                tag.unlink(missing_ok=True)
            raise FormatError(
                f"differs from the first download: its checksum is {checksum}, {noted.name} states {' '.join(first)}; "
                f"remove {noted} if you trust the new file",
                path=file,
            )
    else:
        noted.write_text(f"{checksum}  {file.name}\n", encoding="ascii", errors="replace")
    os.replace(part, file)
    tag.unlink(missing_ok=True)
    return checksum


def _receive(address: str, part: Path, tag: Path, progress: Progress) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "graphsplit", "Accept-Encoding": "identity"})
    known = tag.read_text(encoding="latin-1") if tag.exists() and part.exists() else ""
    if known and part.stat().st_size:
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        request.add_header("If-Range", known)
    opener = urllib.request.build_opener(_WebOnly)
    try:
        answer = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is complete already, or the file has changed
            raise
        part.unlink(missing_ok=True)
        tag.unlink(missing_ok=True)
        answer = opener.open(urllib.request.Request(address, headers={"User-Agent": "graphsplit"}), timeout=_TIMEOUT)
    with answer:
        resumed = answer.status == 206
        received = part.stat().st_size if resumed else 0
        length = answer.headers.get("Content-Length", "")
        total = received + int(length) if length.isascii() and length.isdigit() else None
        if total is not None and total > _LIMIT:
            raise FetchError(f"{address}: {total:,} bytes, more than {_LIMIT:,}", address=address)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if not version.startswith("W/"):  # a weak tag does not identify bytes
            tag.write_text(version, encoding="latin-1", errors="replace")
        with part.open("ab" if resumed else "wb") as out:
            _copy(answer, out, received, total, address, progress)


def _copy(
    answer: http.client.HTTPResponse, out: IO[bytes], received: int, total: int | None, address: str, progress: Progress
) -> None:
    progress(received, total)
    while block := answer.read(_BLOCK):
        received += len(block)
        if received > _LIMIT:
            raise FetchError(f"{address}: more than {_LIMIT:,} bytes", address=address)
        out.write(block)
        progress(received, total)
    if total is not None and received < total:
        raise ConnectionError(f"the connection ended after {received:,} of {total:,} bytes")


def sum_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as opened:
        total = hashlib.sha256()
        while block := opened.read(_BLOCK):
            total.update(block)
        return total.hexdigest()
