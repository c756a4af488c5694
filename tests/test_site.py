"""The site: it builds strictly, loads nothing from elsewhere, and its references are complete."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

import pytest

import graphsplit
from graphsplit.cli import run
from graphsplit.cli.arguments import build_parser
from tests.pages import ROOT

COMMANDS = next(iter(build_parser()._subparsers._group_actions)).choices
# What a page of a command says of JSON, from calls that take little; the other keys are tested with their commands.
CALLS = {
    "show": ["show", "demo"],
    "suggest": ["suggest", "demo", "--limit", "1"],
    "check": ["check", "demo", "--target", "openvino", "--no-ask"],
    "plan": ["plan", "demo", "--no-shapes"],
    "split": ["split", "demo", "-o", "out", "--no-verify", "--no-shapes"],
    "verify": ["verify", "out"],
    "rewrite": ["rewrite", "demo", "-o", "fast.pb", "--fuse-nms", "--no-verify"],
    "presets": ["presets"],
    "fetch": ["fetch", "https://models.example/fetched.tar.gz"],
    "detect": ["detect", "demo", str(ROOT / "models" / "shapes" / "sample.png")],
    "batch": ["batch", "demo", str(ROOT / "models" / "shapes" / "sample.png"), "-o", "rows"],
    "bench": ["bench", "out", "--frames", "2"],
    "export": ["export", "out", "--section", "post", "--to", "saved_model", "-o", "post", "--no-verify"],
}


class _References(HTMLParser):
    """What a page loads, what it links, and the ids that it has."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += filter(None, [attrs.get("id")])
        if tag == "a":
            self.links += filter(None, [attrs.get("href")])
        elif tag == "link" and attrs.get("rel") in ("canonical", "prev", "next"):
            pass
        else:
            self.loaded += [attrs[k] for k in ("src", "href", "data", "poster") if attrs.get(k)]
            self.loaded += [part.split()[0] for part in (attrs.get("srcset") or "").split(",") if part.strip()]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))):
        pytest.skip("the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: _References(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_page_is_in_the_navigation(site):
    home = _References((site / "index.html").read_text(encoding="utf-8"))
    linked = {unquote(urlsplit(link).path) for link in home.links}
    for page in (ROOT / "docs").rglob("*.md"):
        built = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / built).exists(), built
        section = built.split("/")[0]
        assert built in linked or any(link.startswith(f"{section}/") for link in linked), built


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        assert [t for t in page.loaded if urlsplit(t).netloc] == [], path
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_what_a_page_loads_and_links_is_there(site, pages):
    for path, page in pages.items():
        for target in (*page.loaded, *page.links):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not parts.path or path.name == "404.html":
                continue
            where = (path.parent / unquote(parts.path)).resolve()
            assert where.exists(), f"{path.relative_to(site)} → {target}"
            if parts.fragment and where in pages:
                assert unquote(parts.fragment) in pages[where].ids, f"{path.relative_to(site)} → {target}"


def test_every_exported_name_is_in_the_reference(pages):
    ids = {i for path, page in pages.items() if path.parent.name == "api" for i in page.ids}
    missing = [name for name in graphsplit.__all__ if f"graphsplit.{name}" not in ids and name != "__version__"]
    assert missing == []


def test_every_command_has_a_page_with_all_its_options(site):
    for name, parser in COMMANDS.items():
        text = (site / "commands" / f"{name}.html").read_text(encoding="utf-8")
        shared = {"-h", "--help", "--json", "-v", "--verbose", "--version"}
        for option in set(parser._option_string_actions) - shared:
            assert f"<code>{option}" in text, f"{name} {option}"
        assert "Exit status" in text, name
    documented = {p.stem for p in (ROOT / "docs" / "commands").glob("*.md")} - {"index", "files"}
    assert documented == set(COMMANDS)


def test_the_gallery_has_the_outputs_of_the_notebooks(site):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        text = (site / "gallery" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert 'class="output' in text or "output highlight" in text, path.stem


def test_keys_of_json_are_those_of_the_reference(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fetched").mkdir()  # there already, so nothing is downloaded
    for command, arguments in CALLS.items():
        assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
        answer = json.loads(capsys.readouterr().out)
        keys = _documented_keys(command)
        assert keys, command
        assert keys == set(answer), command


def _documented_keys(command):
    text = (ROOT / "docs" / "commands" / f"{command}.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \|", text.partition("## JSON")[2], re.MULTILINE))


def test_keys_of_a_node_are_those_of_the_reference(capsys):
    assert run(["show", "demo", "--node", "Postprocessor/Slice", "--json"]) == 0
    text = (ROOT / "docs" / "commands" / "show.md").read_text(encoding="utf-8").partition("describes that node: ")[2]
    documented = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", text))
    assert sorted(documented) == sorted(json.loads(capsys.readouterr().out))


def test_keys_that_depend_on_the_arguments_are_in_the_reference(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in (["fetch"], ["view", "demo", "--html", "page.html"]):
        assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
        keys = set(json.loads(capsys.readouterr().out))
        assert keys
        assert keys <= _documented_keys(arguments[0]), arguments


# ARCHITECTURE.md


def test_the_table_of_layers_is_the_contract():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(rows), 0, -1))
    table = [re.findall(r"`(\w+)`", folders) for _, folders in rows]
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["importlinter:contract:layers"]["layers"].split("\n")
    contract = [re.findall(r"graphsplit\.(\w+)", line) for line in lines if line.strip()]
    assert table == contract


def test_every_folder_is_described_and_every_module_that_is_named_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    package = ROOT / "graphsplit"
    folders = {p.name for p in package.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    described = set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))
    assert described == folders
    named = [name for name in re.findall(r"`([a-z]\w*/[\w/.]+)`", text) if name.partition("/")[0] in folders]
    assert len(named) > 30
    for name in named:
        where = package / name
        assert where.exists() or where.with_suffix(".py").exists(), name
