"""Hostile JSON and label files for every reader of them, and what is done with what was read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import graphsplit as gs
from graphsplit.batching.archive import Archive
from graphsplit.batching.events import End, Row
from graphsplit.batching.inventory import Item
from graphsplit.detection.labels import read_labels
from graphsplit.formats import Model
from graphsplit.inference.cluster import read_cluster
from tests.attack.mutations import mutated_bytes, mutated_json, mutated_text

__all__ = ["start"]


def start(samples: Path, place: Path) -> Callable[[int], str]:
    """What tries a seed."""
    model = gs.load(samples / "graphdef" / "small.pb")
    documents = sorted((samples / "json").iterdir()) + sorted((samples / "labels").iterdir())

    def case(seed: int) -> str:
        rng = random.Random(seed)
        original = rng.choice([*documents, None])
        if original is None:
            return _journal(rng, place)
        path = place / "in" / original.name
        if original.suffix == ".json":
            path.write_bytes(mutated_json(rng, original.read_text()))
        else:
            text = mutated_text(rng, original.read_text()).encode(errors="surrogatepass")
            path.write_bytes(mutated_bytes(rng, text) if rng.random() < 0.3 else text)
        _READERS[original.stem](path, model)
        return "fine"

    return case


def _affinity(path: Path, model: Model) -> None:
    gs.suggest(model, affinity=path, shapes=False)


def _crop(path: Path, model: Model) -> None:
    gs.split(model, crop_file=path, shapes=False)


def _preset(path: Path, model: Model) -> None:
    from graphsplit.planning.presets.preset import read_presets

    for preset in read_presets(path):
        preset.name.encode()
    gs.plan(model, preset=str(path))


def _labels(path: Path, model: Model) -> None:
    for number, name in read_labels(path).items():
        assert (type(number), type(name)) == (int, str)


def _cluster(path: Path, model: Model) -> None:
    for job in read_cluster(path).jobs.values():
        assert job


_READERS: dict[str, Callable[[Path, Model], None]] = {
    "affinity": _affinity, "crop": _crop, "crops": _crop, "preset": _preset, "cluster": _cluster,
    "map": _labels, "numbers": _labels, "names": _labels,
}  # fmt: skip


def _journal(rng: random.Random, place: Path) -> str:
    """A batch that is continued from a journal of somebody else."""
    out = place / "out" / "batch"
    items = [Item(name, name) for name in "abcd"]
    with suppress(InterruptedError), Archive(out, {"model": "m"}, sources_per_part=1) as archive:
        for number, _ in enumerate(
            archive.write(items, [e for i in range(4) for e in (Row(i, 0, {"boxes": [], "scores": [], "classes": []}), End(i, 1))])
        ):
            if number > 4:
                raise InterruptedError
    journal = next(out.glob("*.journal"))
    lines = journal.read_text().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    if rng.random() < 0.2:
        lines[at : at + 1] = lines[at : at + 1] * 2
    else:
        json.loads(lines[at])
        lines[at] = mutated_json(rng, lines[at]).decode("latin-1") + "\n"
    journal.write_bytes("".join(lines).encode("latin-1"))
    with Archive(out, {"model": "m"}, sources_per_part=1, resume=True) as archive:
        left = [i for i in items if i.name not in archive.finished]
        for _ in archive.write(
            left, [e for i in range(len(left)) for e in (Row(i, 0, {"boxes": [], "scores": [], "classes": []}), End(i, 1))]
        ):
            pass
        archive.finish()
    return "fine"
