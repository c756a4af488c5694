"""The parser: one subcommand a module, and the arguments that several commands share."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, get_args

from graphsplit.graph.text import escaped
from graphsplit.planning.plan import Repair
from graphsplit.version import VERSION

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from graphsplit.splitting.request import CutOptions, PlanOptions

__all__ = [
    "Command",
    "Container",
    "Subparsers",
    "add_choice",
    "add_cluster",
    "add_command",
    "add_cut",
    "add_delegates",
    "add_devices",
    "add_fuse_nms",
    "add_model",
    "add_overwrite",
    "add_threads",
    "add_tolerances",
    "add_trust",
    "build_parser",
    "count",
    "cut_of",
    "pair",
    "parse",
    "tolerance",
]

Command = Callable[[argparse.Namespace], int]
_COMMANDS = (
    *("show", "suggest", "check", "plan", "split", "verify", "rewrite", "presets", "detect", "batch", "bench", "export", "fetch"),
    *("view", "worker", "demo"),
)


class Container(Protocol):
    """A parser, or a group of its arguments."""

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """As of argparse."""
        ...


class Subparsers(Protocol):
    """What commands add themselves to."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """As of argparse."""
        ...


class _Parser(argparse.ArgumentParser):
    """A parser whose messages show what a terminal would obey: the shell may have put names of files into them."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        super()._print_message(escaped(message, keep="\n") if message else message, file)


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line. Importing it imports no framework.

    Args:
        argv: What it is to parse; if that begins with a command, only the module of that command is imported.
    """
    parser = _Parser(
        prog="graphsplit",
        description="Cut TensorFlow inference graphs into sections, prove them equal to the whole, place each on its device.",
        epilog="graphsplit COMMAND --help explains a command. "
        "Exit status: 0 fine, 1 an error, 2 wrong usage, 3 verification differs or a compiler refuses ops, "
        "4 some inputs were rejected, 130 interrupted.",
        parents=[_common(suppress=False)],
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in argv or () if not word.startswith("-")), "")
    for name in (asked,) if asked in _COMMANDS else _COMMANDS:
        import_module(f"graphsplit.cli.{name}").add(commands)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line. An unknown option is an error with the usage of its command and the nearest option.

    Raises:
        SystemExit: Wrong usage, with status 2; after --help and --version, with 0.
    """
    args, unknown = build_parser(argv).parse_known_args(argv)
    if unknown:
        parser: argparse.ArgumentParser = args.parser
        option = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
        close = difflib.get_close_matches(option, _flags(parser), n=1)
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{f'; did you mean {close[0]}?' if close else ''}")
    _choose(args)
    return args


def _choose(args: argparse.Namespace) -> None:
    """Let the path of the model say which signature of it is meant."""
    signature, tags = getattr(args, "signature", None), getattr(args, "tags", None)
    if signature is None and tags is None:
        return
    from graphsplit.formats.model_file import ModelFile

    for name in ("model", "match"):
        if isinstance(path := getattr(args, name, None), str):
            setattr(args, name, ModelFile(path, signature, tags))
            return
    args.parser.error("--signature and --tags choose from a model; name one with --model")


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    """The long options that the help of a command names."""
    return [word.strip("[],") for word in parser.format_help().split() if word.strip("[],").startswith("--")]


def _common(*, suppress: bool) -> argparse.ArgumentParser:
    # On the subcommand these must not overwrite what came before it.
    default: Any = argparse.SUPPRESS if suppress else False
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", default=default, help="answer with one JSON object on stdout")
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help="show TensorFlow's log and full tracebacks")
    parser.add_argument("--version", action="version", version=f"graphsplit {VERSION}")
    return parser


def add_command(commands: Subparsers, name: str, run: Command, help: str, description: str = "") -> argparse.ArgumentParser:
    """A subcommand with the options that all have."""
    parser = commands.add_parser(name, help=help, description=description or help, parents=[_common(suppress=True)])
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_model(parser: Container, *, or_split: bool = False) -> None:
    """The model that a command reads, and whether it is trusted.

    Args:
        parser: Gets the arguments.
        or_split: Whether the folder of a split will do as well.
    """
    from graphsplit.formats.detect import FORMATS_TEXT

    if or_split:
        parser.add_argument("model", metavar="MODEL|DIR", help=f"{FORMATS_TEXT}; or the folder of a split")
    else:
        parser.add_argument("model", metavar="MODEL", help=FORMATS_TEXT)
    add_trust(parser)
    add_choice(parser)


def add_choice(parser: Container) -> None:
    """The options that choose one of several signatures."""
    parser.add_argument(
        "--signature", metavar="NAME", help="one of several signatures of a SavedModel or .tflite file (show lists them)"
    )
    parser.add_argument("--tags", metavar="A,B", help="one of several meta graphs of a SavedModel, by its tags (default: serve)")


def add_trust(parser: Container) -> None:
    """The option that vouches for a model."""
    parser.add_argument("--trust", action="store_true", help="accept a model that reaches files, the network or Python")


