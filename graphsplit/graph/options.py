"""Keyword arguments that many functions share: checked by name, so that a misspelt one is an error that helps."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping

from graphsplit.errors import OptionError

__all__ = ["check_choice", "check_count", "check_options"]


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
            known = [*options.__annotations__, *_arguments(function)]
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"
            raise OptionError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}", option=name)


def _arguments(function: Callable[..., object]) -> list[str]:
    """Names of the arguments that a function states one by one."""
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        return [p.name for p in inspect.signature(function).parameters.values() if p.kind in named]
    except ValueError:  # a TypedDict has no signature
        return []


def check_count(option: str, value: object) -> None:
    """Refuse what is not a whole number from 1; None passes, as the default.

    Raises:
        OptionError: names the option and the value.
    """
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionError(f"{option} must be a whole number, not {value!r}", option=option)
    if value < 1:
        raise OptionError(f"{option} must be at least 1, not {value}", option=option)


def check_choice(option: str, value: object, known: Collection[str]) -> None:
    """Refuse a value that is not among a few names.

    Raises:
        OptionError: names the option, the value and what there is.
    """
    if value not in known:
        raise OptionError(f"{option} is one of {', '.join(known)}, not {value!r}", option=option)
