"""The server of the workbench: access, bodies, answers, and the command."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.viewer.explorer_files import offline, web_files
from tests.viewer.conftest import chain

needs_explorer = pytest.mark.skipif(web_files() is None, reason="ai-edge-model-explorer (extra `view`) is not installed")


@pytest.fixture
def viewer(model, tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    with gs.view(model, outputs="net/head", folder=folder) as viewer:
        yield viewer


class Client:
    def __init__(self, viewer):
        self.port = int(re.search(r":(\d+)/", viewer.url)[1])
        self.token = viewer.url.rstrip("/").rpartition("/")[2]
        self.host = f"127.0.0.1:{self.port}"

    def ask(self, path, sent=None, *, method=None, headers=None, token=None):
        """Status, headers and body of an answer. `path` comes after the token; with token="" it is the whole path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        fields = {"Host": self.host, **(headers or {})}
        if sent is not None and not isinstance(sent, bytes):
            sent = json.dumps(sent).encode()
            fields.setdefault("Content-Type", "application/json")
        address = path if token == "" else f"/{token or self.token}/{path}"
        connection.request(method or ("GET" if sent is None else "POST"), address, sent, fields)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers, body


@pytest.fixture
def client(viewer):
    return Client(viewer)


CUT = {"cut": {"inputs": [], "ends": [["net/head"]]}}


# answers


def test_the_page_and_its_files_come_with_a_policy_and_request_nothing_outside(client):
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    for file in (Path(gs.__file__).parent / "viewer" / "static").iterdir():
        status, headers, body = client.ask(file.name)
        assert (status, body) == (200, file.read_bytes())
        assert headers["Content-Type"].startswith(kinds[file.suffix])
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert not re.findall(rb"https?://(?!www\.w3\.org/2000/svg)", body)
        assert b"innerHTML" not in body
    assert client.ask("")[2] == client.ask("index.html")[2]


def test_a_cut_is_planned_and_the_graph_has_the_number_of_the_plan(client):
    status, _, body = client.ask("api/plan", CUT)
    plan = json.loads(body)
    assert status == 200
    assert [s["name"] for s in plan["sections"]] == ["main", "post"]
    assert json.loads(client.ask(f"api/graph?plan={plan['plan']}")[2])["graphs"]


def test_an_error_of_the_library_is_answered_with_its_message(client):
    status, _, body = client.ask("api/plan", {"cut": {"ends": [["net/haed"]]}})
    assert status == 422
    assert "did you mean 'net/head'" in json.loads(body)["error"]


def test_a_verification_is_polled(client):
    number = json.loads(client.ask("api/plan", CUT)[2])["plan"]
    job = json.loads(client.ask("api/verify", {"plan": number})[2])["job"]
    end = time.monotonic() + 60
    while not (answer := json.loads(client.ask(f"api/job?job={job}")[2]))["done"] and time.monotonic() < end:
        time.sleep(0.05)
    assert answer["equal"] is True


# access


@pytest.mark.parametrize("token", ["wrong", "x" * 32, "%00", "%C3%A9"])
@pytest.mark.parametrize("path", ["", "api/state", "workbench.js", "explorer/index.html", "api/graph?plan=1"])
def test_nothing_is_answered_without_the_token(client, path, token):
    status, _, body = client.ask(path, token=token)
    assert status == 403
    assert b"token" in body


def test_a_request_without_the_token_changes_nothing(client, tmp_path):
    assert client.ask("api/save_crop", {**CUT, "name": "x"}, token="wrong")[0] == 403
    assert not list((tmp_path / "into").iterdir())


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_another_host_is_refused(client, host):
    status, _, _ = client.ask("", headers={"Host": host.format(port=client.port)})
    assert status in (400, 421)


