"""What a compiler, or the table in its place, says of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from graphsplit.graph.text import count_text, list_text

__all__ = ["Answer", "Refused", "RefusedGroup", "Round", "grouped", "joined"]

_BRACKETS = re.compile(r"\([^()]*\)")


@dataclass(frozen=True, slots=True)
class Refused:
    """An op that stays on the host.

    Attributes:
        op: Its type, as the compiler names it.
        tensor: What it produces, as the compiler names it; empty if it names none.
        reason: Why, in the compiler's own words.
    """

    op: str
    tensor: str
    reason: str

    def json(self) -> dict[str, str]:
        """As manifests and ``--json`` state it."""
        return {"op": self.op, "tensor": self.tensor, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class RefusedGroup:
    """Refused ops of one type and one reason, for a table.

    Attributes:
        op: The type.
        tensors: What they produce; as many as there are ops.
        reason: Why; what is in brackets is left out where it differs.
    """

    op: str
    tensors: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Round:
    """One question to a compiler while a cut is fitted.

    Attributes:
        taken: Ops taken of the accelerator's sections.
        asked: Ops of these sections.
        tied: What was tied to the host because of it.
    """

    taken: int
    asked: int
    tied: tuple[Refused, ...]

    def json(self) -> dict[str, object]:
        """As manifests and ``--json`` state it."""
        return {"taken": self.taken, "asked": self.asked, "tied": [r.json() for r in self.tied]}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is taken of a model or of the accelerator's sections. True if everything is.

    Attributes:
        target: Name of the target.
        compiler: The compiler that was asked; None: the answer is from the table.
        version: Its version; None if it is unknown.
        taken: Ops taken, as the compiler counts them.
        asked: Ops asked about.
        refused: The ops that stay on the host; of a fitted cut, all that were tied to the host.
        reason: What else there is to say: a crash, a model of the wrong dtype, why a search stopped; empty if nothing.
        sections: Names of the sections that were asked about; empty: a model that is not split.
        rounds: Of a fitted cut, each question.
    """

    target: str
    compiler: str | None
    version: str | None
    taken: int
    asked: int
    refused: tuple[Refused, ...] = ()
    reason: str = ""
    sections: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = ()

    def __bool__(self) -> bool:
        return self.whole

    @property
    def whole(self) -> bool:
        """Whether everything that was asked about is taken."""
        return self.taken == self.asked

    @property
    def who(self) -> str:
        """Who answered: ``vela 5.2.0``, or ``the table of ethos-u55``."""
        return f"the table of {self.target}" if self.compiler is None else " ".join(filter(None, (self.compiler, self.version)))

    def summary(self) -> str:
        """``vela 5.2.0 takes 60 of 61 ops of main``."""
        of = f" of {list_text(self.sections)}" if self.sections else ""
        return f"{self.who} takes {self.taken} of {count_text(self.asked, 'op')}{of}"

    def json(self) -> dict[str, object]:
        """As manifests and ``--json`` state it."""
        stated: dict[str, object] = {
            "target": self.target,
            "compiler": self.compiler,
            "version": self.version,
            "taken": self.taken,
            "asked": self.asked,
            "refused": [r.json() for r in self.refused],
            "reason": self.reason,
            "sections": list(self.sections),
        }
        return stated | ({"rounds": [r.json() for r in self.rounds]} if self.rounds else {})


def grouped(refused: Iterable[Refused]) -> tuple[RefusedGroup, ...]:
    """Refused ops by type and reason; reasons that differ in what is in brackets, such as names, are one."""
    groups: dict[tuple[str, str], list[Refused]] = {}
    for entry in refused:
        groups.setdefault((entry.op, _BRACKETS.sub("(…)", entry.reason)), []).append(entry)
    return tuple(
        RefusedGroup(op, tuple(e.tensor for e in entries), reason if len({e.reason for e in entries}) > 1 else entries[0].reason)
        for (op, reason), entries in groups.items()
    )


def joined(answers: Iterable[Answer]) -> Answer:
    """The answers about several sections as one. There has to be one at least."""
    first, *others = answers
    reasons = dict.fromkeys(a.reason for a in (first, *others) if a.reason)
    return Answer(
        target=first.target,
        compiler=next((a.compiler for a in (first, *others) if a.compiler), None),
        version=next((a.version for a in (first, *others) if a.version), None),
        taken=sum(a.taken for a in (first, *others)),
        asked=sum(a.asked for a in (first, *others)),
        refused=tuple(r for a in (first, *others) for r in a.refused),
        reason="; ".join(reasons),
        sections=tuple(s for a in (first, *others) for s in a.sections),
    )
