"""The result of a proof: every output over all runs, and where whole and sections part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphsplit.errors import EquivalenceError
from graphsplit.graph.text import count_text, list_text, shortened
from graphsplit.verification.compare import OutputReport

__all__ = ["Report", "worst"]


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Whether the sections compute what the whole computes. True in a condition if they do.

    Attributes:
        equal: Whether every output agrees in every run.
        runs: How many feeds were run.
        outputs: One report for each output of the whole.
        first_divergent_section: The first section whose results differ from those of the whole; None if none differ.
        reason: Why values cannot be compared, if that is known (a graph whose values change from run to run).
        feeds: What was fed in each run: names, dtypes and shapes.
        chosen: What the file does not state and the proof ran on: tensor → a small value, or {"shape": […]}.
        drawn: Random tensors that were drawn once and fed alike to whole and sections.
        ties: Runs in which detections of equal scores came in another order, which only rewrites may do.
    """

    equal: bool
    runs: int
    outputs: tuple[OutputReport, ...]
    first_divergent_section: str | None = None
    reason: str = ""
    feeds: tuple[str, ...] = ()
    ties: int = 0
    chosen: Mapping[str, object] = field(default_factory=dict)
    drawn: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Report({shortened(self.summary(), 300)})"

    def __bool__(self) -> bool:
        return self.equal

    @property
    def max_abs_error(self) -> float | None:
        """The largest difference of any output; None if one of them has no such number."""
        errors = [o.max_abs_error for o in self.outputs]
        return None if None in errors else max((e for e in errors if e is not None), default=0.0)

    def check(self) -> None:
        """Raise EquivalenceError if whole and sections differ."""
        if not self.equal:
            raise EquivalenceError(self.summary(), report=self)

    @property
    def _drawn(self) -> str:
        return f", random values ({list_text(self.drawn, most=3)}) fed alike" if self.drawn else ""

    def summary(self) -> str:
        """One line: equal, or which tensor differs by how much, and from which section on."""
        if self.equal:
            exact = all(o.max_abs_error in (0.0, None) for o in self.outputs)
            ties = f", detections of equal scores in another order in {self.ties}" if self.ties else ""
            how = "bit for bit" if exact else "within tolerance"
            return f"{count_text(len(self.outputs), 'output')} equal {how} in {count_text(self.runs, 'run')}{ties}{self._drawn}"
        if self.reason:
            return self.reason
        wrong = [o for o in self.outputs if not o.equal]
        worst = max(wrong, key=lambda o: float("inf") if o.max_abs_error is None else o.max_abs_error)
        what = worst.note or f"differs by up to {worst.max_abs_error:g}"
        where = f", from section {self.first_divergent_section!r} on" if self.first_divergent_section else ""
        return f"{len(wrong)} of {len(self.outputs)} outputs differ; {worst.tensor} {what}{where}"


def worst(reports: Sequence[OutputReport]) -> OutputReport:
    """Of the reports of several runs the most telling: a difference before none, the largest before smaller ones."""
    return max(reports, key=lambda r: (not r.equal, r.max_abs_error is None, r.max_abs_error or 0.0))
