"""What servers and archives state is checked before it is believed: sizes, headers, names, redirects, speed."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graphsplit.errors import FetchError, FormatError
from graphsplit.fetching import download as downloading
from graphsplit.fetching.models import fetch_files
from graphsplit.fetching.unpacking import unpack
from tests.fetching.test_fetch import MODEL, packed, there

Headers = list[tuple[str, str]]


class Server(ThreadingHTTPServer):
    """Answers every request with the same status, headers and body; `pause`: seconds before each byte."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.headers, self.body, self.pause = 200, Headers(), MODEL, 0.0

    def address(self, name: str = "net.tar.gz") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        for key, value in self.server.headers:
            self.send_header(key, value)
        self.end_headers()
        try:
            if not self.server.pause:
                self.wfile.write(self.server.body)
            for byte in self.server.body if self.server.pause else b"":
                time.sleep(self.server.pause)
                self.wfile.write(bytes([byte]))
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (200, [("Content-Length", "9" * 5000)], r"a Content-Length of 5,000 digits, more than"),
        (200, [("Content-Length", str(2**62))], r"4,611,686,018,427,387,904 bytes, more than"),
        (200, [("Content-Length", str(len(MODEL) + 5))], r"ended after|IncompleteRead"),
        (200, [("Content-Encoding", "br")], r"the server packs the file \(br\), which it was asked not to"),
        (206, [("Content-Range", f"bytes 7-{len(MODEL)}/{len(MODEL)}")], r"another part of the file than was asked for"),
        (206, [], r"another part of the file than was asked for"),
        (204, [], r"the server answered 204"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(
    status: int, headers: Headers, says: str, server: Server, tmp_path: Path
) -> None:
    server.status, server.headers = status, headers
    with pytest.raises(FetchError, match=says) as caught:
        fetch_files(server.address(), tmp_path)
    assert len(str(caught.value)) < 500
    assert not {"net", "net.tar.gz", "net.tar.gz.sha256"} & {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize(
    "headers", [[], [("Content-Length", "-5")], [("Content-Length", "many")], [("Content-Encoding", "x-gzip")]]
)
def test_a_length_that_says_nothing_is_ignored(headers: Headers, server: Server, tmp_path: Path) -> None:
    server.headers = headers
    assert fetch_files(server.address(), tmp_path).sha256


def test_a_download_is_packed_by_nobody_else(server: Server, tmp_path: Path) -> None:
    server.headers, server.body = [("Content-Encoding", "gzip")], gzip.compress(bytes(10**6))
    with pytest.raises(FetchError, match=r"the server packs the file \(gzip\)"):
        fetch_files(server.address("net.pb"), tmp_path)


def test_a_body_beyond_the_limit_is_not_received(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_LIMIT", 5000)
    server.body = bytes(20_000)
    with pytest.raises(FetchError, match="more than 5,000 bytes"):
        fetch_files(server.address(), tmp_path)


def test_a_server_that_sends_byte_by_byte_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_PATIENCE", 0.3)
    server.pause = 0.02
    with pytest.raises(FetchError, match=r"\d+ bytes in 0.3 s, fewer than 65,536\) \([\d,]+ bytes are kept"):
        fetch_files(server.address(), tmp_path)


def test_a_server_that_never_ends_its_headers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(downloading, "_PATIENCE", 0.3)
    monkeypatch.setattr(downloading, "_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(FetchError, match=r"no answer within 0.3 s"):
        fetch_files(f"http://127.0.0.1:{listening.getsockname()[1]}/net.pb", tmp_path)
    for thread in threading.enumerate():
        if thread.name == "graphsplit fetch":
            thread.join()


def test_a_redirect_never_leaves_https() -> None:
    import urllib.error
    import urllib.request

    request = urllib.request.Request("https://example.org/a.pb")
    with pytest.raises(urllib.error.URLError, match=r"redirected from https to http://example\.org/b.pb"):
        downloading._WebOnly().redirect_request(request, io.BytesIO(), 302, "", None, "http://example.org/b.pb")  # type: ignore[arg-type]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net.tar.gz.part").symlink_to("/dev/full")
    with pytest.raises(FetchError, match=r"net.tar.gz.part cannot be written: No space left on device"):
        fetch_files(server.address(), tmp_path)


@pytest.mark.parametrize(
    "bad", [b"no archive", packed(("../x", b"")), packed(("net/readme", b""), ("net/README", b""))], ids=["none", "outside", "case"]
)
def test_the_sum_of_a_refused_archive_does_not_refuse_the_good_one(bad: bytes, server: Server, tmp_path: Path) -> None:
    server.body = bad
    with pytest.raises(FormatError):
        fetch_files(server.address(), tmp_path)
    assert there(tmp_path) == set()
    server.body = MODEL
    assert fetch_files(server.address(), tmp_path).models


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def endless(kind: bytes) -> bytes:
    """300 MB of a header that tarfile would read into memory, in 300 KB."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as packing:
        packing.write(header("x", kind, 250_000_000))
        for _ in range(250):
            packing.write(b"1" * 1_000_000)
    return out.getvalue()


def sparse() -> bytes:
    """A file of 8 GB, of which nothing is stored."""
    block = bytearray(header("x", tarfile.GNUTYPE_SPARSE, 0))
    block[386:398], block[398:410] = b"%011o\0" % 0, b"%011o\0" % 0
    block[483:495] = b"%011o\0" % (8 * 2**30 - 1)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return gzip.compress(bytes(block) + bytes(1024))


def chained() -> bytes:
    """Headers of headers."""
    record = b"20 comment=aaaaaaaa\n"
    one = header("x", tarfile.XHDTYPE, len(record)) + record.ljust(512, b"\0")
    return gzip.compress(one * 20_000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (endless(tarfile.XHDTYPE), "a header in the archive is too large"),
        (endless(tarfile.XGLTYPE), "a header in the archive is too large"),
        (endless(tarfile.GNUTYPE_LONGNAME), "a header in the archive is too large"),
        (sparse(), "'x' in the archive is a sparse file"),
        (chained(), "a header in the archive is too large|a damaged archive"),
        (packed(("a/B", b""), ("A/c", b"")), "'a' and 'A' in the archive differ in case only"),
        (packed(("caf\u00e9", b""), ("cafe\u0301", b"")), "in the archive differ in case only"),
        (packed(("a/" * 100 + "b", b"")), "has too long a name or too many folders"),
        (packed(("b" * 300, b"")), "has too long a name or too many folders"),
        (packed(("zeros", bytes(100_000_000))), r"the archive is too large \(.*200 times its own size"),
        (gzip.compress(MODEL), "neither a tar nor a zip archive"),
        (b"\x1f\x8b" + bytes(40), "a damaged archive"),
        (b"BZh9" + bytes(40), "a damaged archive"),
        (b"\xfd7zXZ\0" + bytes(40), "a damaged archive"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value[:30],
)
def test_an_archive_is_bounded_before_it_is_read(content: bytes, says: str, tmp_path: Path) -> None:
    archive = tmp_path / "net.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(FormatError, match=says) as caught:
        unpack(archive, tmp_path / "net", name="net")
    assert "\n" not in str(caught.value)
    assert there(tmp_path) == {"net.tar.gz"}


def test_the_members_of_an_archive_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphsplit.fetching.unpacking._MOST_FILES", 50)
    archive = tmp_path / "net.tar.gz"
    archive.write_bytes(packed(*((f"f{n}", b"") for n in range(51))))
    with pytest.raises(FormatError, match=r"the archive is too large \(more than 50 files"):
        unpack(archive, tmp_path / "net", name="net")


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux tells it")
def test_a_header_that_expands_takes_no_memory(tmp_path: Path) -> None:
    archive = tmp_path / "net.tar.gz"
    archive.write_bytes(endless(tarfile.XHDTYPE))
    code = (
        "import sys; from pathlib import Path; from graphsplit.fetching.unpacking import unpack\n"
        "try: unpack(Path(sys.argv[1]), Path(sys.argv[2]), name='net')\n"
        # Not getrusage: Linux counts what the parent held when it forked.
        "except Exception as error: kind = type(error).__name__\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(kind, next(line.split()[1] for line in status.splitlines() if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, archive, tmp_path / "net"], capture_output=True, text=True, check=True)
    kind, peak = done.stdout.split()
    assert kind == "FormatError"
    assert int(peak) < 200_000  # KiB


def zipped(*members: zipfile.ZipInfo | str, content: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for member in members:
            opened.writestr(member, content)
    return out.getvalue()


def linked() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("net/link")
    info.external_attr = 0o120777 << 16
    return info


def encrypted() -> bytes:
    data = bytearray(zipped("a"))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def with_directory_of(size: int) -> bytes:
    data = bytearray(zipped("a"))
    struct.pack_into("<I", data, data.index(b"PK\5\6") + 12, size)
    return bytes(data)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (zipped("a", content=bytes(200_000_000)), "the archive is too large"),
        (zipped(linked()), "is a link or a device"),
        (zipped("/etc/x"), "is outside of the folder"),
        (zipped("../x"), "is outside of the folder"),
        (zipped("a", "A"), "differ in case only"),
        (encrypted(), "'a' in the archive is encrypted"),
        (with_directory_of(2**32 - 1), "the archive is too large"),
        (with_directory_of(100_000), "a damaged archive"),
        (zipped("a")[:-30], "a damaged archive"),
    ],
    ids=["bomb", "link", "absolute", "up", "case", "encrypted", "directory", "directory beyond", "cut off"],
)
def test_a_zip_archive_is_bounded_before_it_is_read(content: bytes, says: str, tmp_path: Path) -> None:
    archive = tmp_path / "net.zip"
    archive.write_bytes(content)
    with pytest.raises(FormatError, match=says):
        unpack(archive, tmp_path / "net", name="net")
    assert there(tmp_path) == {"net.zip"}


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *((mode, tarfile.PAX_FORMAT) for mode in ("w", "w:gz", "w:bz2", "w:xz")),
        *(("w", form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)),
    ],
)
def test_archives_of_every_kind_are_unpacked(mode: str, form: int, tmp_path: Path) -> None:
    archive, weights = tmp_path / "net.tar", os.urandom(1_500_000)
    name = "net/" + "folder/" * 12 + "frozen_inference_graph.pb"
    with tarfile.open(archive, mode, format=form) as opened:  # type: ignore[call-overload]
        info = tarfile.TarInfo(name)
        info.size = len(weights)
        opened.addfile(info, io.BytesIO(weights))
    assert (unpack(archive, tmp_path / "net", name="net") / name[4:]).read_bytes() == weights
