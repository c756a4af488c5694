"""What a compiler printed, read by the patterns of its target.

A pattern of a user's file may take for ever on some texts, and Python cannot interrupt it: patterns are matched in a process
of their own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from graphsplit.errors import FormatError
from graphsplit.graph.json_input import entry_error
from graphsplit.planning.targets import Compiler
from graphsplit.planning.targets.answer import Refused

__all__ = ["Said", "read_output"]

_SECONDS = 20.0
_MOST = 10_000  # refused ops that are kept
_LONGEST = 1000  # characters of a name or a reason
_MATCHER = """
import json, re, sys
asked = json.load(sys.stdin)
text, found = asked["text"], []
for match in re.finditer(asked["refused"], text, re.MULTILINE):
    entry = [(match[group] or "").strip()[:asked["longest"]] for group in ("op", "tensor", "reason")]
    count = match.groupdict().get("count") or "1"
    found += [entry] * (min(int(count), asked["most"]) if count.isascii() and count.isdigit() and len(count) < 9 else 1)
    if len(found) >= asked["most"]:
        del found[asked["most"]:]
        break
last = {}
for key in ("taken", "left", "version"):
    for match in re.finditer(asked[key], text, re.MULTILINE) if asked[key] else ():
        last[key] = (match[1] or "")[:asked["longest"]]
json.dump({"refused": found, **last}, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What the patterns found.

    Attributes:
        refused: The refused ops, in the order in which they are printed.
        taken: Number of ops taken; None if it was not found.
        left: Number of ops left to the host; None if it was not found.
        version: Version of the compiler; None if it was not found.
    """

    refused: tuple[Refused, ...]
    taken: int | None
    left: int | None
    version: str | None


def read_output(text: str, compiler: Compiler, path: Path | None) -> Said:
    """What a compiler said.

    Args:
        text: What it printed.
        compiler: Whose patterns are matched.
        path: The file of the target, for errors.

    Raises:
        FormatError: A pattern takes too long, or finds what is not a number.
    """
    asked = {"text": text, "refused": compiler.refused, "taken": compiler.taken, "left": compiler.left, "version": compiler.version}
    request = json.dumps(asked | {"most": _MOST, "longest": _LONGEST})
    command = [sys.executable, "-I", "-S", "-c", _MATCHER]
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        what = f"a pattern takes more than {_SECONDS:g} seconds on what {compiler.name} printed; make it simpler"
        raise entry_error("$.compiler", what, path=path) from None
    except subprocess.CalledProcessError as error:
        raise entry_error("$.compiler", f"the patterns cannot be matched: {error.stderr.strip()[-200:]}", path=path) from error
    found = json.loads(done.stdout)
    return Said(
        tuple(Refused(op, tensor, re.sub(r"\s*\n\s*", "; ", reason)) for op, tensor, reason in found["refused"]),
        _number(found, "taken", path),
        _number(found, "left", path),
        found.get("version"),
    )


def _number(found: dict[str, str], key: str, path: Path | None) -> int | None:
    text = found.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _fault(key, text, path)
    return int(text)


def _fault(key: str, text: str, path: Path | None) -> FormatError:
    return entry_error(f"$.compiler.{key}", f"its first group found {text!r:.60}, which is not a number", path=path)
