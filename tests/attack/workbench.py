"""Hostile requests to the workbench: paths, methods, headers, bodies, origins; huge, slow and half ones."""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import graphsplit as gs
from tests.attack.mutations import mutated_bytes, mutated_json

__all__ = ["start"]

_PATHS = (
    "api/state", "api/tensors?q=x", "api/selected?node=cut", "api/graph?plan=0", "api/job?job=1", "api/plan", "api/verify",
    "api/save_crop",
    "api/split", "index.html", "", "workbench.js", "explorer/", "explorer/main_browser.js", "../api/state",
    "..%2f..%2fetc/passwd",
    "explorer/../../../../etc/passwd", "explorer/%2e%2e/%2e%2e/setup.cfg", "explorer//etc/passwd", "static/index.html",
    "api", "api/", "%00", "é",
)  # fmt: skip
_FIXED = (
    "/", "/static_files/../../setup.cfg", "/static_files/%00", "/api/v1/load_graphs_json?graph_index=0",
    "/api/v1/load_node_data?node_data_index=-1",
    "/api/v1/load_graphs_json?graph_index=" + "9" * 5000, "/api/v1/get_extensions", "/api/v1/x",
    "/apistream/server_director", "*", "//", "http://x/",
    "/api/v1/load_graphs_json?graph_index=%F0%9F%98%80", "/static_files/" + "a/" * 2000, "", "?", "/?" + "a=b&" * 5000,
    "http://[::1", "//[", "/%ff%fe",
)  # fmt: skip
_BODIES = (
    {"cut": {"inputs": [], "ends": [["cut"]]}},
    {"cut": {"inputs": ["x"], "ends": [["cut:0"]], "model_outputs": ["y"], "repair": "auto"}},
    {"cut": {"inputs": [], "ends": [["cut"]]}, "folder": "out", "name": "x"},
    {"cut": {"inputs": [], "ends": [["cut"]]}, "file": "crop.json", "overwrite": True},
)
_VALUES = (
    "", "x", "http://evil.example", "null", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]:80", "é", "\x00", "a" * 70_000,
    "-1", "0", "99999999999999999999",
    "9" * 5000, "1e3", "+5", "chunked", "gzip", "application/json", "text/plain", "multipart/form-data", "cross-site",
    "100-continue", "bytes=0-",
)  # fmt: skip
_HEADERS = (
    "Host", "Origin", "Referer", "Content-Length", "Content-Type", "Transfer-Encoding", "Expect", "Connection",
    "Sec-Fetch-Site", "Content-Encoding",
    "Range", "X-Forwarded-Host", "Cookie", "Upgrade", "Accept", "Content-Length",
)  # fmt: skip
_METHODS = (
    "GET",
    "GET",
    "GET",
    "POST",
    "POST",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "get",
    "",
    "G\x00T",
    "X" * 9000,
)


def start(samples: Path, place: Path) -> Callable[[int], str]:
    """What sends a hostile request to a server of this process."""
    folder = place / "in"
    viewer = gs.view(gs.load(samples / "graphdef" / "small.pb"), outputs="cut", folder=folder)
    address = urlsplit(viewer.url)
    assert address.port is not None
    port, token = address.port, address.path.strip("/")
    faults: list[str] = []
    _server_class().handle_error = lambda self, request, client: _keep(faults)

    def case(seed: int) -> str:
        rng = random.Random(seed)
        faults.clear()
        pieces = _request(rng, port, token)
        status = _send(rng, port, pieces)
        assert (
            _send(rng, port, [f"GET /{token}/api/state HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()])
            == 200
        )
        assert threading.active_count() < 200
        assert not faults, faults[0]
        assert status is None or status < 500 or status in (501, 505), status
        for found in (place / "in").rglob("*"):
            assert not found.is_symlink()
        return "fine" if status == 200 else f"{status}"

    return case


def _server_class() -> type:
    from graphsplit.viewer.server import Server

    return Server


def _keep(faults: list[str]) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, (ConnectionError, TimeoutError)):
        import traceback

        faults.append(f"{type(error).__name__}: {error} {traceback.format_exc()[-400:]}")


def _request(rng: random.Random, port: int, token: str) -> list[bytes]:
    """The pieces of a request."""
    method = rng.choice(_METHODS[:6]) if rng.random() < 0.7 else rng.choice(_METHODS)
    path = f"/{token}/{rng.choice(_PATHS)}" if rng.random() < 0.8 else rng.choice(_FIXED)
    if method == "POST" and rng.random() < 0.7:
        path = f"/{token}/api/{rng.choice(['plan', 'plan', 'verify', 'save_crop', 'split'])}"
    body = b""
    if method == "POST" or rng.random() < 0.1:
        body = (
            mutated_json(rng, json.dumps(rng.choice(_BODIES)))
            if rng.random() < 0.9
            else rng.choice([b"", b"\x00" * 3000, b"[" * 10**6])
        )
    headers = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", "Content-Length": str(len(body))}
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        headers[rng.choice(_HEADERS)] = rng.choice(_VALUES)
    if rng.random() < 0.05:
        headers |= {f"X-{n}": "y" for n in range(rng.choice([50, 150]))}
    version = rng.choice(["HTTP/1.1"] * 60 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/x", ""])
    lines = [f"{method} {path} {version}", *(f"{key}: {value}" for key, value in headers.items())]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode(errors="surrogatepass")
    if rng.random() < 0.08:
        head = mutated_bytes(rng, head)
    whole = head + body
    if rng.random() < 0.1:  # half of it
        whole = whole[: rng.randrange(len(whole) + 1)]
    if rng.random() < 0.1:  # slowly
        step = max(1, len(whole) // 4)
        return [whole[i : i + step] for i in range(0, len(whole), step)]
    return [whole, whole] if rng.random() < 0.05 else [whole]


def _send(rng: random.Random, port: int, pieces: list[bytes]) -> int | None:
    """The status of the answer; None for none."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        with suppress(OSError):
            for number, piece in enumerate(pieces):
                if number:
                    time.sleep(0.02)
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while b"\r\n" not in answer and (data := connection.recv(65536)):
                answer += data
        words = answer.split(b"\r\n")[0].split()
        if answer[:5] == b"HTTP/" and len(words) > 1:
            return int(words[1])
        return None
