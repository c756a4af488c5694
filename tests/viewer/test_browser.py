"""The page in a real Chromium: open, pick another cut, see the plan change, verify, save. Slow, and skipped where there is none."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.viewer.explorer_files import web_files
from tests.quantised import network, target_file
from tests.viewer.conftest import chain

pytestmark = pytest.mark.slow

# p ─▶ r: ReadFile ─▶ o
READS_A_FILE = (
    'node { name: "p" op: "Placeholder" attr { key: "dtype" value { type: DT_STRING } } }\n'
    'node { name: "r" op: "ReadFile" input: "p" }\n'
    'node { name: "o" op: "Identity" input: "r" attr { key: "T" value { type: DT_STRING } } }\n'
)

_FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader"]
_INSIDE = ("http://127.0.0.1:", "data:", "blob:")


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: playwright install chromium")
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page with everything that it logs and requests."""

    def __init__(self, browser):
        self.page = browser.new_page(viewport={"width": 1400, "height": 900})
        self.page.set_default_timeout(60_000)
        self.logged: list[str] = []
        self.requested: list[str] = []
        self.page.on(
            "console", lambda m: self.logged.append(m.text) if m.type in ("error", "warning") and "GPU" not in m.text else None
        )
        self.page.on("pageerror", lambda e: self.logged.append(str(e)))
        self.page.on("request", lambda r: self.requested.append(r.url))

    def open(self, viewer):
        self.page.goto(viewer.url)
        self.page.wait_for_selector("#picture svg", state="attached")
        return self.page


