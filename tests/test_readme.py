"""What the README promises: its commands are commands, its names are exported, its files are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import graphsplit
from graphsplit.cli.arguments import build_parser

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.removeprefix("$ ").split("  #")[0].strip() for line in TEXT.splitlines() if line.startswith("$ graphsplit")]


def test_there_are_commands():
    assert len(COMMANDS) > 6


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_understood(command):
    args = build_parser().parse_args(shlex.split(command)[1:])
    assert callable(args.run)


def test_every_name_that_the_readme_uses_is_exported():
    for name in set(re.findall(r"\bgs\.(\w+)", TEXT)):
        assert name in graphsplit.__all__, name


def test_every_file_that_the_readme_links_is_there():
    for target in re.findall(r"\]\(([\w/.]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_the_python_examples_are_python():
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        compile(code, "README.md", "exec")
