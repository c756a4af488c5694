"""A download that resumes where it was interrupted, with the checksum of the first download.

x.tar.gz.part       received so far
x.tar.gz.part.tag   version of that file (ETag, else Last-Modified); no other version is resumed
x.tar.gz.sha256     checksum of the first download that was accepted; any other is refused
"""

from __future__ import annotations

import hashlib
import http.client
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from graphsplit.errors import FetchError, FormatError

__all__ = ["Progress", "download", "remember", "sum_of"]

#: Called with the bytes received and the bytes in total (None: unknown).
Progress = Callable[[int, int | None], object]

_TIMEOUT = 30.0  # seconds without a byte
_PATIENCE = 60.0  # seconds for the headers, and for each _LEAST bytes
_LEAST = 64 * 2**10
_BLOCK = 1 << 20
_LIMIT = 8 * 2**30  # bytes of a file


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, never to a file of this machine."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError(f"redirected to {newurl[:80]}, which is not an http or https address")
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme == "http":
            raise urllib.error.URLError(f"redirected from https to {newurl[:80]}, which anybody on the way can change")
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
        FetchError: The network, the server or the disk failed, or the file is too large.
        FormatError: The checksum is not that of the first download.
    """
    part, tag = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.tag")
    try:
        _receive(address, part, tag, progress)
    except FetchError:  # a ConnectionError, too
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchError(f"{address}: the server answered {error.code} {error.reason}", address=address) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        kept = f" ({part.stat().st_size:,} bytes are kept; fetching again resumes)" if part.exists() else ""
        raise FetchError(
            f"{address}: the download failed ({reason or type(error).__name__}){kept}; on a machine without network, "
            f"copy the file to {file}",
            address=address,
        ) from error
    except OSError as error:
        kept = f" ({part.stat().st_size:,} bytes are kept; fetching again resumes)" if part.exists() else ""
        raise FetchError(f"{part} cannot be written: {error.strerror or error}{kept}", address=address) from error
    checksum = sum_of(part)
    noted = _noted(file)
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
    os.replace(part, file)
    tag.unlink(missing_ok=True)
    return checksum


def remember(file: Path, checksum: str) -> None:
    """Note the checksum of a download that was accepted; later ones must match. A sum that is noted already stays."""
    with suppress(FileExistsError), _noted(file).open("x", encoding="ascii", errors="replace") as noted:
        noted.write(f"{checksum}  {file.name}\n")


def _noted(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _receive(address: str, part: Path, tag: Path, progress: Progress) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "graphsplit", "Accept-Encoding": "identity"})
    known = tag.read_text(encoding="latin-1") if tag.exists() and part.exists() else ""
    if known and part.stat().st_size:
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        request.add_header("If-Range", known)
    opener = urllib.request.build_opener(_WebOnly)
    try:
        answer = _open(opener, request)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is complete already, or the file has changed
            raise
        part.unlink(missing_ok=True)
        tag.unlink(missing_ok=True)
        request = urllib.request.Request(address, headers={"User-Agent": "graphsplit", "Accept-Encoding": "identity"})
        answer = _open(opener, request)
    with answer:
        if answer.status not in (200, 206):
            raise FetchError(f"{address}: the server answered {answer.status} {answer.reason}", address=address)
        resumed = answer.status == 206
        received = part.stat().st_size if resumed and part.exists() else 0
        if resumed and not re.match(rf"bytes {received}-", answer.headers.get("Content-Range", "")):
            raise FetchError(f"{address}: the server answered another part of the file than was asked for", address=address)
        packed = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if packed not in ("", "identity") and not (packed in ("gzip", "x-gzip") and urlsplit(address).path.endswith(("gz", "tgz"))):
            raise FetchError(f"{address}: the server packs the file ({packed[:40]}), which it was asked not to", address=address)
        total = _total(answer.headers.get("Content-Length", ""), received, address)
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if not version.startswith("W/"):  # a weak tag does not identify bytes
            tag.write_text(version, encoding="latin-1", errors="replace")
        with part.open("ab" if resumed else "wb") as out:
            _copy(answer, out, received, total, address, progress)


def _open(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> http.client.HTTPResponse:
    """The answer, once its headers are here. A server that sends them byte by byte is given up: no timeout of a socket sees it."""
    results: queue.SimpleQueue[http.client.HTTPResponse | BaseException] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            answer = opener.open(request, timeout=_TIMEOUT)
        except BaseException as error:  # raised by the caller
            results.put(error)
            return
        results.put(answer)
        if given_up.is_set():
            answer.close()

    threading.Thread(target=ask, daemon=True, name="graphsplit fetch").start()
    try:
        result = results.get(timeout=_PATIENCE)
    except queue.Empty:
        given_up.set()
        raise TimeoutError(f"no answer within {_PATIENCE:g} s") from None
    if isinstance(result, BaseException):
        try:
            raise result
        finally:
            del result  # else it would be kept by its own traceback, with a socket
    return result


def _total(stated: str, received: int, address: str) -> int | None:
    """How many bytes there will be, by the header Content-Length; None if it does not say."""
    if not (stated.isascii() and stated.isdigit()):
        return None
    if len(stated) > 19:
        raise FetchError(f"{address}: a Content-Length of {len(stated):,} digits, more than {_LIMIT:,} bytes", address=address)
    total = received + int(stated)
    if total > _LIMIT:
        raise FetchError(f"{address}: {total:,} bytes, more than {_LIMIT:,}", address=address)
    return total


def _copy(
    answer: http.client.HTTPResponse, out: IO[bytes], received: int, total: int | None, address: str, progress: Progress
) -> None:
    progress(received, total)
    since, then = time.monotonic(), received
    while block := answer.read1(_BLOCK):
        received += len(block)
        if received > _LIMIT:
            raise FetchError(f"{address}: more than {_LIMIT:,} bytes", address=address)
        out.write(block)
        progress(received, total)
        if (now := time.monotonic()) - since > _PATIENCE:
            if received - then < _LEAST:
                raise TimeoutError(f"{received - then:,} bytes in {_PATIENCE:g} s, fewer than {_LEAST:,}")
            since, then = now, received
    if total is not None and received < total:
        raise ConnectionError(f"the connection ended after {received:,} of {total:,} bytes")


def sum_of(file: Path) -> str:
    """The SHA-256 of a file."""
    with file.open("rb") as opened:
        total = hashlib.sha256()
        while block := opened.read(_BLOCK):
            total.update(block)
        return total.hexdigest()
