"""Why a child process has no answer, and the errors that it reports."""

from __future__ import annotations

import re
from types import SimpleNamespace

from graphsplit import errors

__all__ = [
    "ChildError",
    "OutOfMemoryError",
    "OutOfTimeError",
    "RuntimeFailure",
    "error_kind",
    "error_text",
    "fatal_line",
    "plain_text",
    "reported_error",
    "tells_of_memory",
]

_LONGEST = 20_000  # characters kept of an error of a runtime
# Errors of a runtime that are raised here as what they are there.
_KINDS: dict[str, type[Exception]] = {e.__name__: e for e in (ValueError, RuntimeError, TypeError, TimeoutError, ImportError)}
_MEMORY = re.compile(rb"bad_alloc|[Oo]ut of memory|Cannot allocate memory|MemoryError|Unable to allocate|OOM when")
_PREAMBLE = re.compile(r"=+$|Graph execution error:|Detected at node |Node: |\d+ root error\(s\) found|Original stack trace for ")
_FATAL = re.compile(r"F\d{4} |.*(Check failed|what\(\)|[Aa]ssertion|FATAL)")


class ChildError(Exception):
    """The child ended, so there is no answer. Its text continues the name of what it did: "crashed (signal 6: …)"."""


class OutOfMemoryError(ChildError):
    """The child needed more memory than it may have."""


class OutOfTimeError(ChildError):
    """The child did not answer in time."""


class RuntimeFailure(Exception):
    """An error of a runtime whose class is not known here.

    Attributes:
        kind: Name of its class, such as ``InvalidArgumentError``.
        node_def: Has the name of the node that failed, as TensorFlow's own errors have it.
    """

    def __init__(self, kind: str, text: str, node: str) -> None:
        self.kind, self.node_def = kind, SimpleNamespace(name=node)
        super().__init__(text)


def error_kind(error: BaseException | None) -> str:
    """The name of the class of a runtime's error, whichever process raised it."""
    return error.kind if isinstance(error, RuntimeFailure) else type(error).__name__


def error_text(error: BaseException) -> str:
    """The message of a runtime's error in one line: without its preamble and Python stack, with the node if it is known."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line and not _PREAMBLE.match(line)), type(error).__name__)
    text = re.sub(r"^\(0\) [A-Z_]+: ", "", text)  # the first of several
    node = getattr(getattr(error, "node_def", None), "name", "")
    return f"{text} (node {node!r})" if node and repr(node) not in text else text


def tells_of_memory(printed: bytes) -> bool:
    """Whether native code said that it ran out of memory."""
    return _MEMORY.search(printed) is not None


def fatal_line(printed: bytes) -> str:
    """The line in which native code says why it aborts."""
    lines = [plain_text(line).strip() for line in printed.splitlines()]
    fatal = next((line for line in lines if _FATAL.match(line)), "")
    return re.sub(r"^F\d{4} [\d:.]+ +\d+ (\S+:\d+\] )?", "", fatal)[:200]


def plain_text(printed: bytes, keep: str = "") -> str:
    """Text without what a terminal would obey."""
    return "".join(c if c.isprintable() or c in keep else " " for c in printed.decode(errors="replace"))


def reported_error(report: object, causes: int = 3) -> Exception:
    """The error that a child reports, as far as its class is known here; else a `RuntimeFailure`.

    Args:
        report: {"kind": …, "text": …, "node": …, "attributes": …, "cause": …}, as the child sent it; anything else is harmless.
        causes: How many errors that caused one another are kept.
    """
    error = report if isinstance(report, dict) else {}
    raised = _raised(error)
    if isinstance(error.get("cause"), dict) and causes:
        raised.__cause__ = reported_error(error["cause"], causes - 1)
    return raised


def _raised(error: dict[str, object]) -> Exception:
    kind, text, node = (str(error.get(key, ""))[:_LONGEST] for key in ("kind", "text", "node"))
    if kind in errors.__all__:
        return _rebuilt(getattr(errors, kind), text, error.get("attributes"))
    if kind in ("MemoryError", "ResourceExhaustedError"):
        return OutOfMemoryError(f"needed more memory than there is ({error_text(Exception(text))[:200]})")
    return _KINDS[kind](text) if kind in _KINDS else RuntimeFailure(kind, text, node)


def _rebuilt(kind: type[Exception], text: str, attributes: object) -> Exception:
    """An error of this package as it was raised in the child."""
    error = kind.__new__(kind)
    error.args = (text,)
    for name, value in (attributes if isinstance(attributes, dict) else {}).items():
        setattr(error, str(name), tuple(map(str, value)) if isinstance(value, list) else None if value is None else str(value))
    return error