def test_localhost_is_this_host(client):
    assert client.ask("", headers={"Host": f"localhost:{client.port}"})[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://localhost"]
)
def test_another_origin_is_refused(client, origin, tmp_path):
    headers = {"Origin": origin.format(port=client.port)}
    assert client.ask("api/state", headers=headers)[0] == 403
    assert client.ask("api/save_crop", {**CUT, "name": "x"}, headers=headers)[0] == 403
    assert not list((tmp_path / "into").iterdir())
    assert client.ask("api/state", headers={"Origin": f"http://{client.host}"})[0] == 200


def test_a_post_that_another_site_began_is_refused(client):
    assert client.ask("api/plan", CUT, headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert client.ask("api/plan", CUT, headers={"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_it_listens_on_loopback_only(client):
    # 127.0.0.2 is this machine, too (where it is anything); a server at 0.0.0.0 would answer there.
    with socket.socket() as other:
        other.settimeout(2)
        with pytest.raises(OSError, match=r"refused|timed out|assign|unreachable"):
            other.connect(("127.0.0.2", client.port))


# bodies


@pytest.mark.parametrize(
    ("sent", "headers", "status"),
    [
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[]", {"Content-Type": "application/json"}, 400),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        (b"\xff\xfe", {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "application/json", "Content-Length": "99999999999999"}, 413),
        (b"{}", {"Content-Type": "application/json", "Content-Length": str(2**20 + 1)}, 413),
        (b"{}", {"Content-Type": "application/json", "Content-Length": "-1"}, 411),
        (b"{}", {"Content-Type": "application/json"}, 422),
    ],
)
def test_a_request_is_a_json_object_of_bounded_size(client, sent, headers, status):
    assert client.ask("api/plan", sent, headers=headers)[0] == status
    assert client.ask("api/state")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static_files/../server.py",
        "/static_files/..%2fserver.py",
        "/static_files/%2e%2e/server.py",
        "/static_files//etc/passwd",
        "/api/v1/read_text_file?path=/etc/passwd",
        "/api/v1/send_command",
        "/api/v1/nothing",
        "/static_files/.hidden",
    ],
)
def test_no_path_leads_out_of_the_explorers_files(client, path):
    status, _, body = client.ask(path, token="")
    assert status == 404
    assert b"root:" not in body


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "workbench.py", "static/index.html", "explorer/../../server.py", "explorer//etc/passwd"]
)
def test_no_path_leads_out_of_the_files_of_the_page(client, path):
    assert client.ask(path)[0] == 404


