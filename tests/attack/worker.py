"""The worker of a campaign: a seed a line on stdin, an answer a line on what was stdout.

PLACE holds `in` and `out`, emptied before each case, and `cwd`, `home` and `tmp`, in which nothing may appear. What the
case prints is kept from stdout and counts as a fall, and so does memory of more than 2 GiB above what was there before.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from tests.attack import planted
from tests.attack.campaigns import CAMPAIGNS, Case

__all__ = ["main"]

_MEMORY = 2 * 2**30
_OF_LIBRARIES = ("home/.cache", "home/.config", "home/.keras", "tmp/__autograph_generated_file")


def main() -> None:
    """The command line."""
    name, samples, place = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    printed = os.open(place / "stdout", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), numbers := os.dup(0))
    seeds = os.fdopen(os.dup(0), "r")
    os.dup2(numbers, 0)
    for folder in ("in", "out", "cwd"):
        (place / folder).mkdir()
    os.chdir(place / "cwd")
    fall = planted.PLANTED.get(name.removeprefix("planted "))
    case = (CAMPAIGNS[name].start if fall is None else planted.start(fall))(samples, place)
    before = _around(place)
    held = _status("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (held + _MEMORY + 2**30, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    answers.write(json.dumps({"end": "started", "fault": None}) + "\n")
    for line in seeds:
        for folder in ("in", "out"):
            shutil.rmtree(place / folder, ignore_errors=True)
            (place / folder).mkdir()
        os.ftruncate(printed, 0)
        end, fault = _tried(case, int(line))
        sys.stdout.flush()
        if fault is None and os.fstat(printed).st_size:
            fault = f"printed {os.pread(printed, 200, 0)!r}"
        if fault is None and (now := _around(place)) != before:
            fault, before = f"outside: {sorted(now - before)[:5]}", now
        answers.write(json.dumps({"end": end, "fault": fault}) + "\n")


def _tried(case: Case, seed: int) -> tuple[str, str | None]:
    from graphsplit.errors import GraphSplitError

    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    began = _status("VmRSS")
    try:
        end = case(seed)
    except GraphSplitError as error:
        end = type(error).__name__
    except BaseException as error:
        lines = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-6:]]
        return "fallen", f"{type(error).__name__}: {str(error)[:300]} ({' '.join(lines)})"
    if (grown := _status("VmHWM") - began) > _MEMORY:
        return end, f"needed {grown / 2**30:.1f} GiB of memory"
    return end, None


def _status(key: str) -> int:
    """Bytes of one kind of memory of this process; 0 where the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0


def _around(place: Path) -> set[str]:
    """Files where none may appear; caches of libraries in the home folder are theirs."""
    found = (p.relative_to(place).as_posix() for folder in ("cwd", "home", "tmp") for p in (place / folder).rglob("*"))
    return {name for name in found if not name.startswith(_OF_LIBRARIES)}


if __name__ == "__main__":
    main()
