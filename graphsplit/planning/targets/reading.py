"""Reading targets: those that are built in, and files of users. Nothing in a file is trusted, its command least of all."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import cache
from os import PathLike
from pathlib import Path
from typing import cast

from graphsplit.errors import FormatError, OptionError
from graphsplit.graph.index import itemsize
from graphsplit.graph.json_input import entry_error, read_json
from graphsplit.planning.targets.constraints import Constraint
from graphsplit.planning.targets.target import Compiler, Target

__all__ = ["read_target", "target_names"]

_LIMIT = 4 * 2**20  # bytes
_LONGEST = 2000  # characters of a pattern
_MOST_SECONDS = 24 * 3600.0
_WHAT = 'a target such as {"name": "mine", "ops": {"CONV_2D": "accelerator"}, "unknown": "host"}'
_FORMATS = ("tflite", "graphdef")
_GROUPS = ("op", "tensor", "reason")


def target_names() -> tuple[str, ...]:
    """Names of the built-in targets, sorted."""
    return tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.json")))


def read_target(target: str | PathLike[str] | Target) -> Target:
    """A target by its name, or of a file.

    Args:
        target: Name of a built-in target, or path of a ``.json`` file; a target is returned as it is.

    Raises:
        OptionError: There is no such target; the error names the nearest ones.
        FormatError: The file is not a target; the error names the entry.
    """
    if isinstance(target, Target):
        return target
    if not isinstance(target, (str, PathLike)):
        raise OptionError(f"target must be the name of a target or the path of a .json file, not {target!r:.100}", option="target")
    known = target_names()
    if isinstance(target, str) and target in known:
        return _built_in(target)
    path = Path(target)
    if isinstance(target, str) and path.suffix != ".json" and not path.exists():
        close = difflib.get_close_matches(target, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}, or the path of a .json file"
        raise OptionError(f"no target named {target!r:.100}; {hint}", option="target")
    return _read(path)


@cache
def _built_in(name: str) -> Target:
    return _read(Path(__file__).with_name(f"{name}.json"), built_in=True)


def _read(path: Path, *, built_in: bool = False) -> Target:
    from graphsplit.planning.targets.schema import TargetFile

    content = read_json(path, TargetFile, what=_WHAT, limit=_LIMIT)
    if not content.name or not content.name.isprintable():
        raise entry_error("$.name", "the name must be printable text", path=path)
    for number, name in enumerate(content.formats):
        if name not in _FORMATS:
            raise entry_error(f"$.formats[{number}]", f"{name!r:.40} is not one of {', '.join(_FORMATS)}", path=path)
    _check_dtypes("$.dtypes", content.dtypes, path)
    constraints = []
    for number, entry in enumerate(content.constraints):
        at = f"$.constraints[{number}]"
        for field in ("inputs", "outputs", "weights"):
            _check_dtypes(f"{at}.{field}", getattr(entry, field), path)
        constraints.append(Constraint(**{name: getattr(entry, name) for name in entry.__struct_fields__}))
    compiler = content.compiler
    asked = None
    if compiler is not None:
        fields = {name: getattr(compiler, name) for name in compiler.__struct_fields__}
        asked = Compiler(**fields | {"name": compiler.name or Path(compiler.command[0] if compiler.command else "").name})
        _check_compiler(asked, path)
    return Target(
        name=content.name,
        source=content.source,
        formats=content.formats,
        dtypes=content.dtypes,
        ops=content.ops,
        unknown=content.unknown,
        constraints=tuple(constraints),
        compiler=asked,
        path=None if built_in else path,
    )


def _check_dtypes(at: str, dtypes: tuple[str, ...], path: Path) -> None:
    for number, dtype in enumerate(dtypes):
        if itemsize(dtype) is None and dtype not in ("string", "resource", "variant"):
            raise entry_error(f"{at}[{number}]", f"{dtype!r:.40} is not a dtype, such as int8 or float32", path=path)


def _check_compiler(compiler: Compiler, path: Path) -> None:
    def fault(key: str, what: str) -> FormatError:
        return entry_error(f"$.compiler.{key}", what, path=path)

    if not compiler.command or not compiler.command[0]:
        raise fault("command", 'no program; write it as a list, such as ["vela", "{model}"]')
    if any("\0" in word for word in compiler.command):
        raise fault("command", "holds a zero byte")
    if not any("{model}" in word for word in compiler.command):
        raise fault("command", "{model} is missing, which is where the file to compile goes")
    if not 0 < compiler.seconds <= _MOST_SECONDS:
        raise fault("seconds", f"{compiler.seconds:g} is not between 0 and {_MOST_SECONDS:g}")
    refused = _pattern("refused", compiler.refused, fault)
    missing = [name for name in _GROUPS if name not in refused.groupindex]
    if missing:
        hint = f"; write (?P<{missing[0]}>) for one that is not printed"
        raise fault("refused", f"the pattern lacks the named group{'s' if missing[1:] else ''} {', '.join(missing)}{hint}")
    for key in ("taken", "left", "version"):
        text = cast(str, getattr(compiler, key))
        if text and not _pattern(key, text, fault).groups:
            raise fault(key, r"the pattern has no group, such as (\d+)")


def _pattern(key: str, text: str, fault: Callable[[str, str], FormatError]) -> re.Pattern[str]:
    if len(text) > _LONGEST:
        raise fault(key, f"a pattern of {len(text)} characters; at most {_LONGEST}")
    if not text:
        raise fault(key, "the pattern is empty")
    try:
        return re.compile(text, re.MULTILINE)
    except (re.error, RecursionError, OverflowError) as error:
        raise fault(key, f"the pattern does not compile: {error}") from error
