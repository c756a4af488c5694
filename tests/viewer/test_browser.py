"""The page in a real Chromium: open, pick another cut, see the plan change, verify, save. Slow, and skipped where there is none."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

import graphsplit as gs
from graphsplit.viewer.explorer_files import web_files
from tests.viewer.conftest import chain

pytestmark = pytest.mark.slow

_FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader"]
_INSIDE = ("http://127.0.0.1:", "data:", "blob:")


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: playwright install chromium")
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page of whose errors and requests everything is kept."""

    def __init__(self, browser):
        self.page = browser.new_page(viewport={"width": 1400, "height": 900})
        self.page.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on(
            "console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") and "GPU" not in m.text else None
        )
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))

    def open(self, viewer):
        self.page.goto(viewer.url)
        self.page.wait_for_selector("#picture svg", state="attached")
        return self.page


def until(fact, seconds=60.0):
    """Wait for a fact. Playwright's own way evaluates text in the page, which the page's policy does not allow."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it does not become true"
        time.sleep(0.05)


@pytest.fixture
def watched(chromium):
    made = Watched(chromium)
    yield made
    made.page.close()


def test_a_cut_is_found_proven_and_saved(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        first = page.inner_text("#crossing")
        assert "3 tensors cross, 103.3 KB a frame" in first

        page.wait_for_selector("#suggestions button")
        assert page.get_attribute("#suggestions li:first-child button", "aria-pressed") == "true"
        page.click("#suggestions li:nth-child(3) button")  # the heads
        until(lambda: page.inner_text("#crossing") != first)
        assert page.locator("#borders .tensor").count() == 10

        page.click("#clear")
        until(lambda: page.evaluate("document.getElementById('crossing').textContent.startsWith('one section')"))
        page.fill("#search", "postprocessor slice")
        page.wait_for_selector("#found [role=option]")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        until(lambda: page.evaluate("document.getElementById('crossing').textContent.includes('cross')"))
        assert page.locator("#borders .tensor").count() == 1
        until(lambda: page.evaluate("document.querySelectorAll('#plan details').length > 0"))
        assert "added to the border" in page.inner_text("#plan")

        page.click("#verify")
        page.wait_for_selector("#answer.good")
        assert "bit for bit" in page.inner_text("#answer")
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
    assert not [u for u in watched.asked if not u.startswith(_INSIDE)]
    assert [w for w in watched.wrong if "422" not in w] == []


@pytest.mark.skipif(web_files() is None, reason="ai-edge-model-explorer (extra `view`) is not installed")
def test_a_node_selected_in_the_graph_is_chosen_and_the_graph_follows_the_plan(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.wait_for_selector("#graph iframe")
        frame = page.frame_locator("#graph iframe")
        frame.get_by_text("estimated operations").first.wait_for()
        # What a click on a node does; where a node lies on the canvas is the explorer's own business.
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
    assert not [u for u in watched.asked if not u.startswith(_INSIDE)]
    assert watched.wrong == []


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
    assert watched.wrong == []


def test_a_hostile_name_runs_nothing(watched, tmp_path):
    hostile = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
    model = gs.load(chain(tmp_path / "m.pbtxt", hostile, "b", "c"))
    with gs.view(model, outputs=hostile, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.fill("#search", "<img")
        page.wait_for_selector("#found [role=option]")
        assert hostile in page.inner_text("#found")
        until(lambda: page.evaluate("!document.getElementById('suggestions').textContent.includes('looking')"))
        assert hostile in page.inner_text("#borders")
        page.wait_for_timeout(4000)  # the explorer, where it is installed, shows the name, too
        assert all(f.evaluate("window.hit") is None for f in page.frames)
    assert not [w for w in watched.wrong if "violates" in w]


def test_an_error_is_shown_and_the_page_goes_on(watched, demo_model, tmp_path):
    with gs.view(demo_model, folder=tmp_path) as viewer:
        page = watched.open(viewer)
        page.select_option("#repair", "error")
        page.click("#borders .tensor:nth-of-type(2) button")
        page.wait_for_selector("#problem:visible")
        assert page.is_disabled("#verify")
        page.select_option("#repair", "auto")
        until(lambda: page.evaluate("document.getElementById('problem').hidden"))
        assert page.is_enabled("#verify")
