"""Campaigns against the package, in short; the long ones are marked slow, and GRAPHSPLIT_ATTACK=50 makes them fifty times as long.

`python -m tests.attack` runs them outside of pytest.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("resource")  # limits and peaks of memory

from tests.attack.campaigns import CAMPAIGNS, scaled
from tests.attack.harness import build_samples, run

SHORT = [name for name, campaign in CAMPAIGNS.items() if campaign.short]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_samples(tmp_path_factory.mktemp("attack") / "samples")


def check(name: str, count: int, first: int, samples: Path, place: Path) -> None:
    campaign = CAMPAIGNS[name]
    outcome = run(name, count, first=first, samples=samples, place=place, seconds=campaign.seconds)
    print(outcome)
    assert not outcome.falls, "\n".join(f"{f.campaign} --first {f.seed}: {f.fault}" for f in outcome.falls[:10])
    assert outcome.tried == count
    assert outcome.ends["fine"] >= campaign.fine * count, outcome


@pytest.mark.parametrize("name", SHORT)
def test_nothing_falls(name: str, samples: Path, tmp_path: Path) -> None:
    check(name, CAMPAIGNS[name].short, 1, samples, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_nothing_falls_in_many_cases(name: str, samples: Path, tmp_path: Path) -> None:
    check(name, scaled(CAMPAIGNS[name].long), 10_000, samples, tmp_path)


# Whether a campaign would notice


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ("die", "died with status -6"),
        ("hang", "no end after 3 seconds"),
        ("print", r"printed b'seen"),
        ("write", r"outside: \['cwd/x'\]"),
        ("eat", r"MemoryError|needed [\d.]+ GiB of memory"),
        ("raise", r"ZeroDivisionError"),
    ],
)
def test_a_planted_fall_is_noticed_and_the_next_case_is_tried(planted: str, says: str, samples: Path, tmp_path: Path) -> None:
    outcome = run(f"planted {planted}", 3, samples=samples, place=tmp_path, seconds=lambda seed: 3.0 if planted == "hang" else 60.0)
    (fall,) = outcome.falls
    assert fall.seed == 1
    assert re.search(says, fall.fault), fall.fault
    assert outcome.tried == 3
    assert outcome.ends == {"fine": 2}