def add_cut(parser: argparse.ArgumentParser) -> None:
    """The options that say where to cut."""
    cut = parser.add_argument_group(
        "where to cut", "default: the preset that matches the graph, else the automatic cut; the answer says which"
    )
    cut.add_argument(
        "--outputs",
        "--output",
        "--at",
        action="append",
        metavar="A,B,…",
        help="split targets: the tensors at which main ends; repeat it for an N-way split",
    )
    cut.add_argument("--inputs", "--input", metavar="A,B,…", help="tensors at which main starts; what is before them is pre")
    cut.add_argument(
        "--preset", metavar="NAME", help="the cut of a model family (graphsplit presets lists them), or FILE.json with your own"
    )
    cut.add_argument(
        "--autocrop", action="store_true", help="search for the cut, even where a preset matches: main holds the network"
    )
    cut.add_argument("--affinity", metavar="FILE", help='for that search: JSON {op: "accelerator"|"host"|"either"}')
    cut.add_argument(
        "--islands", action="store_true", help="that search: accelerator and host in turn where host ops lie between layers"
    )
    cut.add_argument(
        "--crop-file", "--model_in_out", "--model-in-out", metavar="FILE", help='JSON: {"inputs": […], "outputs": […]}'
    )
    cut.add_argument("--model-outputs", metavar="A,B,…", help="outputs of the graph to keep (default: all); the rest is pruned")
    cut.add_argument(
        "--repair",
        choices=get_args(Repair),
        default="auto",
        help="tensors that cross without being named: recompute shape arithmetic and let the rest cross (auto), recompute "
        "everything stateless (replicate), let all of them cross (border), refuse (error)",
    )


def add_target(parser: Container, *, asks: bool = True) -> None:
    """The option that names an accelerator's compiler."""
    from graphsplit.planning.targets import target_names

    names = f"{', '.join(target_names())}, or FILE.json with your own"
    done = "cut until it takes all of main" if asks else "its table says what stays on the host"
    parser.add_argument("--target", metavar="NAME|FILE", help=f"an accelerator's compiler ({names}): {done}")
    if asks:
        parser.add_argument("--no-ask", action="store_true", help="with --target: its table alone, no compiler runs")


def plan_options_of(args: argparse.Namespace) -> PlanOptions:
    """The options of `add_cut` and `add_target` as options of `graphsplit.plan`."""
    return {**cut_of(args), "target": args.target, "ask": not args.no_ask}


def cut_of(args: argparse.Namespace) -> CutOptions:
    """The options of `add_cut` as options of `graphsplit.plan`."""
    outputs = args.outputs
    return {
        "outputs": outputs[0] if outputs is not None and len(outputs) == 1 else outputs and [[o] for o in outputs],
        "inputs": args.inputs,
        "preset": args.preset,
        "autocrop": args.autocrop,
        "affinity": args.affinity,
        "islands": args.islands,
        "crop_file": args.crop_file,
        "model_outputs": args.model_outputs,
        "repair": args.repair,
    }


def add_fuse_nms(parser: Container) -> None:
    """The option for the fused suppression."""
    parser.add_argument(
        "--fuse-nms",
        action="store_true",
        help="one op for the non-maximum suppression of all classes, where that is known to compute the same",
    )


def add_devices(parser: Container, *, default: str = "main=/gpu:0, the others /cpu:0") -> None:
    """The option that places sections."""
    parser.add_argument(
        "--device",
        action="append",
        type=pair,
        default=[],
        metavar="SECTION=DEVICE",
        help=f"where a section runs (default: {default})",
    )


def add_delegates(parser: Container) -> None:
    """The option that runs a TFLite section on an accelerator."""
    parser.add_argument(
        "--delegate",
        action="append",
        type=pair,
        default=[],
        metavar="SECTION=LIBRARY",
        help="a TFLite delegate: the library that runs a .tflite section on an accelerator (default: LiteRT's own, for the CPU)",
    )


def add_cluster(parser: Container) -> None:
    """The option that says where workers are."""
    parser.add_argument(
        "--cluster",
        metavar="FILE",
        help='JSON {"job": ["host:port", …]}: addresses of the workers that --device names, as in main=/job:gpu/task:0/gpu:0 '
        "(graphsplit worker starts one)",
    )


def add_threads(parser: Container, *, default: int | None = None, note: str = "the cores, shared between the sections") -> None:
    """The option for the thread pools."""
    parser.add_argument(
        "--threads", type=count, default=default, metavar="N", help=f"threads of each section's own pool (default: {note})"
    )


def add_overwrite(parser: Container, *, replaces: str) -> None:
    """The option that allows files to be replaced."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {replaces}; touches nothing else")


def add_tolerances(parser: Container, *, default: float | None, note: str) -> None:
    """The options for a comparison within a tolerance."""
    parser.add_argument("--rtol", type=tolerance, default=default, metavar="R", help=f"relative tolerance (default: {note})")
    parser.add_argument("--atol", type=tolerance, default=default, metavar="A", help=f"absolute tolerance (default: {note})")


def pair(text: str) -> tuple[str, str]:
    """``SECTION=DEVICE``."""
    name, equals, device = text.partition("=")
    if not (name and equals and device):
        raise argparse.ArgumentTypeError(f"{text!r} is not SECTION=DEVICE, as in main=/gpu:0")
    return name, device


def count(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
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
