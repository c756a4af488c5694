"""Hostile archives, and servers that send them with hostile headers."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import socket
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from graphsplit.fetching.models import fetch_files
from graphsplit.fetching.unpacking import unpack
from tests.attack.mutations import mutated_bytes

__all__ = ["start_archives", "start_fetching"]

_NAMES = (
    "net/x", "net/frozen_inference_graph.pb", "net/../../x", "../x", "/tmp/graphsplit_outside", "x\x00y", "", ".", "..",
    "net", "net/", "a/./b",
    "a//b", "C:\\x", "..\\x", "\\\\host\\x", "é", "\udcff", "x" * 300, "a/" * 600 + "b", "\x1b[2J", "net/.hidden", "~/x",
    "-rf", "CON", "net/x/y",
)  # fmt: skip
_KINDS = (tarfile.REGTYPE,) * 8 + (
    tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE, tarfile.AREGTYPE, b"Z",
)  # fmt: skip
_PAX = {
    "size": ["0", "-1", "99999999999999", "9" * 5000, "x", "1e3"], "path": ["../x", "/x", "net/x", "x" * 5000],
    "linkpath": ["/etc/passwd"],
    "GNU.sparse.size": ["99999999999"], "GNU.sparse.map": ["0,1", "0,99999999999,5,5", "x"],
    "GNU.sparse.realsize": ["8589934592"],
    "GNU.sparse.major": ["1"], "GNU.sparse.minor": ["0"], "GNU.sparse.numblocks": ["3"], "mtime": ["nan", "-1", "x"],
    "uid": ["x"],
    "hdrcharset": ["BINARY"], "comment": ["x" * 100_000],
}  # fmt: skip


def start_archives(samples: Path, place: Path) -> Callable[[int], str]:
    """What unpacks a hostile archive."""

    def case(seed: int) -> str:
        rng = random.Random(seed)
        path = place / "in" / "net.archive"
        path.write_bytes(_archive(rng))
        unpack(path, place / "out" / "net", name="net")
        _check_plain(place / "out")
        return "fine"

    return case


def _check_plain(folder: Path) -> None:
    for found in folder.rglob("*"):
        assert not found.is_symlink(), found
        assert found.is_file() or found.is_dir(), found
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 2**28


def _archive(rng: random.Random) -> bytes:
    data = _zip(rng) if rng.random() < 0.3 else _tar(rng)
    return mutated_bytes(rng, data) if rng.random() < 0.15 else data


def _tar(rng: random.Random) -> bytes:
    out = io.BytesIO()
    form = rng.choice([tarfile.PAX_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for number in range(rng.randint(1, 5)):
            info = tarfile.TarInfo(f"net/file{number}")
            content = bytes(rng.choice([0, 1, 100, 5000]))
            info.size = len(content)
            if rng.random() < 0.25:
                info.name = rng.choice(_NAMES)
            if rng.random() < 0.15:
                info.type = rng.choice(_KINDS)
                info.linkname = rng.choice(["net/file0", "/etc/passwd", "../../x", ""])
            if rng.random() < 0.15:
                key = rng.choice(list(_PAX))
                info.pax_headers = {key: rng.choice(_PAX[key]) for key in {key, rng.choice(list(_PAX))}}
            if rng.random() < 0.1:
                info.mode = rng.choice([0, 0o7777, 0o4755])
            with suppress(ValueError, UnicodeError, OverflowError):
                archive.addfile(info, io.BytesIO(content))
    data = bytearray(out.getvalue())
    if rng.random() < 0.2:  # another size, with a sum that fits
        size = rng.choice(
            [b"77777777777\x00", b"\x80" + bytes(3) + struct.pack(">Q", 2**40), b"-0000000001\x00", b"0000000001\x00\x00"]
        )
        data[124:136] = size
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\x00 " % sum(data[:512])
    if rng.random() < 0.1:
        data = bytearray(mutated_bytes(rng, bytes(data)))
    if rng.random() < 0.05:
        data += bytes(rng.choice([50_000_000, 10_000]))
    pack = rng.choice([gzip.compress, gzip.compress, bz2.compress, bytes])
    return pack(bytes(data))


def _zip(rng: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA])) as archive:
        for number in range(rng.randint(1, 5)):
            info = zipfile.ZipInfo(f"net/file{number}")
            if rng.random() < 0.25:
                info.filename = rng.choice(_NAMES).replace("\udcff", "x")
            if rng.random() < 0.15:
                info.external_attr = rng.choice([0o120777, 0o020666, 0o010644, 0o040755, 0o104755]) << 16
            import warnings

            with warnings.catch_warnings(), suppress(ValueError):
                warnings.simplefilter("ignore")
                archive.writestr(info, bytes(rng.choice([0, 1, 100, 5000, 10**6])))
    data = bytearray(out.getvalue())
    if rng.random() < 0.4:  # a field of the directory
        entry = data.find(b"PK\x01\x02")
        offset = rng.choice([6, 8, 10, 16, 20, 24, 28, 30, 32, 38, 42])
        data[entry + offset : entry + offset + 2] = struct.pack("<H", rng.choice([0, 1, 8, 99, 2**16 - 1, 12]))
    return bytes(data)


# over HTTP


def start_fetching(samples: Path, place: Path) -> Callable[[int], str]:
    """What fetches from a server that answers as the seed says."""
    listener = socket.create_server(("127.0.0.1", 0))
    answers: list[list[bytes]] = []

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(2)
                while b"\r\n\r\n" not in connection.recv(65536):
                    pass
                for piece in answers[-1]:
                    connection.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]

    def case(seed: int) -> str:
        rng = random.Random(seed)
        answers[:] = [_answer(rng, port)]
        ending = rng.choice(
            [".tar.gz", ".tar.gz", ".zip", ".pb", ".tflite", "", "/", "/..", "/%2e%2e%2fx.tar.gz", "?x=../y.tar.gz", "%00.tar.gz"]
        )
        fetch_files(f"http://127.0.0.1:{port}/net{ending}", place / "out")
        _check_plain(place / "out")
        return "fine"

    return case


def _answer(rng: random.Random, port: int) -> list[bytes]:
    body = _archive(rng) if rng.random() < 0.8 else rng.choice([b"", b"<html>", bytes(10**6), b"\x1f\x8b" * 50])
    status = (
        b"200 OK"
        if rng.random() < 0.7
        else rng.choice(
            [
                b"206 Partial",
                b"204 No",
                b"304 Not",
                b"302 Found",
                b"301 x",
                b"307 x",
                b"404 \x1b[31mx",
                b"500",
                b"999 x",
                b"-1 x",
                b"x y",
                b"",
                b"200 " + b"x" * 70_000,
            ]
        )
    )
    length = (
        b"%d" % len(body)
        if rng.random() < 0.6
        else rng.choice(
            [
                b"0",
                b"-1",
                b"1",
                b"9" * 5000,
                b"99999999999999",
                b"x",
                b"",
                b"1, 1",
                b"%d" % (len(body) + 7),
                b"1e3",
                b"\xb2",
                b"0x10",
                b"+5",
            ]
        )
    )
    headers = [b"Content-Length: " + length]
    for _ in range(rng.choice([0, 0, 1, 2])):
        headers.append(rng.choice(_HEADERS).replace(b"PORT", b"%d" % port))
    if rng.random() < 0.1:
        del headers[0]
    start = (
        rng.choice([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/99", b"ICY"])
        if rng.random() < 0.3
        else b"HTTP/1.1"
    )
    head = start + b" " + status + b"\r\n" + b"\r\n".join(headers) + b"\r\nConnection: close\r\n\r\n"
    if rng.random() < 0.05:
        head = mutated_bytes(rng, head)
    cut = rng.randrange(len(body) + 1) if rng.random() < 0.1 else len(body)
    return [head, body[:cut]]


_HEADERS = (
    b"Location: file:///etc/passwd", b"Location: http://127.0.0.1:PORT/net.tar.gz", b"Location: ", b"Location: //",
    b"Location: http://[::1",
    b"Location: http://127.0.0.1:99999/", b"Location: ftp://127.0.0.1/", b"Location: http://\x00/",
    b"Location: http://127.0.0.1:x/", b"Location: /\xff\xfe",
    b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Range: bytes 5-1/0", b"Content-Range: x",
    b"ETag: \"\x1b[31m\"", b"ETag: " + b"x" * 60_000,
    b"ETag: W/\"x\"", b"Last-Modified: x", b"Accept-Ranges: bytes", b"X: " + b"y" * 70_000, b"\xff\xfe: \xff", b"no colon",
    b" folded",
    b"Content-Disposition: attachment; filename=../../x", b"Refresh: 0; url=file:///etc/passwd", b"X: y\r\n" * 300 + b"X: z",
)  # fmt: skip
