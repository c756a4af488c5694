"""The parser: one subcommand a module; what several commands share stands here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from graphsplit.version import VERSION

__all__ = ["Command", "add_command", "add_cut", "build_parser", "cut_of"]

Command = Callable[[argparse.Namespace], int]
_COMMANDS = (
    *("show", "suggest", "plan", "split", "verify", "rewrite", "presets", "detect", "batch", "bench", "export", "fetch", "view"),
    *("worker", "demo"),
)
_REPAIRS = ("auto", "replicate", "border", "error")


def _common(*, suppress: bool) -> argparse.ArgumentParser:
    # On the subcommand these must not overwrite what stood before it.
    default: Any = argparse.SUPPRESS if suppress else False
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", default=default, help="answer with one JSON object on stdout")
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help="show TensorFlow's log and full tracebacks")
    parser.add_argument("--version", action="version", version=f"graphsplit {VERSION}")
    return parser


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line. Importing it imports no framework.

    argv  what it is to parse: where that begins with a command, only the module of that command is imported
    """
    parser = argparse.ArgumentParser(
        prog="graphsplit",
        description="Cut TensorFlow inference graphs into sections, prove them equal to the whole, place each on its device.",
        epilog="graphsplit COMMAND --help explains a command. "
        "Exit status: 0 fine, 1 an error, 2 wrong usage, 3 verification differs, 4 batch rejected some inputs.",
        parents=[_common(suppress=False)],
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in argv or () if not word.startswith("-")), "")
    for name in (asked,) if asked in _COMMANDS else _COMMANDS:
        import_module(f"graphsplit.cli.{name}").add(commands)
    return parser


def add_command(commands: Any, name: str, run: Command, help: str, description: str = "") -> argparse.ArgumentParser:
    """A subcommand with the options that all have."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help, description=description or help, parents=[_common(suppress=True)]
    )
    parser.set_defaults(run=run)
    return parser


def add_cut(parser: argparse.ArgumentParser) -> None:
    """The options that name a cut."""
    cut = parser.add_argument_group(
        "where to cut", "none given: the preset that matches the graph, else the automatic cut; the answer says which"
    )
    cut.add_argument(
        "--outputs",
        "--output",
        "--at",
        action="append",
        metavar="A,B,…",
        help="split targets: the tensors at which main ends; give it several times for an N-way split",
    )
    cut.add_argument("--inputs", "--input", metavar="A,B,…", help="tensors at which main starts; what is before them is pre")
    cut.add_argument(
        "--preset", metavar="NAME", help="the cut of a model family (graphsplit presets lists them), or FILE.json of your own"
    )
    cut.add_argument("--autocrop", action="store_true", help="search the cut: the fewest bytes between network and host ops")
    cut.add_argument("--affinity", metavar="FILE", help='for that search: JSON {op: "accelerator"|"host"|"either"}')
    cut.add_argument(
        "--crop-file", "--model_in_out", "--model-in-out", metavar="FILE", help='JSON: {"inputs": […], "outputs": […]}'
    )
    cut.add_argument("--model-outputs", metavar="A,B,…", help="outputs of the graph to keep (default: all); the rest is pruned")
    cut.add_argument(
        "--repair",
        choices=_REPAIRS,
        default="auto",
        help="what to do with tensors that cross unnamed: compute shape arithmetic again and let the rest cross (auto), compute "
        "all that is stateless again (replicate), let all cross (border), refuse (error)",
    )


def cut_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_cut` as arguments of `graphsplit.splitting.surgery.choose`."""
    outputs = args.outputs
    if outputs is not None:
        outputs = [o.split(",") for o in outputs] if len(outputs) > 1 else outputs[0]
    return {
        "outputs": outputs,
        "inputs": args.inputs,
        "preset": args.preset,
        "autocrop": args.autocrop,
        "affinity": args.affinity,
        "crop_file": args.crop_file,
        "model_outputs": args.model_outputs,
    }


def add_delegate(parser: Any) -> None:
    """The option that takes a TFLite section to an accelerator."""
    parser.add_argument(
        "--delegate",
        action="append",
        type=pair,
        default=[],
        metavar="SECTION=LIBRARY",
        help="a TFLite delegate, the library that takes a .tflite section to an accelerator (default: LiteRT's own for the CPU)",
    )


def add_cluster(parser: Any) -> None:
    """The option that says where workers are."""
    parser.add_argument(
        "--cluster",
        metavar="FILE",
        help='JSON {"job": ["host:port", …]}: where the workers are that --device names, as in main=/job:gpu/task:0/gpu:0 '
        "(graphsplit worker starts one)",
    )


def pair(text: str) -> tuple[str, str]:
    """``SECTION=DEVICE``."""
    name, equals, device = text.partition("=")
    if not (name and equals and device):
        raise argparse.ArgumentTypeError(f"{text!r} is not SECTION=DEVICE, as in main=/gpu:0")
    return name, device


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def tolerance(text: str) -> float:
    """A number that is not negative."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value
