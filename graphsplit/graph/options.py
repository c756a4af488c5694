"""Keyword arguments that many functions share: checked by name, so that a misspelt one is an error that helps."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import ParamSpec, TypeVar

from graphsplit.errors import OptionError

_P = ParamSpec("_P")
_R = TypeVar("_R")

__all__ = ["check_choice", "check_count", "check_mapping", "check_number", "check_options", "check_path", "hinted"]


def hinted(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a function without ``**options`` answer a misspelt keyword argument as those with options do: see `check_options`."""
    known = _arguments(function)

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in kwargs:
            if name not in known:
                raise _unexpected(function, name, known)
        return function(*args, **kwargs)

    return call


def check_options(function: Callable[..., object], passed: Mapping[str, object], options: type) -> None:
    """Refuse keyword arguments that a function does not have.

    Args:
        function: The function or class that was called.
        passed: The keyword arguments that its ``**options`` took.
        options: The TypedDict of these.

    Raises:
        OptionError: names the function, the argument and the nearest one there is, among all that the function takes.
    """
    for name in passed:
        if name not in options.__annotations__:
            raise _unexpected(function, name, [*options.__annotations__, *_arguments(function)])


def _unexpected(function: Callable[..., object], name: str, known: Sequence[str]) -> OptionError:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"
    return OptionError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}", option=name)


def _arguments(function: Callable[..., object]) -> list[str]:
    """Names of the arguments that a function states one by one."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        return [p.name for p in inspect.signature(function).parameters.values() if p.kind in named]
    except ValueError:  # a TypedDict has no signature
        return []


def check_count(option: str, value: object, *, least: int = 1) -> None:
    """Refuse what is not a whole number from `least`; None passes, as the default.

    Raises:
        OptionError: names the option and the value.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise OptionError(f"{option} must be a whole number, not {value!r}", option=option)
    if int(value) < least:
        raise OptionError(f"{option} must be at least {least}, not {value}", option=option)


def check_number(option: str, value: object, *, most: float = sys.float_info.max) -> None:
    """Refuse what is not a finite number from 0 to `most`.

    Raises:
        OptionError: names the option and the value.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= most:
        limit = "" if most == sys.float_info.max else f" to {most:g}"
        raise OptionError(f"{option} must be a number from 0{limit}, not {value!r}", option=option)


def check_path(option: str, value: object, what: str) -> None:
    """Refuse what is not a path; None passes, as the default.

    Raises:
        OptionError: names the option, what the path leads to ("a JSON file"), and the value.
    """
    if value is not None and not isinstance(value, (str, PathLike)):
        raise OptionError(f"{option} must be the path of {what}, not {value!r:.100}", option=option)
    if value is None:
        return
    try:
        possible = b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise OptionError(f"{option} cannot be {os.fspath(value)!r:.100}: no path holds a NUL or a lone surrogate", option=option)


def check_mapping(option: str, value: object, example: str) -> None:
    """Refuse what is not a mapping; None passes, as the default.

    Raises:
        OptionError: names the option, an example and the value.
    """
    if value is not None and not isinstance(value, Mapping):
        raise OptionError(f"{option} must be a mapping such as {example}, not {value!r:.100}", option=option)


def check_choice(option: str, value: object, known: Collection[str]) -> None:
    """Refuse a value that is not among a few names.

    Raises:
        OptionError: names the option, the value and what there is.
    """
    if value not in known:
        raise OptionError(f"{option} is one of {', '.join(known)}, not {value!r}", option=option)
