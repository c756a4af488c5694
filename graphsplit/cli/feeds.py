"""--feed, --shape and --image: what a model is run on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.errors import FeedError, FormatError

if TYPE_CHECKING:
    from graphsplit.cli.arguments import Container
    from graphsplit.formats import Model
    from graphsplit.inference.synthesis import Feeds
    from graphsplit.runtimes.arrays import Array

__all__ = ["add_feeds", "add_shapes", "feeds_of", "named_shapes", "shapes_of"]

_LARGEST = 2**31  # bytes of a file


def add_feeds(parser: Container, *, images: bool = True) -> None:
    """The options that say what a model is run on. Inputs that none of them names get synthetic values."""
    parser.add_argument(
        "--feed",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE|FILE",
        help="value of an input: a number, true, false, a JSON list, a text, or a file (.npy; of a string input any); repeatable",
    )
    add_shapes(parser)
    if images:
        parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture to run on; repeatable")


def add_shapes(parser: Container) -> None:
    """The option that states shapes which the file does not."""
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        type=_shape,
        metavar="NAME=1,3,224,224",
        help="shape of an input that the file leaves open; repeatable",
    )


def named_shapes(args: argparse.Namespace) -> dict[str, tuple[int | None, ...]]:
    """The shapes that --shape names."""
    return dict(args.shape)


def shapes_of(args: argparse.Namespace) -> bool | dict[str, tuple[int | None, ...]]:
    """--no-shapes and --shape, for functions that infer shapes."""
    return named_shapes(args) or not args.no_shapes


def feeds_of(args: argparse.Namespace, model: Model) -> Feeds | list[Feeds] | None:
    """What --feed and --image name, for `graphsplit.verify`: None: nothing; several with pictures.

    Raises:
        FeedError: A value does not fit its input.
        FormatError: A file cannot be read.
    """
    images = getattr(args, "image", [])
    if not args.feed and not images:
        return None
    from graphsplit.inference.feeds import check_feeds, image_feeds
    from graphsplit.inference.synthesis import as_fed

    strings = {n for s in model.inputs if s.dtype == "string" for n in (s.name, s.name.removesuffix(":0"))}
    fixed = as_fed(model.inputs, {name: _value(text, text_only=name in strings) for name, text in args.feed})
    check_feeds(model.inputs, fixed, optional=[s.name for s in model.inputs])
    if not images:
        return fixed
    return image_feeds(model, images, fixed=fixed, shapes=named_shapes(args))


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as in keep_prob=1")
    return name, value


def _shape(text: str) -> tuple[str, tuple[int | None, ...]]:
    name, equals, sizes = text.rpartition("=")
    dims: list[int | None] = []
    for word in (w.strip() for w in sizes.strip("[]() ").split(",") if w.strip()):
        if word in ("?", "None", "-1"):
            dims.append(None)
        elif word.isascii() and word.isdigit() and len(word) < 12:
            dims.append(int(word))
        else:
            raise argparse.ArgumentTypeError(f"{word!r} in {text!r} is not a size; a shape is NAME=1,3,224,224, ? where it is open")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=1,3,224,224")
    return name, tuple(dims)


def _value(text: str, *, text_only: bool) -> object:
    """The value that a text names: a file, JSON, or the text itself."""
    path = Path(text)
    if text_only:
        return _bytes(path) if text and path.is_file() else text
    if text.endswith(".npy"):
        return _array(path)
    try:
        return json.loads(text)
    except ValueError:
        lowered = {"True": True, "False": False}
        return lowered.get(text, text)


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise FormatError("too large to be fed", path=path)
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"cannot be read: {error.strerror or error}", path=path) from error


def _array(path: Path) -> Array:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "not a .npy file of numbers"
        raise FormatError(f"cannot be read: {reason}", path=path) from error
    if not isinstance(loaded, np.ndarray):
        raise FeedError([f"{path} holds several arrays; save each as a .npy file"])
    return loaded
