"""Colours of sections in pictures and in the browser: pre and post share one tint, main has another."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REFUSED", "Tint", "legend", "tint"]


@dataclass(frozen=True, slots=True)
class Tint:
    """Colours of a section, as CSS.

    Attributes:
        back: Background.
        frame: Border line.
        ink: Text.
    """

    back: str
    frame: str
    ink: str


#: A node that a target refuses.
REFUSED = Tint("#fbd5d5", "#a3262c", "#6b1519")
_MAIN = Tint("#e3eefb", "#3b6fb6", "#1d3f6e")
_HOST = Tint("#fdeedd", "#d07f2e", "#7a4511")
_MORE = (
    _MAIN,
    _HOST,
    Tint("#e4f3ea", "#4a9d6f", "#215238"),
    Tint("#efe8f6", "#8a63b5", "#4b2f6b"),
    Tint("#f8e7e9", "#b5525c", "#6b252d"),
)


def tint(section: str) -> Tint:
    """The tint of a section by its name; the sections of an N-way split alternate between several."""
    if section.startswith("part_") and section[5:].isdigit():
        return _MORE[int(section[5:]) % len(_MORE)]
    return _MAIN if section == "main" else _HOST


def legend(sections: list[str]) -> list[tuple[str, Tint]]:
    """Names and tints for a legend; pre and post share an entry."""
    hosts = [s for s in sections if s in ("pre", "post")]
    entries: dict[str, Tint] = {}
    for name in sections:
        entries[", ".join(hosts) if name in hosts else name] = tint(name)
    return list(entries.items())
