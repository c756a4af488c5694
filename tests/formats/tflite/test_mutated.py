"""Files with bytes changed: refused, or read and cut; then, apart from this process, what LiteRT makes of what was let through."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from graphsplit.errors import CutError, GraphSplitError
from graphsplit.formats import load
from graphsplit.splitting.suggestions import suggest
from graphsplit.splitting.surgery import plan, split

pytest.importorskip("ai_edge_litert")
from tests.formats.tflite.builder import everything, looped, slots_of, sparse

SECONDS = 5.0  # for one file; a hang is longer
CRASHED = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"}


def seeds() -> list[bytes]:
    return [everything().bytes(), everything().bytes(behind=True), looped(nested=True).bytes(), sparse().bytes()]


def mutated(rng: random.Random, content: bytes) -> bytes:
    """A file with bits turned, numbers put where offsets, lengths and tensors are, or an end cut off."""
    found = bytearray(content)
    places = list(slots_of(content))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(found) - 4)
        match rng.randrange(8):
            case 0 | 1:
                found[at] ^= 1 << rng.randrange(8)
            case 2:
                found[at] = rng.choice([0, 1, 2, 4, 127, 128, 255])
            case 3 | 4:
                value = rng.choice([0, 1, 4, len(found), 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(len(found))])
                struct.pack_into("<I", found, min(rng.choice(places), len(found) - 4), value)
            case 5:
                one, other = (min(rng.choice(places), len(found) - 4) for _ in range(2))
                found[one : one + 4], found[other : other + 4] = found[other : other + 4], found[one : one + 4]
            case 6:
                struct.pack_into("<I", found, at // 4 * 4, rng.choice([0, 1, 2, 3, 5, 8, 13, 64, 2**31, 2**32 - 1]))
            case _:
                if rng.random() < 0.3:
                    del found[rng.randrange(64, len(found)) :]
    return bytes(found)


def asked(path: Path, rng: random.Random) -> list[bytes]:
    """Load, index, look at everything, suggest, plan and cut somewhere; the sections, which are read again."""
    whole = load(path)
    index = whole.index
    whole.check_frozen()
    assert isinstance(whole.reaches_outside, tuple)
    for node in index.nodes:
        whole.attributes(node.name)
        whole.constant(node.name)
    for spec in (*whole.inputs, *whole.outputs):
        assert index.tensors[spec.name] == spec
    suggest(whole)
    targets = [t for n in index.nodes if n.kind == "op" for t in n.outputs]
    parts = split(whole, plan(whole, outputs=rng.choice(targets or ["y"])))
    for part in parts:
        again = type(whole)(part.model.serialized())
        assert {p.name for p in (*part.inputs, *part.outputs)} <= set(again.index.producer)
    return [part.model.serialized() for part in parts]


def survivors(folder: Path, count: int) -> tuple[Counter[str], list[Path]]:
    """What became of mutated files, and those that were let through, with their sections."""
    originals = seeds()
    outcomes: Counter[str] = Counter()
    through = []
    path = folder / "m.tflite"
    for seed in range(count):
        rng = random.Random(seed)
        content = mutated(rng, rng.choice(originals))
        path.write_bytes(content)
        began = time.process_time()
        try:
            sections = asked(path, rng)
            outcomes["fine"] += 1
            for number, data in enumerate([content, *sections]):
                kept = folder / f"{seed}_{number}.tflite"
                kept.write_bytes(data)
                through.append(kept)
        except GraphSplitError as error:
            outcomes[type(error).__name__] += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
        assert time.process_time() - began < SECONDS, f"seed {seed}"
    path.unlink()
    return outcomes, through


def in_litert(paths: list[Path]) -> dict[Path, str]:
    """What LiteRT makes of files, each in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("native.py"))]
    done = subprocess.run(command, input="\n".join(map(str, paths)), check=True, capture_output=True, text=True)
    return dict(zip(paths, done.stdout.split(), strict=True))


def check(folder: Path, count: int) -> None:
    outcomes, through = survivors(folder, count)
    assert set(outcomes) <= {"fine", "FormatError", "CutError", "TensorNotFoundError"}
    assert outcomes["FormatError"] > count / 5
    assert outcomes["fine"] > count / 10
    found = in_litert(through)
    told = Counter(found.values())
    print(dict(outcomes), dict(told), [p.name for p, what in found.items() if what in CRASHED])
    assert told["fine"] > count / 10
    # Native code may trip over what a legal file says (sizes that no kernel expects); most of what is let through it survives.
    assert sum(told[name] for name in CRASHED) <= max(1, count // 100)


def test_the_files_to_change_are_whole(tmp_path):
    for number, content in enumerate(seeds()):
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(content)
        for seed in range(5):
            with suppress(CutError):
                asked(path, random.Random(seed))
    assert set(in_litert(sorted(tmp_path.iterdir())).values()) == {"fine"}


def test_three_hundred_mutated_files_are_refused_or_cut(tmp_path):
    check(tmp_path, 300)


@pytest.mark.slow
def test_two_thousand_mutated_files_are_refused_or_cut(tmp_path):
    check(tmp_path, 2000)