@pytest.mark.parametrize("path", ["http://[", "http://[::1", "http://]/", "http://[x]:80/", "http://a[b]c/api/state"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_that_is_none_is_not_found(client, path, method):
    assert client.ask(path, token="", method=method, sent={} if method == "POST" else None)[0] == 404
    assert client.ask("api/state")[0] == 200


@pytest.mark.parametrize("number", ["", "x", "-1", "1", "99999999999999999999", "1.5", "%D9%A3"])
def test_a_graph_is_answered_only_to_those_who_know_its_number(client, number):
    for path in (f"/api/v1/load_graphs_json?graph_index={number}", f"/api/v1/load_node_data?node_data_index={number}"):
        assert client.ask(path, token="")[0] in (400, 422)


def test_other_methods_are_not_known(client):
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert client.ask("api/plan", method=method)[0] == 501


def test_a_dropped_connection_does_no_harm(client):
    with socket.create_connection(("127.0.0.1", client.port)) as broken:
        broken.sendall(f"POST /{client.token}/api/plan HTTP/1.1\r\nHost: {client.host}\r\nContent-Len".encode())
    assert client.ask("api/state")[0] == 200


def test_a_hostile_name_is_escaped_everywhere(tmp_path):
    hostile = "<script>alert(1)</script>"
    model = gs.load(chain(tmp_path / "m.pbtxt", hostile, "b"))
    with gs.view(model, outputs=hostile, folder=tmp_path) as viewer:
        client = Client(viewer)
        number = json.loads(client.ask("api/plan", {"cut": {"ends": [[hostile]]}})[2])
        assert "<script" not in number["svg"]
        assert "&lt;script&gt;" in number["svg"]
        for path in ("api/state", "api/tensors?q=script", f"api/graph?plan={number['plan']}"):
            _, headers, _ = client.ask(path)
            assert headers["Content-Type"] == "application/json"
        assert b"alert(1)" not in client.ask("")[2]


# the explorer's page


@needs_explorer
def test_the_explorers_page_is_served_without_anything_from_outside(client):
    status, headers, body = client.ask("explorer/")
    page = body.decode()
    assert status == 200
    assert f'<base href="/{client.token}/explorer/">' in page
    assert "fonts.gstatic" not in page
    assert not re.findall(r'(?:src|href)="https?://', page)
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    for script in re.findall(r'src="([\w.-]+\.js)"', page):
        assert client.ask(f"explorer/{script}")[0] == 200
    assert client.ask("/static_files/worker_deps.js", token="")[0] == 200


def test_requests_of_the_page_to_other_hosts_are_removed():
    page = (
        '<head><link rel="preconnect" href="https://f.x" crossorigin><base href="/"><style>a{src:url(https://f.x/a.woff2)}</style>'
    )
    assert offline(page, "/t/") == "<head><base href=\"/t/\"><style>a{src:local('sans-serif')}</style>"


# the command


def start(*args):
    # Where the tests run in the background, ^C is ignored, and what they start would ignore it as well.
    code = "import signal, graphsplit.cli as c; signal.signal(signal.SIGINT, signal.default_int_handler); c.main()"
    command = [sys.executable, "-c", code, "view", *map(str, args), "--no-browser"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "BROWSER": "false"}
    )


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_the_command_prints_its_address_and_ends_cleanly(model, flag):
    process = start(model.path, "--outputs", "net/head", *flag)
    line = process.stdout.readline() if not flag else "".join(process.stdout.readline() for _ in range(3))
    url = json.loads(line)["url"] if flag else line.strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=20)
    connection.request("GET", "/" + url.split("/")[3] + "/api/tensors?q=head")
    assert json.loads(connection.getresponse().read())["tensors"][0]["tensor"] == "net/head:0"
    connection.close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_an_error(model, viewer):
    with pytest.raises(gs.GraphSplitError, match=r"port \d+ cannot be used: .*choose another with port="):
        gs.view(model, outputs="net/head", port=Client(viewer).port)
    with pytest.raises(gs.GraphSplitError, match="is not a folder"):
        gs.view(model, outputs="net/head", folder="not there")


def test_a_notebook_shows_the_page(viewer):
    assert f'<iframe src="{viewer.url}"' in viewer._repr_html_()
    assert viewer.url in repr(viewer)
    viewer.close()
    viewer.close()
    with pytest.raises(OSError, match="refused"):
        Client(viewer).ask("")


def test_html_writes_a_page_and_serves_nothing(model, tmp_path):
    from graphsplit.cli import run

    out = tmp_path / "report.html"
    assert run(["view", str(model.path), "--outputs", "net/head", "--html", str(out)]) == 0
    assert "net/head:0" in out.read_text(encoding="utf-8")
    before = out.read_bytes()
    assert run(["view", str(model.path), "--outputs", "net/conv/a", "--html", str(out)]) == 1
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["--outputs", "net/haed"], 1, "did you mean"),
        (["--port", "99999"], 2, "not a port"),
        (["-o", "not there"], 1, "is not a folder"),
        (["--html", "a.jpg"], 1, "written as .svg"),
    ],
)
def test_wrong_usage_is_reported_before_anything_is_served(model, capfd, args, status, says):
    from graphsplit.cli import run

    command = ["view", str(model.path), "--no-browser", *args]
    if "--outputs" not in args:
        command += ["--outputs", "net/head"]
    try:
        exit_status = run(command)
    except SystemExit as stop:
        exit_status = stop.code
    out, err = capfd.readouterr()
    assert (exit_status, out) == (status, "")
    assert says in err
