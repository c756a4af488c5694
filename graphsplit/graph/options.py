"""Keyword arguments that many functions share: checked by name, so that a misspelt one is an error that helps."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from graphsplit.errors import OptionError

__all__ = ["check_choice", "check_options"]


def check_options(function: str, passed: Mapping[str, object], known: Collection[str]) -> None:
    """Refuse keyword arguments that a function does not have.

    Args:
        function: Name of the function or class that was called, as the caller wrote it.
        passed: The keyword arguments.
        known: The names it takes.

    Raises:
        OptionError: names the function, the argument and the nearest one there is.
    """
    for name in passed:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(sorted(known))}"
            raise OptionError(f"{function}() got an unexpected keyword argument {name!r}{hint}", option=name)


def check_choice(option: str, value: object, known: Collection[str]) -> None:
    """Refuse a value that is not among a few names.

    Raises:
        OptionError: names the option, the value and what there is.
    """
    if value not in known:
        raise OptionError(f"{option} is one of {', '.join(known)}, not {value!r}", option=option)
