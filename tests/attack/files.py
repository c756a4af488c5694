"""Mutated files of each format, through everything that reads, plans, cuts and writes; every EVERY-th through native code too."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import graphsplit as gs
from graphsplit.cli import run as run_cli
from graphsplit.formats import Model
from tests.attack.mutations import mutated_bytes, mutated_flatbuffer, mutated_json, mutated_message, mutated_text

__all__ = ["EVERY", "start"]

EVERY = 40
_PLAIN = 0.12  # share of mutants of which only bytes are changed


def start(kind: str) -> Callable[[Path, Path], Callable[[int], str]]:
    """What tries a seed on files of a kind, a folder of the samples."""

    def begin(samples: Path, place: Path) -> Callable[[int], str]:
        originals = sorted(p for p in (samples / kind).iterdir())
        if kind in ("saved_model", "keras"):
            import keras  # noqa: F401  # its import writes into the home folder

        def case(seed: int) -> str:
            rng = random.Random(seed)
            original = rng.choice(originals)
            path = place / "in" / original.name
            _MUTANTS[kind](rng, original, path)
            return (_walk_split if kind == "split" else _walk)(path, rng, place / "out", seed % EVERY == 0)

        return case

    return begin


# mutants


def _graphdef(rng: random.Random, original: Path, path: Path) -> None:
    change = mutated_bytes if rng.random() < _PLAIN else mutated_message
    path.write_bytes(change(rng, original.read_bytes()))


def _pbtxt(rng: random.Random, original: Path, path: Path) -> None:
    text = original.read_text()
    changed = mutated_text(rng, text).encode(errors="surrogatepass")
    path.write_bytes(mutated_bytes(rng, changed) if rng.random() < _PLAIN else changed)


def _tflite(rng: random.Random, original: Path, path: Path) -> None:
    from tests.formats.tflite.test_mutated import mutated as mutated_slots

    content = original.read_bytes()
    whole = "behind" not in original.name  # the schema's own code loses what lies after the flatbuffer
    change = rng.choice([mutated_flatbuffer, mutated_flatbuffer, mutated_slots] if whole else [mutated_slots])
    path.write_bytes(change(rng, content))


def _saved_model(rng: random.Random, original: Path, path: Path) -> None:
    shutil.copytree(original, path)
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.stat().st_size)
    file = path / "saved_model.pb" if rng.random() < 0.6 else rng.choice(found)
    if rng.random() < 0.05:
        file.unlink()
        return
    change = mutated_message if file.suffix == ".pb" and rng.random() > _PLAIN else mutated_bytes
    file.write_bytes(change(rng, file.read_bytes()))


def _keras(rng: random.Random, original: Path, path: Path) -> None:
    if original.suffix != ".keras" or rng.random() < _PLAIN:
        path.write_bytes(mutated_bytes(rng, original.read_bytes()))
        return
    with zipfile.ZipFile(original) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(["config.json", "config.json", "config.json", *members])
    members[name] = mutated_json(rng, members[name].decode()) if name.endswith(".json") else mutated_bytes(rng, members[name])
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def _split(rng: random.Random, original: Path, path: Path) -> None:
    shutil.copytree(original, path)
    if rng.random() < 0.8:
        manifest = path / "split.json"
        manifest.write_bytes(mutated_json(rng, manifest.read_text()))
    else:
        file = rng.choice(sorted(path.glob("*.pb")))
        file.write_bytes(mutated_message(rng, file.read_bytes()))
        if rng.random() < 0.8:  # with a sum that fits
            text = (path / "split.json").read_text()
            sums = {s["file"]: s["sha256"] for s in json.loads(text)["sections"]}
            import hashlib

            (path / "split.json").write_text(text.replace(sums[file.name], hashlib.sha256(file.read_bytes()).hexdigest()))


_MUTANTS = {
    "graphdef": _graphdef, "pbtxt": _pbtxt, "tflite": _tflite, "saved_model": _saved_model, "keras": _keras, "split": _split,
}  # fmt: skip


# what is done with them


def _walk(path: Path, rng: random.Random, out: Path, native: bool) -> str:
    """Load, look at everything, suggest, plan, cut somewhere, save, read again; with native code also infer and prove."""
    if rng.random() < 0.25:
        command_answers("show", path)
    whole = gs.load(path)
    _look(whole)
    gs.suggest(whole, shapes=native)
    targets = [t for n in whole.index.nodes if n.kind == "op" for t in n.outputs]
    repair = rng.choice(["auto", "auto", "replicate", "border"])
    plan = gs.plan(whole, outputs=rng.choice(targets) if targets else "y", repair=repair)
    parts = gs.split(whole, plan, shapes=native)
    again = gs.load_parts(gs.save(parts, out / "split"))
    for part in again:
        _look(part.model)
        assert {p.name for p in (*part.inputs, *part.outputs)} <= set(part.model.index.tensors), part.name
    if native:
        report = gs.verify(whole, again)
        assert report.equal, report.summary()
    return "fine"


def _walk_split(path: Path, rng: random.Random, out: Path, native: bool) -> str:
    parts = gs.load_parts(path)
    for part in parts:
        _look(part.model)
        assert part.model.path is None or part.model.path.resolve().parent == path.resolve(), part.model.path
    gs.save(parts, out / "again")
    if native:
        gs.verify(path.parent / "none.pb" if not parts else parts[next(iter(parts)).name].model, parts)
    return "fine"


def _look(whole: Model) -> None:
    index = whole.index
    assert isinstance(whole.reaches_outside, tuple)
    for node in index.nodes[:300]:
        whole.attributes(node.name)
        whole.constant(node.name)
        whole.device(node.name)
        for tensor in node.outputs[:20]:
            whole.quantisation(tensor)
    for spec in (*whole.inputs, *whole.outputs):
        assert index.tensors[spec.name] == spec


def command_answers(*words: object) -> dict[str, object] | None:
    """What a command prints with --json: one object and status 0, or one line of stderr and status 1."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        status = run_cli([*map(str, words), "--json"])
    if status == 0:
        answer = json.loads(out.getvalue())
        assert isinstance(answer, dict)
        return answer
    assert status == 1, status
    assert not out.getvalue()
    lines = errors.getvalue().splitlines()
    assert len(lines) == 1, lines
    return None
