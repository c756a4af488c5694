"""The workbench over HTTP, for this machine alone.

    /TOKEN/                    the page; the token is random and part of the address, so nobody else finds it
    /TOKEN/api/…               requests of the page: GET to read, POST (JSON, at most 1 MiB) to plan, verify and save
    /TOKEN/explorer/…          the page of ai-edge-model-explorer, if it is installed
    /static_files/…, /api/v1/… what that page requests at fixed addresses: files of that package, and graphs by the number of
                               a plan, which is a secret of 53 bits

Bound to 127.0.0.1; `graphsplit.viewer.access` decides who is answered. No path of a client is followed beyond a plain file name.
"""

from __future__ import annotations

import json
import mimetypes
import secrets
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from graphsplit.errors import GraphSplitError
from graphsplit.viewer.access import Refused, check_origin, path_after_token, read_body
from graphsplit.viewer.explorer_files import read_web_file
from graphsplit.viewer.requests import CropRequest, FitRequest, PlanRequest, SplitRequest, StudyRequest, VerifyRequest, as_request
from graphsplit.viewer.workbench import Workbench

__all__ = ["Server"]

_IDLE = 60  # seconds a connection may be silent
_OWN = ("index.html", "workbench.js", "elements.js", "server.js", "workbench.css")
_FIXED = ("/static_files/", "/api/v1/", "/apistream/")  # requested by the explorer, without the token
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

    def handle_error(self, request: object, client_address: object) -> None:
        """A dropped connection is not reported."""

    def close(self) -> None:
        """Stop listening and let running work finish."""
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

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: stdout and stderr belong to the command."""

    def _answer(self, handle: Callable[[], None]) -> None:
        try:
            check_origin(self.command, self.headers, self.server.hosts)
            handle()
        except Refused as refused:
            self.close_connection = True
            self._json({"error": str(refused)}, refused.status)
        except GraphSplitError as error:
            self._json({"error": " ".join(str(error).split())}, HTTPStatus.UNPROCESSABLE_ENTITY)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    # routes

    def _get(self) -> None:
        address = _address(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        if address.path.startswith(_FIXED):
            self._get_fixed(address.path, query)
            return
        path = path_after_token(address.path, self.server.token)
        bench = self.server.workbench
        answers: Mapping[str, Callable[[], dict[str, object]]] = {
            "api/state": bench.state,
            "api/tensors": lambda: bench.tensors(query.get("q", "")[:400]),
            "api/selected": lambda: bench.selected(query.get("node", "")[:4000], _plan_number(query.get("plan"))),
            "api/graph": lambda: bench.graph(_plan_number(query.get("plan"))),
            "api/job": lambda: bench.job(query.get("job", "")[:100]),
        }
        if path in answers:
            self._json(answers[path]())
        elif path == "" or path in _OWN:
            name = path or "index.html"
            self._file((files("graphsplit.viewer") / "static" / name).read_bytes(), name, _PAGE_POLICY)
        elif path.startswith("explorer/"):
            self._explorer_file(path.removeprefix("explorer/") or "index.html")
        else:
            raise _not_found()

    def _get_fixed(self, path: str, query: Mapping[str, str]) -> None:
        """What the explorer requests at fixed addresses."""
        bench = self.server.workbench
        if path.startswith("/static_files/"):
            self._explorer_file(path.removeprefix("/"))
        elif path == "/api/v1/load_graphs_json":
            self._json({"graphCollections": [bench.graph(_plan_number(query.get("graph_index")))]})
        elif path == "/api/v1/load_node_data":
            self._json({"content": json.dumps(bench.node_data(_plan_number(query.get("node_data_index"))))})
        elif path == "/api/v1/get_extensions":
            self._json([_JSON_READER])
        elif path == "/api/v1/check_new_version":
            self._json(_NEW_VERSION)
        elif path == "/apistream/server_director":
            self._send(HTTPStatus.NO_CONTENT, b"", "text/plain", _PAGE_POLICY)  # an EventSource does not reconnect after that
        else:
            raise _not_found()

    def _post(self) -> None:
        path = path_after_token(_address(self.path).path, self.server.token)
        bench = self.server.workbench
        answers: Mapping[str, Callable[[object], dict[str, object]]] = {
            "api/plan": lambda body: bench.plan(as_request(body, PlanRequest)),
            "api/study": lambda body: bench.study(as_request(body, StudyRequest)),
            "api/fit": lambda body: bench.fit(as_request(body, FitRequest)),
            "api/verify": lambda body: bench.verify(as_request(body, VerifyRequest)),
            "api/save_crop": lambda body: bench.save_crop(as_request(body, CropRequest)),
            "api/split": lambda body: bench.split(as_request(body, SplitRequest)),
        }
        if path not in answers:
            raise _not_found()
        self._json(answers[path](read_body(self.headers, self.rfile)))

    # answers

    def _json(self, answer: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        # Lone surrogates, as paths may have them, are escaped.
        self._send(status, json.dumps(answer).encode(), "application/json", _PAGE_POLICY)

    def _explorer_file(self, name: str) -> None:
        data = read_web_file(name, f"/{self.server.token}/explorer/")
        if data is None:
            raise _not_found()
        self._file(data, name, _EXPLORER_POLICY)

    def _file(self, data: bytes, name: str, policy: str) -> None:
        kind = _KINDS.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
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
        self.wfile.write(data)


def _address(path: str) -> SplitResult:
    """The parts of the address that a request names; "http://[" has none. Raises Refused."""
    try:
        return urlsplit(path)
    except ValueError:
        raise _not_found() from None


def _not_found() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "not found")


def _plan_number(text: str | None) -> int:
    """The number of a plan, from an address. Raises GraphSplitError."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 16:
        raise GraphSplitError("the address does not contain the number of a plan")
    return int(text)
