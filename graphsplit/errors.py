"""The errors of graphsplit: one tree, every error with its values as attributes.

    GraphSplitError
     ├ FormatError(ValueError)           .path            unknown, damaged, truncated or unsupported file
     ├ TrustError(PermissionError)       .nodes           the model reaches outside itself and nobody vouched for it
     ├ MissingExtraError(ImportError)    .extra           pip install 'graphsplit[tflite]'
     ├ TensorNotFoundError(LookupError)  .name .close     did you mean …?
     ├ CutError(ValueError)              .cut             through a loop, feeds no output, nothing left for a section
     ├ OverwriteError(FileExistsError)   .paths           a file of ours is there already
     ├ PlacementError(ValueError)        .section .device
     │  └ SectionNotFoundError(KeyError)  .section .known  no section of that name, wherever sections are named
     ├ OptionError(TypeError, ValueError) .option         a keyword argument, or its value, that a function does not take
     ├ FeedError(ValueError)             .mismatches      every wrong name, dtype and shape at once
     ├ EquivalenceError(AssertionError)  .report          whole and parts differ, tensor by tensor
     ├ FetchError(ConnectionError)       .address         a file that the network does not give
     └ SectionRunError(RuntimeError)     .section         raised from the runtime's own error

A message says what, with which value, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath

__all__ = [
    "CutError",
    "EquivalenceError",
    "FeedError",
    "FetchError",
    "FormatError",
    "GraphSplitError",
    "MissingExtraError",
    "OptionError",
    "OverwriteError",
    "PlacementError",
    "SectionNotFoundError",
    "SectionRunError",
    "TensorNotFoundError",
    "TrustError",
]


class GraphSplitError(Exception):
    """What every error of this package derives from."""

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes: their attributes are kept, not computed again from the message."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[GraphSplitError], args: tuple[object, ...], attributes: dict[str, object]) -> GraphSplitError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class FormatError(GraphSplitError, ValueError):
    """A file that cannot be read as a model, or a model that cannot be written as a file."""

    def __init__(self, message: str, *, path: str | PathLike[str] | None = None) -> None:
        self.path = None if path is None else fspath(path)
        super().__init__(f"{self.path}: {message}" if self.path else message)


class TrustError(GraphSplitError, PermissionError):
    """A model that reaches files, the network or Python was to be run without trust."""

    def __init__(self, message: str, *, nodes: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        super().__init__(message)


class MissingExtraError(GraphSplitError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, *, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} is not installed: pip install 'graphsplit[{extra}]'")


class TensorNotFoundError(GraphSplitError, LookupError):
    """No tensor or node of that name."""

    def __init__(self, name: str, *, close: Sequence[str] = (), kind: str = "tensor", known: str = "", reason: str = "") -> None:
        self.name = name
        self.close = tuple(close)
        hint = f"; {known}" if known else ""
        if close:
            hint = f"; did you mean {' or '.join(repr(c) for c in self.close)}?"
        super().__init__(f"no {kind} named {name!r}{f': {reason}' if reason else ''}{hint}")


class CutError(GraphSplitError, ValueError):
    """A cut that cannot be made."""

    def __init__(self, message: str, *, cut: Sequence[str] = ()) -> None:
        self.cut = tuple(cut)
        super().__init__(message)


class OverwriteError(GraphSplitError, FileExistsError):
    """Files that would be replaced without having been asked to."""

    def __init__(self, message: str, *, paths: Sequence[str | PathLike[str]]) -> None:
        self.paths = tuple(fspath(p) for p in paths)
        super().__init__(message)


class PlacementError(GraphSplitError, ValueError):
    """A section on a device that is not there, or not a device."""

    def __init__(self, message: str, *, section: str, device: str) -> None:
        self.section = section
        self.device = device
        super().__init__(message)


class SectionNotFoundError(PlacementError, KeyError):
    """No section of that name, wherever sections are named: devices, delegates, exports, ``parts[name]``."""

    def __init__(self, section: str, *, known: Sequence[str], device: str = "") -> None:
        self.known = tuple(known)
        super().__init__(f"no section {section!r}; there are {', '.join(self.known)}", section=section, device=device)

    __str__ = Exception.__str__  # a KeyError would show its message in quotes


class OptionError(GraphSplitError, TypeError, ValueError):
    """A keyword argument that a function does not have, or a value that it does not take."""

    def __init__(self, message: str, *, option: str) -> None:
        self.option = option
        super().__init__(message)


class FeedError(GraphSplitError, ValueError):
    """Feeds that do not fit the model; all mismatches are reported together."""

    def __init__(self, mismatches: Sequence[str]) -> None:
        self.mismatches = tuple(mismatches)
        super().__init__("; ".join(self.mismatches))


class EquivalenceError(GraphSplitError, AssertionError):
    """Whole and sections compute different values."""

    def __init__(self, message: str, *, report: object) -> None:
        self.report = report
        super().__init__(message)


class FetchError(GraphSplitError, ConnectionError):
    """A file that the network does not give."""

    def __init__(self, message: str, *, address: str) -> None:
        self.address = address
        super().__init__(message)


class SectionRunError(GraphSplitError, RuntimeError):
    """A runtime failed while it ran a section; its own error is the cause."""

    def __init__(self, message: str, *, section: str) -> None:
        self.section = section
        super().__init__(message)
