"""Fetching from a server of this machine: resumed, checked, unpacked into its folder and nowhere else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.errors import FetchError, FormatError, OverwriteError
from graphsplit.fetching.download import sum_of
from graphsplit.fetching.models import fetch_files
from graphsplit.fetching.unpacking import unpack
from graphsplit.fetching.zoo import address_of, addresses, plain_name

GRAPH = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """files: path → content; `breaks`: answer only so many bytes, once; `asked`: the Range of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.breaks: int | None = None
        self.tag: str | None = '"one"'
        self.asked: list[str | None] = []

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(self.headers.get("Range"))
        if name in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[name])
            self.end_headers()
            return
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        begin, wanted = 0, self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == self.server.tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        if self.server.tag is not None:
            self.send_header("ETag", self.server.tag)
        self.end_headers()
        stop, self.server.breaks = self.server.breaks, None
        self.wfile.write(content[begin : None if stop is None else begin + stop])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def packed(*members: tuple[tarfile.TarInfo | str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for info, content in members:
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


MODEL = packed(("net/frozen_inference_graph.pb", GRAPH), ("net/saved_model/saved_model.pb", b"x"), ("net/checkpoint", b"y"))


def there(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_an_archive_becomes_a_folder_and_its_sum_is_kept(server: Server, tmp_path: Path) -> None:
    server.files["net.tar.gz"] = MODEL
    progress_at: list[tuple[int, int | None]] = []
    fetched = fetch_files(server.address("net.tar.gz"), tmp_path, progress=lambda *at: progress_at.append(at))
    assert fetched.path == tmp_path / "net"
    assert (tmp_path / "net" / "frozen_inference_graph.pb").read_bytes() == GRAPH
    assert [m.name for m in fetched.models] == ["frozen_inference_graph.pb", "saved_model"]
    assert progress_at[0] == (0, len(MODEL))
    assert progress_at[-1] == (len(MODEL), len(MODEL))
    assert (tmp_path / "net.tar.gz.sha256").read_text().split() == [fetched.sha256, "net.tar.gz"]
    assert there(tmp_path) == {
        "net.tar.gz.sha256",
        "net/frozen_inference_graph.pb",
        "net/saved_model/saved_model.pb",
        "net/checkpoint",
    }


def test_the_path_of_the_model_is_what_load_takes(server: Server, tmp_path: Path) -> None:
    graph = b"\n" + bytes([len(node := b"\n\x01x\x12\x0bPlaceholder")]) + node  # GraphDef { node { name: "x" op: "Placeholder" } }
    server.files["net.tar.gz"] = packed(("net/saved_model/saved_model.pb", b"x"), ("net/frozen_inference_graph.pb", graph))
    path = gs.fetch(server.address("net.tar.gz"), tmp_path / "zoo")
    assert path == tmp_path / "zoo" / "net" / "frozen_inference_graph.pb"
    assert [node.name for node in gs.load(path).index.nodes] == ["x"]
    assert gs.fetch(server.address("net.tar.gz"), tmp_path / "zoo") == path
    assert len(server.asked) == 1


def test_an_archive_without_a_model_is_an_error(server: Server, tmp_path: Path) -> None:
    server.files["net.tar.gz"] = packed(("net/readme.md", b"nothing here"))
    with pytest.raises(FetchError, match=r"net.tar.gz holds no model that can be loaded; see .*net$"):
        gs.fetch(server.address("net.tar.gz"), tmp_path)


def test_what_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.files["net.tar.gz"] = MODEL
    first = fetch_files(server.address("net.tar.gz"), tmp_path)
    again = fetch_files(server.address("net.tar.gz"), tmp_path)
    assert (again.path, again.models, again.sha256) == (first.path, first.models, "")
    assert len(server.asked) == 1


def test_an_interrupted_download_resumes(server: Server, tmp_path: Path) -> None:
    server.files["net.pb"] = GRAPH
    server.breaks = 300_000
    with pytest.raises(
        FetchError, match=r"ended after 300,000 of 1,024,000 bytes\).*300,000 bytes are kept; fetching again resumes"
    ):
        fetch_files(server.address("net.pb"), tmp_path)
    assert not (tmp_path / "net.pb").exists()
    fetched = fetch_files(server.address("net.pb"), tmp_path)
    assert server.asked == [None, "bytes=300000-"]
    assert fetched.path.read_bytes() == GRAPH
    assert there(tmp_path) == {"net.pb"}  # no model, so its sum binds nobody


def test_a_file_that_changed_meanwhile_begins_anew(server: Server, tmp_path: Path) -> None:
    server.files["net.pb"], server.breaks = GRAPH, 300_000
    with pytest.raises(FetchError):
        fetch_files(server.address("net.pb"), tmp_path)
    server.files["net.pb"], server.tag = GRAPH[::-1], '"two"'
    assert fetch_files(server.address("net.pb"), tmp_path).path.read_bytes() == GRAPH[::-1]


def test_without_a_tag_a_part_is_not_resumed(server: Server, tmp_path: Path) -> None:
    server.files["net.pb"], server.breaks, server.tag = GRAPH, 300_000, None
    with pytest.raises(FetchError):
        fetch_files(server.address("net.pb"), tmp_path)
    assert fetch_files(server.address("net.pb"), tmp_path).path.read_bytes() == GRAPH
    assert server.asked == [None, None]


def test_a_part_that_was_complete_is_no_dead_end(server: Server, tmp_path: Path) -> None:
    server.files["net.pb"] = GRAPH
    (tmp_path / "net.pb.part").write_bytes(GRAPH)
    (tmp_path / "net.pb.part.tag").write_text('"one"')
    assert fetch_files(server.address("net.pb"), tmp_path).path.read_bytes() == GRAPH


def test_another_sum_than_the_first_time_is_refused_and_what_is_there_stays(server: Server, tmp_path: Path) -> None:
    server.files["net.tar.gz"] = MODEL
    fetch_files(server.address("net.tar.gz"), tmp_path)
    before = there(tmp_path)
    server.files["net.tar.gz"] = packed(("net/frozen_inference_graph.pb", b"other"))
    with pytest.raises(FormatError, match=r"differs from the first download: its checksum is [0-9a-f]{64}, .*sha256 states"):
        fetch_files(server.address("net.tar.gz"), tmp_path, overwrite=True)
    assert there(tmp_path) == before
    assert (tmp_path / "net" / "frozen_inference_graph.pb").read_bytes() == GRAPH


def test_overwrite_replaces_the_folder(server: Server, tmp_path: Path) -> None:
    server.files["net.tar.gz"] = MODEL
    fetch_files(server.address("net.tar.gz"), tmp_path)
    (tmp_path / "net" / "mine").write_bytes(b"")
    assert fetch_files(server.address("net.tar.gz"), tmp_path, overwrite=True).sha256
    assert "net/mine" not in there(tmp_path)


@pytest.mark.parametrize(
    "moved",
    ["file:///etc/passwd", "ftp://x/y.pb"],
)
def test_a_redirect_leads_to_the_web_only(server: Server, tmp_path: Path, moved: str) -> None:
    server.moved["net.pb"] = moved
    with pytest.raises(FetchError, match=r"not an http or https address|not allowed"):
        fetch_files(server.address("net.pb"), tmp_path)
    assert there(tmp_path) == set()


def test_a_redirect_within_the_web_is_followed(server: Server, tmp_path: Path) -> None:
    server.moved["net.pb"], server.files["other.pb"] = server.address("other.pb"), GRAPH
    assert fetch_files(server.address("net.pb"), tmp_path).path.name == "net.pb"


def test_errors_of_server_and_network_are_reported(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"http://127.0.0.1:\d+/none.pb: the server answered 404"):
        fetch_files(server.address("none.pb"), tmp_path)
    gone = f"http://127.0.0.1:{free_port()}/net.pb"
    with pytest.raises(FetchError, match=r"the download failed \(.*refused.*\); on a machine without network, copy the file"):
        fetch_files(gone, tmp_path)


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_names_of_the_zoo_and_addresses() -> None:
    assert address_of("ssd_mobilenet_v1_coco_2018_01_28").endswith("/object_detection/ssd_mobilenet_v1_coco_2018_01_28.tar.gz")
    assert address_of("https://a.b/c.pb") == "https://a.b/c.pb"
    assert len(addresses()) == 27
    with pytest.raises(FetchError, match=r"no published model named 'ssd_mobilenet_v1_coco'; did you mean ssd_mobilenet_v1_coco_"):
        address_of("ssd_mobilenet_v1_coco")
    with pytest.raises(FetchError, match=r"`graphsplit fetch` lists the names"):
        address_of("/etc/passwd")
    assert plain_name("http://a/b/x_0.75.tar.gz?y=1") == ("x_0.75", ".tar.gz")
    assert plain_name("http://a/b/x.tflite") == ("x.tflite", "")


@pytest.mark.parametrize("end", ["", "..", ".tar.gz", "%2e%2e", "a%00b", "a%5Cb", "a:b", "x" * 300])
def test_an_address_never_names_another_place(end: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="does not end in a plain file name"):
        fetch_files(f"http://127.0.0.1:1/{end}", tmp_path)


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("../out.pb", b"x")], "in the archive is outside of the folder"),
        ([("a/../../out.pb", b"x")], "in the archive is outside of the folder"),
        ([("/out.pb", b"x")], "in the archive is outside of the folder"),
        ([("a\\..\\..\\out.pb", b"x")], "in the archive is outside of the folder"),
        ([("C:/out.pb", b"x")], "in the archive is outside of the folder"),
        ([(link("a", "/etc"), b""), ("a/passwd", b"x")], "in the archive is a link or a device"),
        ([(link("a", "b", tarfile.LNKTYPE), b"")], "in the archive is a link or a device"),
        ([(link("a", "", tarfile.FIFOTYPE), b"")], "in the archive is a link or a device"),
        ([("a", b"x"), ("a", b"y")], "in the archive twice"),
        ([("a/b", b"x"), ("a", b"y")], "in the archive twice"),
        ([("a", b"x"), ("a/b", b"y")], "in the archive twice"),
    ],
)
def test_a_hostile_archive_is_refused_whole(members: list[tuple[tarfile.TarInfo | str, bytes]], says: str, tmp_path: Path) -> None:
    archive = tmp_path / "net.tar.gz"
    archive.write_bytes(packed(*members))
    with pytest.raises(FormatError, match=says):
        unpack(archive, tmp_path / "in" / "net", name="net")
    assert there(tmp_path) == {"net.tar.gz"}


