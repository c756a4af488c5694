"""The workbench over HTTP, for this machine alone.

    /TOKEN/                    the page; the token is random and part of the address, so nobody else finds it
    /TOKEN/api/…               requests of the page: GET to read, POST (JSON, at most 1 MiB) to plan, prove and save
    /TOKEN/explorer/…          the pages of ai-edge-model-explorer, if it is installed
    /static_files/…, /api/v1/… what those pages request at fixed addresses: files of that package, and graphs by the number of
                               a plan, which is a secret of 53 bits

Bound to 127.0.0.1. Host and Origin must be this server's, or a page from elsewhere could send requests through the reader's
browser (DNS rebinding). No path of a client is ever followed beyond a plain file name.
"""

from __future__ import annotations

import json
import mimetypes
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from graphsplit.errors import GraphSplitError
from graphsplit.viewer.explorer import web_files
from graphsplit.viewer.workbench import Workbench

__all__ = ["Server"]

_BODY = 2**20  # bytes of a request
_IDLE = 60  # seconds a connection may be silent
_OWN = ("index.html", "workbench.js", "workbench.css")
_FILE = re.compile(r"[A-Za-z0-9_][\w.-]{0,120}")
_KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".json": "application/json", ".woff2": "font/woff2"}
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'; "
    f"base-uri 'none'; form-action 'none'; frame-ancestors 'self' {_NOTEBOOKS}"
)
_EXPLORER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    f"connect-src 'self'; worker-src 'self' blob:; base-uri 'self'; form-action 'none'; frame-ancestors 'self' {_NOTEBOOKS}"
)
# What the explorer is configured to read: graphs as JSON, no files.
_JSON_READER = {"fileExts": ["json"], "type": "adapter", "id": "builtin_json", "name": "JSON", "description": "a plan as a graph"}
_NEW_VERSION = {"version": "", "runningVersion": "", "releaseUrl": "", "desktopAppUrl": ""}


class _Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status = status
        super().__init__(message)


