"""Every command with every flag: what the contract names is there, and a flag that a message names exists where it is printed."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphsplit
from graphsplit.cli.arguments import build_parser
from graphsplit.cli.remedies import REMEDIES, in_flags

PACKAGE = Path(graphsplit.__file__).parent
COMMANDS: dict[str, argparse.ArgumentParser] = next(
    action.choices for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)
)
FORMATS = (".pb", ".pbtxt", "SavedModel", ".keras", ".tflite")
OF_OTHER_PROGRAMS = {"--model-repository", "--list-devices"}  # tritonserver, v4l2-ctl
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")

# Flags that scripts rely on, beside those that every command has.
EVERYWHERE = "--json --verbose -v --version"
CUT = (
    "--outputs --output --at --inputs --input --preset --autocrop --affinity --crop-file --model_in_out --model-in-out "
    "--model-outputs --repair"
)
CONTRACT = {
    "show": "--node --shapes",
    "suggest": "--limit --affinity --target",
    "check": "--target --no-ask --trust",
    "plan": f"{CUT} --target --no-ask --islands",
    "split": f"{CUT} --target --no-ask --islands -o --no-verify --no-shapes --fuse-nms --overwrite --trust --device",
    "verify": "--model --image --runs --rtol --atol --trust",
    "rewrite": "-o --fuse-nms --batch-preprocess --model-outputs --overwrite --no-verify --trust",
    "presets": "--match",
    "detect": f"{CUT} --no-split --save --jsonl --show --labels --threshold --policy --max-frames --fuse-nms --trust",
    "bench": f"{CUT} --frames --threads --fuse-nms --trust",
    "view": f"{CUT} --port --no-browser --html",
    "export": "--to -o --section",
    "fetch": "-o",
    "demo": "-o",
    "batch": "-o --engine --resume --trust",
    "worker": "--job --task --cluster",
}
CHOICES = {
    ("plan", "--repair"): {"auto", "replicate", "border", "error"},
    ("detect", "--policy"): {"block", "latest"},
    ("batch", "--engine"): {"ray", "local"},
    ("export", "--to"): {"saved_model", "tflite", "triton"},
}


def flags(command: str) -> set[str]:
    return {flag for action in COMMANDS[command]._actions for flag in action.option_strings}


def takes_model(command: str) -> bool:
    return any("MODEL" in str(action.metavar or "").split("|") for action in COMMANDS[command]._actions)


WITH_MODEL = sorted(filter(takes_model, COMMANDS))


@pytest.mark.parametrize("command", CONTRACT)
def test_a_command_has_the_flags_that_scripts_rely_on(command):
    assert {*CONTRACT[command].split(), *EVERYWHERE.split()} <= flags(command)


def test_no_command_is_without_a_contract():
    assert set(COMMANDS) == set(CONTRACT)


@pytest.mark.parametrize(("command", "flag"), CHOICES)
def test_a_flag_takes_the_values_that_scripts_rely_on(command, flag):
    (action,) = (a for a in COMMANDS[command]._actions if flag in a.option_strings)
    assert set(action.choices) >= CHOICES[command, flag]


def test_commands_that_take_a_model_are_these():
    others = {"demo", "fetch", "worker"}
    assert {*WITH_MODEL} == COMMANDS.keys() - others


@pytest.mark.parametrize("command", WITH_MODEL)
def test_a_command_that_takes_a_model_takes_trust(command):
    """Loading alone may run what a SavedModel holds."""
    assert "--trust" in flags(command)


@pytest.mark.parametrize("command", WITH_MODEL)
def test_the_help_of_a_command_that_takes_a_model_names_every_format(command):
    helps = " ".join(a.help or "" for a in COMMANDS[command]._actions if "MODEL" in str(a.metavar or "").split("|"))
    assert [f for f in FORMATS if not re.search(rf"{re.escape(f)}\b", helps)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_names_flags_of_its_own_command(command):
    parser = COMMANDS[command]
    for text in (parser.description, *(a.help for a in parser._actions if a.help is not argparse.SUPPRESS)):
        for flag, where in named(text or "", command):
            assert flag in flags(where or command), text


@pytest.mark.parametrize(
    ("words", "command", "message"),
    [
        ("split m.pb --outptus a -o x", "split", "--outptus a; did you mean --outputs?"),
        ("plan m.pb --preste=ssd_2018", "plan", "--preste=ssd_2018; did you mean --preset?"),
        ("verify a b --jsn", "verify", "b --jsn; did you mean --json?"),
        ("show m.pb --qqqqqq", "show", "--qqqqqq"),
        ("show m.pb more", "show", "more"),
    ],
)
def test_an_unknown_option_is_an_error_of_its_command_with_the_nearest_one(call, words, command, message):
    answer = call(*words.split())
    assert answer.status == 2
    assert answer.err.startswith(f"usage: graphsplit {command} [-h]")
    assert answer.err.endswith(f"\ngraphsplit {command}: error: unrecognized arguments: {message}\n")


# Flags in messages


def named(text: str, command: str | None) -> Iterator[tuple[str, str | None]]:
    """The flags that a text names, each with the command it is said to be of: "split --no-verify", else `command`."""
    of = command
    for word in re.finditer(rf"\b(?P<command>{'|'.join(COMMANDS)})\b(?= (?:\S+ )?--)|{FLAG.pattern}", text):
        if word["command"]:
            of = word["command"]
        elif word[0] not in OF_OTHER_PROGRAMS:
            yield word[0], of


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Strings of a module without docstrings; what is formatted into one is an ellipsis."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings, and parts of f-strings
    inner |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def test_messages_of_the_library_name_arguments_not_flags():
    named_flags = {
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "cli"
        for line, text in texts(path)
        if not text.startswith(" --") and not FLAG.fullmatch(text) and any(named(text, None))
    }
    assert named_flags == set()


ARGUMENT = re.compile(r"\b[a-z_]+=(?:True|False|…)")
NO_FLAG = {"training=False", "signatures=…", "target=…", "strict=True"}  # of Keras, of TensorFlow, and of Python alone


def test_every_argument_that_a_message_names_has_a_flag():
    unknown = {
        f"{path.relative_to(PACKAGE)}:{line}: {argument}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent.name != "cli"
        for line, text in texts(path)
        if " " in text
        for argument in ARGUMENT.findall(text)
        if argument not in NO_FLAG and not any(re.search(pattern, argument) for pattern in REMEDIES)
    }
    assert unknown == set()


@pytest.mark.parametrize(("flag", "home"), [entry for entry in REMEDIES.values() if entry[1]])
def test_every_remedy_is_a_flag_of_the_command_it_is_said_to_be_of(flag, home):
    assert flag.split()[0] in flags(home)


@pytest.mark.parametrize(
    ("command", "message", "expected"),
    [
        ("split", "trust=True runs it; split() runs nothing", "--trust runs it; split --no-verify runs nothing"),
        ("split", 'repair the border (repair="auto")', "repair the border (--repair auto)"),
        ("show", "name tensors with outputs=…", "name tensors with graphsplit split --outputs A,B,…"),
        ("split", "keep more with model_outputs=…, outputs=…", "keep more with --model-outputs A,B,…, --outputs A,B,…"),
        ("suggest", "shapes=False leaves them unknown", "--no-shapes leaves them unknown"),
    ],
)
def test_a_remedy_is_a_flag_where_there_is_one(command, message, expected):
    assert in_flags(message, COMMANDS[command]) == expected


def test_every_flag_that_a_message_names_exists_where_it_is_printed():
    """A message of `cli/split.py` is printed by `graphsplit split`."""
    unknown = []
    for path in sorted((PACKAGE / "cli").rglob("*.py")):
        command = path.stem if path.parent.name == "cli" and path.stem in COMMANDS else None
        for line, text in texts(path):
            if text.startswith(" --") or FLAG.fullmatch(text):  # a piece of a command line, or where the flag is defined
                continue
            for flag, where in named(text, command):
                if not any(flag in flags(c) for c in ([where] if where else COMMANDS)):
                    unknown.append(f"{path.relative_to(PACKAGE)}:{line}: {flag} ({where or 'any command'}): {text}")
    assert unknown == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--a replaces it; --b-c=1 does not", [("--a", None), ("--b-c", None)]),
        ("--trust (trust=True) runs it, split --no-verify does not", [("--trust", None), ("--no-verify", "split")]),
        (
            "graphsplit split --inputs …, --outputs …) and export --to",
            [("--inputs", "split"), ("--outputs", "split"), ("--to", "export")],
        ),
        ("graphsplit presets --match MODEL", [("--match", "presets")]),
        ("graphsplit split … --outputs a", [("--outputs", "split")]),
        ("the split goes to --folder; a--b, ---", [("--folder", None)]),
        ("tritonserver --model-repository=x", []),
    ],
)
def test_flags_and_their_commands_are_found_in_a_text(text, expected):
    assert list(named(text, None)) == expected