def test_an_archive_that_promises_less_than_it_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "net.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a", bytes(100_000))
    monkeypatch.setattr("graphsplit.fetching.unpacking._MOST_BYTES", 50_000)
    with pytest.raises(FormatError, match="the archive is too large"):
        unpack(archive, tmp_path / "net", name="net")
    assert there(tmp_path) == {"net.zip"}


@pytest.mark.parametrize("content", [MODEL[:2000], b"no archive", b""], ids=["cut off", "text", "empty"])
def test_a_damaged_archive_is_reported(content: bytes, server: Server, tmp_path: Path) -> None:
    server.files["net.tar.gz"] = content
    with pytest.raises(FormatError, match=r"a damaged archive|neither a tar nor a zip"):
        fetch_files(server.address("net.tar.gz"), tmp_path)
    assert there(tmp_path) == set()


def test_zip_archives_and_archives_without_a_folder_of_their_own(tmp_path: Path) -> None:
    archive = tmp_path / "net.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("model.tflite", b"x")
        opened.writestr("labels/l.txt", b"y")
    unpack(archive, tmp_path / "net", name="net")
    assert there(tmp_path / "net") == {"model.tflite", "labels/l.txt"}
    with pytest.raises(OverwriteError):
        unpack(archive, tmp_path / "net", name="net")


def graphsplit(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "graphsplit", *map(str, args)], capture_output=True, text=True, check=False)


@pytest.fixture
def call(server: Server) -> Callable[..., subprocess.CompletedProcess[str]]:
    server.files["net.tar.gz"] = MODEL
    return graphsplit


def test_the_command(call: Callable[..., subprocess.CompletedProcess[str]], server: Server, tmp_path: Path) -> None:
    done = call("fetch", server.address("net.tar.gz"), "-o", tmp_path, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["path"], len(answer["models"])) == (0, str(tmp_path / "net"), 2)
    assert sum_of(tmp_path / "net" / "frozen_inference_graph.pb") != answer["sha256"]
    assert "already there" in call("fetch", server.address("net.tar.gz"), "-o", tmp_path).stdout
    wrong = call("fetch", "ssd")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("graphsplit: no published model named 'ssd'")
    assert "ssdlite_mobilenet_v2_coco_2018_05_09" in call("fetch").stdout
