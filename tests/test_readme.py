"""What the README and the pages of the site promise: commands parse, code compiles or runs, names and files are there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import graphsplit
from graphsplit.cli.arguments import build_parser
from tests.pages import PAGES, ROOT, blocks, commands, name_of

README = ROOT / "README.md"
REPOSITORY = "https://github.com/graphsplit/graphsplit"
RUNS = 'title="runs as it is'
SHOWN = {
    "show",
    "suggest",
    "plan",
    "split",
    "verify",
    "rewrite",
    "detect",
    "batch",
    "bench",
    "export",
    "fetch",
    "view",
    "worker",
}

by_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def test_the_pages_have_commands_and_code():
    assert sum(len(commands(page)) for page in PAGES) > 60
    assert {c.split()[1] for page in PAGES for c in commands(page)} >= SHOWN
    assert sum(RUNS in rest for page in PAGES for rest, _ in blocks(page, "python")) > 5


def test_the_readme_is_one_page_with_the_two_commands():
    text = README.read_text(encoding="utf-8")
    assert 60 < len(text.splitlines()) <= 110
    assert "pip install -e '.[demo]' && graphsplit demo" in text
    assert "pip install -e '.[test]' && pytest" in text


@by_page
def test_a_command_of_a_page_is_understood(page):
    for command in commands(page):
        try:
            args = build_parser().parse_args(shlex.split(command)[1:])
        except SystemExit:
            pytest.fail(f"{command} is wrong usage")
        assert callable(args.run)


@by_page
def test_a_command_in_a_sentence_has_these_options(page):
    parsers = next(iter(build_parser()._subparsers._group_actions)).choices
    for words in re.findall(r"`graphsplit ([a-z]\w*[^`]*)`", page.read_text(encoding="utf-8")):
        command, *rest = words.split()
        assert command in parsers, words
        for option in (w.partition("=")[0] for w in rest if w.startswith("--")):
            assert option in parsers[command]._option_string_actions, words


@by_page
def test_python_of_a_page_compiles_and_its_names_are_exported(page):
    for rest, code in blocks(page, "python"):
        compile(code, f"{name_of(page)} {rest}", "exec")
    for name in set(re.findall(r"(?<![\w.-])gs\.([A-Za-z_]\w*)", page.read_text(encoding="utf-8"))):
        assert name in graphsplit.__all__, name


@by_page
def test_json_of_a_page_is_json(page):
    for _, code in blocks(page, "json"):
        json.loads(code)


def test_code_that_is_said_to_run_runs(tmp_path):
    """Page by page, its blocks in order, in an empty folder."""
    pages = {name_of(p): [code for rest, code in blocks(p, "python") if RUNS in rest] for p in PAGES}
    program = "import sys, json\nfor page, codes in json.load(sys.stdin).items():\n space = {'__name__': page}\n"
    program += " for number, code in enumerate(codes):\n  exec(compile(code, f'{page} block {number}', 'exec'), space)\n"
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(pages), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_the_readme_links_in_the_repository_is_there():
    """By full address, because on a package index nothing else leads anywhere."""
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 10
    for target in targets:
        kind, path = re.fullmatch(rf"{REPOSITORY}/(blob|tree|raw)/main/([^#]+)", target).groups()
        where = ROOT / path
        assert where.is_dir() if kind == "tree" else where.is_file(), target
        assert (kind == "raw") == (Path(path).suffix in (".png", ".svg")), target