class Server(ThreadingHTTPServer):
    """Serves a workbench on an address of this machine. `serve_forever` serves, `close` ends."""

    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, workbench: Workbench, port: int = 0) -> None:
        """Listen on a port; 0: any free one. Raises GraphSplitError if the port is taken."""
        self.workbench = workbench
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise GraphSplitError(f"port {port} cannot be used: {reason}; choose another with port=…, or none") from error
        self.hosts = {f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"}

    @property
    def url(self) -> str:
        """The address to open, with its token."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind without a name lookup."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A dropped connection is not reported."""

    def close(self) -> None:
        """Stop listening and let running work end."""
        self.server_close()
        self.workbench.close()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "graphsplit", ""
    timeout = _IDLE

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer a POST."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stdout and stderr belong to the command."""

    def _answer(self, handle: Callable[[], None]) -> None:
        try:
            self._check_origin()
            handle()
        except _Refused as refused:
            self.close_connection = True
            self._json({"error": str(refused)}, refused.status)
        except GraphSplitError as error:
            self._json({"error": " ".join(str(error).split())}, HTTPStatus.UNPROCESSABLE_ENTITY)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    # who may ask

    def _check_origin(self) -> None:
        if self.headers.get_all("Host") is None or self.headers["Host"] not in self.server.hosts:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server answers only by its own address")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "not from this page")
        if self.command == "POST" and self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise _Refused(HTTPStatus.FORBIDDEN, "not from this page")

    def _path(self) -> tuple[str, dict[str, str]]:
        """The path after the token, and the query. Raises _Refused without the token."""
        address = urlsplit(self.path)
        token, _, rest = address.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "open the address that graphsplit printed, with its token")
        return rest, {k: v[0] for k, v in parse_qs(address.query).items()}

    # what is answered

    def _get(self) -> None:
        address = urlsplit(self.path)
        if address.path.startswith(("/static_files/", "/api/v1/", "/apistream/")):
            self._explorer_asks(address.path, {k: v[0] for k, v in parse_qs(address.query).items()})
            return
        rest, query = self._path()
        bench = self.server.workbench
        answers: Mapping[str, Callable[[], dict[str, Any]]] = {
            "api/state": bench.state,
            "api/tensors": lambda: bench.tensors(query.get("q", "")[:400]),
            "api/selected": lambda: bench.selected(query.get("node", "")[:4000]),
            "api/graph": lambda: bench.graph(_whole_number(query.get("plan"))),
            "api/job": lambda: bench.job(query.get("job", "")[:100]),
        }
        if rest in answers:
            self._json(answers[rest]())
        elif rest == "" or rest in _OWN:
            name = rest or "index.html"
            self._file((files("graphsplit.viewer") / "static" / name).read_bytes(), name, _PAGE_POLICY)
        elif rest.startswith("explorer/"):
            self._explorer_file(rest.removeprefix("explorer/") or "index.html")
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here")

    def _post(self) -> None:
        rest, _ = self._path()
        bench = self.server.workbench
        answers: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "api/plan": bench.plan,
            "api/verify": bench.verify,
            "api/save_crop": bench.save_crop,
            "api/split": bench.split,
        }
        if rest not in answers:
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here")
        self._json(answers[rest](self._body()))

    def _body(self) -> dict[str, Any]:
        """The JSON object that was sent."""
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "say how long the request is")
        if len(length) > 9 or int(length) > _BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {_BODY:,} bytes")
        try:
            sent = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "not JSON") from error
        if not isinstance(sent, dict):
            raise _Refused(HTTPStatus.BAD_REQUEST, "a request is a JSON object")
        return sent

    # the explorer

    def _explorer_asks(self, path: str, query: Mapping[str, str]) -> None:
        bench = self.server.workbench
        if path.startswith("/static_files/"):
            self._explorer_file(path.removeprefix("/"))
        elif path == "/api/v1/load_graphs_json":
            self._json({"graphCollections": [bench.graph(_whole_number(query.get("graph_index")))]})
        elif path == "/api/v1/load_node_data":
            data = bench.node_data(_whole_number(query.get("node_data_index")))
            self._json({"content": json.dumps(data)})
        elif path == "/api/v1/get_extensions":
            self._json([_JSON_READER])
        elif path == "/api/v1/check_new_version":
            self._json(_NEW_VERSION)
        elif path == "/apistream/server_director":
            self._send(HTTPStatus.NO_CONTENT, b"", "text/plain", _PAGE_POLICY)  # an EventSource asks no more after that
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here")

    def _explorer_file(self, name: str) -> None:
        folder = web_files()
        plain = name.removeprefix("static_files/")
        if folder is None or not _FILE.fullmatch(plain):
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here")
        where = folder / "static_files" / plain if name != plain else folder / plain
        try:
            data = where.read_bytes()
        except OSError as error:
            raise _Refused(HTTPStatus.NOT_FOUND, "nothing here") from error
        if plain == "index.html":
            data = _offline(data.decode(), f"/{self.server.token}/explorer/").encode()
        self._file(data, plain, _EXPLORER_POLICY)

    # how

    def _json(self, answer: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        # Lone surrogates, as paths may have them, are escaped.
        self._send(status, json.dumps(answer).encode(), "application/json", _PAGE_POLICY)

    def _file(self, data: bytes, name: str, policy: str) -> None:
        suffix = Path(name).suffix
        kind = _KINDS.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._send(HTTPStatus.OK, data, f"{kind}; charset=utf-8" if kind.startswith("text/") else kind, policy)

    def _send(self, status: HTTPStatus, data: bytes, kind: str, policy: str) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if self.close_connection:
            headers["Connection"] = "close"
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _whole_number(text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 16:
        raise GraphSplitError("a plan is asked for by its number")
    return int(text)


def _offline(page: str, base: str) -> str:
    """The explorer's page without what it asks for from outside, at an address of its own."""
    page = re.sub(r"<link rel=\"preconnect\"[^>]*>", "", page)
    page = re.sub(r"url\(https?://[^)]*\)", "local('sans-serif')", page)
    # Its style sheet is loaded late by a handler in the page, which the policy does not run.
    page = re.sub(r"media=\"print\" onload=\"[^\"]*\"", "", page)
    return page.replace('<base href="/">', f'<base href="{base}">')