def until(fact, seconds=60.0):
    """Wait for a fact. Playwright's own way evaluates text in the page, which the content policy forbids."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, f"still not true after {seconds} seconds"
        time.sleep(0.05)


@pytest.fixture
def watched(chromium):
    watched = Watched(chromium)
    yield watched
    watched.page.close()


def test_a_cut_is_chosen_verified_and_saved(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        first = page.inner_text("#crossing")
        assert "3 tensors cross, 103.3 KB per frame" in first

        page.wait_for_selector("#suggestions button")
        assert page.get_attribute("#suggestions li:first-child button", "aria-pressed") == "true"
        page.click("#suggestions li:nth-child(3) button")  # the heads
        until(lambda: page.inner_text("#crossing") != first)
        assert page.locator("#borders .group").count() == 2  # main starts there, too
        assert page.locator("#borders .group:last-child .tensor").count() == 10

        page.click("#clear")
        until(lambda: page.evaluate("document.getElementById('crossing').textContent.startsWith('one section')"))
        page.fill("#search", "postprocessor slice")
        page.wait_for_selector("#matches [role=option]")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        until(lambda: page.evaluate("document.getElementById('crossing').textContent.includes('cross')"))
        assert page.locator("#borders .tensor").count() == 1
        until(lambda: page.evaluate("document.querySelectorAll('#plan details').length > 0"))
        assert "added to the border" in page.inner_text("#plan")

        page.click("#verify")
        page.wait_for_selector("#verdict.good")
        assert "bit for bit" in page.inner_text("#verdict")
        page.fill("#name", "mine")
        page.click("#crop")
        until(lambda: page.evaluate("document.getElementById('answer').textContent.includes('mine.json')"))
        assert json.loads((tmp_path / "mine.json").read_text())["outputs"]
        page.click("#split")
        until(lambda: page.evaluate("document.getElementById('answer').textContent.includes('split.json')"))
        assert gs.verify(demo_model, gs.load_parts(tmp_path / "mine")).equal
        page.click("#split")
        page.wait_for_selector("#answer.bad")
        assert "exist already" in page.inner_text("#answer")

        page.click("#borders .tensor button")
        until(lambda: page.evaluate("document.getElementById('crossing').textContent.startsWith('one section')"))
    assert not [u for u in watched.requested if not u.startswith(_INSIDE)]
    assert [w for w in watched.logged if "422" not in w] == []


@pytest.mark.skipif(web_files() is None, reason="ai-edge-model-explorer (extra `view`) is not installed")
def test_a_node_selected_in_the_graph_is_chosen_and_the_graph_follows_the_plan(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.wait_for_selector("#graph iframe")
        frame = page.frame_locator("#graph iframe")
        frame.get_by_text("estimated operations").first.wait_for()
        # What a click on a node does; where a node is on the canvas is up to the explorer.
        message = "{cmd: 'model-explorer-select-node-by-node-id', nodeId: id}"
        select = f"id => document.querySelector('#graph iframe').contentWindow.postMessage({message}, '*')"
        page.evaluate(select, "main::concat")
        page.wait_for_selector("#selected button")
        assert "concat:0" in page.inner_text("#selected")
        page.click("#selected button")
        until(lambda: page.evaluate("document.querySelectorAll('#borders .tensor').length === 4"))

        def selected():
            page.evaluate(select, "tensor::concat:0")  # repeated: the new graph has to be laid out first
            return page.evaluate("document.getElementById('selected').textContent.includes('concat:0')")

        until(selected)
    assert not [u for u in watched.requested if not u.startswith(_INSIDE)]
    assert watched.logged == []


def test_a_compiler_is_chosen_and_asked_and_its_cut_taken(watched, tmp_path):
    (tmp_path / "net.tflite").write_bytes(network("alpha", "beta", "gamma", "delta", custom="Decoder"))
    compiler = (
        "import sys\nif b'delta/w' in open(sys.argv[1], 'rb').read(): print('no FULLY_CONNECTED delta: too wide')\nprint('taken 3')"
    )
    path = target_file(tmp_path, compiler)
    with gs.view(tmp_path / "net.tflite", folder=tmp_path, target=path, ask=False) as viewer:
        page = watched.open(viewer)
        assert page.evaluate("document.getElementById('target').value") == str(path)
        page.wait_for_selector("#suggestions button")
        assert "on the accelerator: 100 % of the multiplications" in page.inner_text("#suggestions")
        assert "Decoder is a custom op" in text(page, "refused")
        assert "--no-ask" in text(page, "command")
        assert "refused by mine" in text(page, "legend")

        page.click("#fit")
        page.wait_for_selector("#said.good")
        until(lambda: "fake takes 3 of 3 ops of main" in text(page, "plan"))
        assert "2 rounds" in text(page, "plan")
        assert "too wide" in text(page, "taken")
        assert page.get_attribute("#suggestions li:first-child button", "aria-pressed") == "true"
        assert f"--target {path} -o DIR" in text(page, "command")
        assert text(page, "origin").startswith("cut: fake for mine: ")
        if web_files() is not None:
            select = "{cmd: 'model-explorer-select-node-by-node-id', nodeId: 'post::delta'}"
            page.wait_for_selector("#graph iframe")

            def selected():
                page.evaluate(f"document.querySelector('#graph iframe').contentWindow.postMessage({select}, '*')")
                return "mine refuses it: too wide" in text(page, "selected")

            until(selected)

        page.select_option("#target", "")
        until(lambda: "refused by" not in text(page, "legend"))
        assert not page.is_visible("#fit")
        assert "fake takes" not in text(page, "plan")
        page.set_viewport_size({"width": 360, "height": 800})
        page.select_option("#target", str(path))
        until(lambda: "fake takes" in text(page, "plan"))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('aside'))")
    assert not [u for u in watched.requested if not u.startswith(_INSIDE)]
    assert watched.logged == []


def test_without_the_explorer_the_page_says_how_to_get_it_and_works(watched, demo_model, tmp_path, monkeypatch):
    monkeypatch.setattr("graphsplit.viewer.workbench.web_files", lambda: None)
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.wait_for_selector("#suggestions button")
        assert page.is_visible("#picture svg")
        page.click("#tab-graph")
        assert "pip install 'graphsplit[view]'" in page.inner_text("#graph")
        page.keyboard.press("ArrowRight")
        assert page.is_visible("#picture svg")
    assert watched.logged == []


def text(page, name):
    return page.evaluate(f"document.getElementById('{name}').textContent")


def test_a_proof_belongs_to_one_plan_and_the_header_to_the_current_cut(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.wait_for_selector("#suggestions button")
        opened = text(page, "origin")
        assert opened.startswith("cut: preset ssd_2018: ")

        changes = {
            "a suggestion": lambda: page.click("#suggestions li:nth-child(3) button"),
            "a dropped tensor": lambda: page.click("#borders .tensor button"),
            "the repair mode": lambda: page.select_option("#repair", "border"),
            "one more cut": lambda: page.click("#another"),
            "no cut": lambda: page.click("#clear"),
        }
        headers = {}
        for name, change in changes.items():
            until(lambda: page.is_enabled("#verify"))
            page.click("#verify")
            page.wait_for_selector("#verdict.good")
            page.fill("#name", f"crop {name}".replace(" ", "_"))
            page.click("#crop")
            page.wait_for_selector("#answer.good")
            change()
            assert (text(page, "verdict"), text(page, "answer")) == ("", ""), name
            headers[name] = text(page, "origin")
        assert headers["a suggestion"].startswith("cut: autocrop heads: ")
        assert headers["a dropped tensor"] == headers["the repair mode"] == headers["one more cut"] == "cut: chosen here"
        assert headers["no cut"] == "cut: none, one section"
        page.click("#suggestions li:nth-child(1) button")
        assert text(page, "origin") == opened
    assert watched.logged == []


def test_a_proof_that_ends_after_the_cut_has_changed_is_dropped(watched, demo_model, tmp_path, monkeypatch):
    go = threading.Event()

    def slow(*args, **options):
        assert go.wait(60)
        return gs.verify(*args, **options)

    monkeypatch.setattr("graphsplit.viewer.workbench.verify", slow)
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.wait_for_selector("#suggestions button")
        until(lambda: page.is_enabled("#verify"))
        page.click("#verify")
        page.fill("#name", "mine")
        page.click("#split")
        until(lambda: text(page, "answer") == "verifying, then writing …")
        page.click("#suggestions li:nth-child(2) button")
        until(lambda: page.is_enabled("#verify"))
        assert (text(page, "verdict"), text(page, "answer")) == ("", "")
        go.set()
        until(lambda: "split.json" in text(page, "answer"))  # which was started after the proof
        assert text(page, "answer").startswith("earlier cut: ✔ wrote")
        assert text(page, "verdict") == ""
    assert watched.logged == []


def test_while_a_cut_is_planned_nothing_can_be_done_to_the_one_before(watched, demo_model, tmp_path, monkeypatch):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.wait_for_selector("#suggestions button")
        until(lambda: page.is_enabled("#verify"))
        go = threading.Event()
        plan_json = viewer._server.workbench.plan
        monkeypatch.setattr(viewer._server.workbench, "plan", lambda request: go.wait(60) and plan_json(request))
        page.click("#borders .tensor button")
        assert [page.is_disabled(f"#{name}") for name in ("verify", "crop", "split")] == [True] * 3
        go.set()
        until(lambda: page.is_enabled("#verify"))
    assert watched.logged == []


def test_a_model_that_needs_trust_is_shown_and_verify_says_why_it_is_not_run(watched, tmp_path):
    (tmp_path / "m.pbtxt").write_text(READS_A_FILE)
    with gs.view(tmp_path / "m.pbtxt", outputs="r", folder=tmp_path) as viewer:
        page = watched.open(viewer)
        until(lambda: page.is_enabled("#verify"))
        assert "ReadFile" in text(page, "picture")
        assert "graphsplit view --trust, or gs.view(…, trust=True)" in page.inner_text("#outside")
        page.click("#verify")
        page.wait_for_selector("#verdict.bad")
        assert "the model reaches outside itself (r (ReadFile))" in page.inner_text("#verdict")
    with gs.view(tmp_path / "m.pbtxt", outputs="r", folder=tmp_path, trust=True) as viewer:
        page = watched.open(viewer)
        assert not page.is_visible("#outside")
    assert watched.logged == []


def test_nothing_is_wider_than_the_window(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.wait_for_selector("#suggestions button")
        for width in (1400, 900, 600, 360):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            for part in ("header", "aside"):
                assert page.evaluate(f"(e => e.scrollWidth <= e.clientWidth)(document.querySelector('{part}'))"), (part, width)
        # On a narrow page the column of controls is as long as it needs to be; the page scrolls, not the column.
        assert page.evaluate("(e => e.scrollHeight <= e.clientHeight)(document.querySelector('aside'))")


def test_a_hostile_name_runs_nothing(watched, tmp_path):
    hostile = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
    model = gs.load(chain(tmp_path / "m.pbtxt", hostile, "b", "c"))
    with gs.view(model, outputs=hostile, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.fill("#search", "<img")
        page.wait_for_selector("#matches [role=option]")
        assert hostile in page.inner_text("#matches")
        until(lambda: page.evaluate("!document.getElementById('suggestions').textContent.includes('searching')"))
        assert hostile in page.inner_text("#borders")
        page.wait_for_timeout(4000)  # the explorer, where it is installed, shows the name, too
        assert all(f.evaluate("window.hit") is None for f in page.frames)
    assert not [w for w in watched.logged if "violates" in w]


def test_an_error_is_shown_and_the_page_keeps_working(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.select_option("#repair", "error")
        page.click("#borders .tensor:nth-of-type(2) button")
        page.wait_for_selector("#problem:visible")
        assert page.is_disabled("#verify")
        page.select_option("#repair", "auto")
        until(lambda: page.evaluate("document.getElementById('problem').hidden"))
        assert page.is_enabled("#verify")
