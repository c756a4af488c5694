"""Whether splitting pays, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

__all__ = ["Verdict", "judge"]

Verdict = Literal["split", "do not split"]

_WORTH_IT = 1.05  # pipelined against whole, from which on splitting is advised; a smaller gain may be noise


def judge(ratio: float, sections: Mapping[str, float], devices: Mapping[str, str]) -> tuple[Verdict, str]:
    """A verdict and the reason for it, one sentence.

    Args:
        ratio: Frames per second of the pipeline against those of the whole.
        sections: Section → milliseconds alone.
        devices: Section → where it ran.
    """
    verdict: Verdict = "split" if ratio >= _WORTH_IT and len(sections) > 1 else "do not split"
    return verdict, _reason(verdict, ratio, sections, devices)


def _reason(verdict: Verdict, ratio: float, sections: Mapping[str, float], devices: Mapping[str, str]) -> str:
    if len(sections) == 1:
        return "there is only one section, so there is nothing to overlap"
    pace = f"the pipeline runs at {ratio:.2f} times the frame rate of the whole"
    slowest = max(sections, key=lambda name: sections[name])
    share = sections[slowest] / sum(sections.values())
    if verdict == "split":
        return f"{pace}; its pace is that of {slowest} ({sections[slowest]:.1f} ms a frame)"
    if all("cpu" in d.lower() for d in devices.values()):
        cores = os.cpu_count() or 1
        used = "both cores" if cores == 2 else f"all {cores} cores" if cores > 1 else "the one core"
        return f"{pace}: all sections share one processor here, and the whole already uses {used}"
    if share > 0.9:
        return f"{pace}: {slowest} takes {share:.0%} of the time, so there is little to overlap"
    return f"{pace}: what crosses the border costs as much as the overlap gains"
