"""A split on disk: the section files and ``split.json``, written whole or not at all, read back with suspicion."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.errors import FormatError, OverwriteError
from graphsplit.formats import GraphDefModel, load
from graphsplit.graph import Shape
from graphsplit.parts import Part, Parts, Port, Source
from graphsplit.sections import Added
from graphsplit.version import VERSION

__all__ = ["MANIFEST", "SCHEMA", "file_names", "load_parts", "manifest", "save", "section_json"]

MANIFEST = "split.json"
SCHEMA = 1
_LIMIT = 64 * 2**20  # bytes of a manifest
_NAME = re.compile(r"pre|main|post|part_\d{1,6}")


def file_names(parts: Parts) -> dict[str, str]:
    """Section → name of its file."""
    return {p.name: f"{parts.source.stem}_{p.name}.{p.model.suffix}" for p in parts}


def section_json(part: Part) -> dict[str, Any]:
    """A section as the manifest states it, without its file."""

    def ports(found: tuple[Port, ...]) -> list[dict[str, Any]]:
        return [
            {"tensor": p.tensor, "name": p.name, "dtype": p.dtype, "shape": None if p.shape is None else list(p.shape)}
            for p in found
        ]

    return {
        "name": part.name,
        "format": part.format,
        "device": part.device,
        "inputs": ports(part.inputs),
        "outputs": ports(part.outputs),
    }


def added_json(added: Added) -> dict[str, str]:
    """An added border tensor as the manifest states it."""
    return {"tensor": added.tensor, "section": added.section, "consumer": added.consumer, "reason": added.reason}


def manifest(parts: Parts, sums: dict[str, str], directory: Path) -> dict[str, Any]:
    """The content of ``split.json`` for parts that lie in a directory."""
    names = file_names(parts)
    source = parts.source
    file = None if source.path is None else Path(os.path.relpath(source.path.resolve(), directory.resolve())).as_posix()
    sections = []
    for part in parts:
        entry = section_json(part)
        name = entry.pop("name")
        sections.append({"name": name, "file": names[part.name], "sha256": sums[part.name], **entry})
    return {
        "graphsplit": VERSION,
        "schema": SCHEMA,
        "source": {"file": file, "sha256": source.sha256, "format": source.format},
        "sections": sections,
        "inputs": list(parts.inputs),
        "outputs": list(parts.outputs),
        "added": [added_json(a) for a in parts.added],
        "replicated": list(parts.replicated),
        "rewrites": [dict(r) for r in parts.rewrites],
    }


def check_free(directory: Path, names: list[str], *, overwrite: bool) -> None:
    """Refuse to write over what is there. Raises OverwriteError."""
    if directory.exists() and not directory.is_dir():
        raise OverwriteError(f"{directory} is a file; name a folder", paths=[directory])
    there = [directory / n for n in names if os.path.lexists(directory / n)]
    if there and not overwrite:
        raise OverwriteError(f"{', '.join(map(str, there))} exists already; --overwrite (overwrite=True) replaces it", paths=there)
    for path in there:
        if path.is_dir() and not path.is_symlink():
            raise OverwriteError(f"{path} is a folder; move it away", paths=[path])


def save(parts: Parts, directory: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the section files and the manifest into a folder, which is made if need be.

    Everything is written beside its place first and renamed at the end, the manifest last. When anything fails, what was
    there before is there again.

    Raises OverwriteError when one of the files is there and `overwrite` is not set; other files are never touched.
    """
    target = Path(directory)
    names = file_names(parts)
    check_free(target, [*names.values(), MANIFEST], overwrite=overwrite)
    made = _first_missing(target)
    target.mkdir(parents=True, exist_ok=True)
    work = target / f".graphsplit.{secrets.token_hex(4)}.tmp"
    try:
        work.mkdir()
        sums = _write(parts, names, work)
        text = json.dumps(manifest(parts, sums, target), indent=1, ensure_ascii=False) + "\n"
        (work / MANIFEST).write_text(text, encoding="utf-8")
        _move(work, target, [*names.values(), MANIFEST])
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        for folder in _made(target, made):
            with suppress(OSError):  # somebody else may have put something in
                folder.rmdir()
        raise
    shutil.rmtree(work, ignore_errors=True)
    return target


def _first_missing(path: Path) -> Path | None:
    """The outermost folder that would have to be made for a path."""
    missing = None
    while not path.exists():
        missing, path = path, path.parent
    return missing


def _made(target: Path, first: Path | None) -> list[Path]:
    """The folders that were made for `target`, the innermost first."""
    if first is None:
        return []
    return [target, *(p for p in target.parents if p == first or first in p.parents)] if target != first else [target]


def _write(parts: Parts, names: dict[str, str], work: Path) -> dict[str, str]:
    """Write the section files; checksums come from other threads, since hashing takes as long as writing."""

    def checksum(model: GraphDefModel) -> str:
        total = hashlib.sha256()
        for chunk in model.chunks:
            total.update(chunk)
        return total.hexdigest()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(lambda: parts.source.sha256)  # computed once and kept by the model
        sums = {part.name: pool.submit(checksum, part.model) for part in parts}
        for part in parts:
            with open(work / names[part.name], "xb") as file:
                for chunk in part.model.chunks:
                    file.write(chunk)
        return {name: found.result() for name, found in sums.items()}


def _move(work: Path, target: Path, names: list[str]) -> None:
    """Put the files in place, and everything back when one of them cannot be."""
    moved: list[str] = []
    kept: list[str] = []
    try:
        for name in names:
            if os.path.lexists(target / name):
                os.replace(target / name, work / f"{name}.before")
                kept.append(name)
            os.replace(work / name, target / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            with suppress(OSError):
                os.unlink(target / name)
        for name in kept:
            with suppress(OSError):
                os.replace(work / f"{name}.before", target / name)
        raise


# reading


def load_parts(directory: str | PathLike[str]) -> Parts:
    """Read a split back. A manifest is input like any other: paths stay inside the folder and sums are checked.

    Raises FormatError that names the entry at fault.
    """
    folder = Path(directory)
    path = folder / MANIFEST if folder.is_dir() else folder
    folder = path.parent
    try:
        if path.stat().st_size > _LIMIT:
            raise FormatError(f"too large for a manifest ({path.stat().st_size:,} bytes)", path=path)
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FormatError(f"no {MANIFEST} here; `graphsplit split MODEL -o {folder}` makes one", path=folder) from error
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", path=path) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=path) from error
    return _Reader(path).parts(content)


class _Reader:
    """Checks a manifest entry by entry; every complaint names the entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent

    def fail(self, where: str, what: str) -> FormatError:
        return FormatError(f"{where}: {what}", path=self.path)

    def get(self, entry: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
        if not isinstance(entry, dict) or key not in entry:
            raise self.fail(where, f"no {key!r}")
        if not isinstance(entry[key], kind):
            raise self.fail(f"{where}.{key}".lstrip("."), f"{json.dumps(entry[key])[:60]} is not what belongs here")
        return entry[key]

    def names(self, entry: Any, key: str, where: str) -> tuple[str, ...]:
        found = self.get(entry, key, list, where)
        if not all(isinstance(n, str) for n in found):
            raise self.fail(f"{where}.{key}".lstrip("."), "a list of names is wanted")
        return tuple(found)

    def parts(self, content: Any) -> Parts:
        if self.get(content, "schema", int, "") != SCHEMA:
            raise self.fail("schema", f"{content['schema']} is not known to this version ({VERSION}), which reads {SCHEMA}")
        source = self.get(content, "source", dict, "")
        file = self.get(source, "file", (str, type(None)), "source")
        entries = self.get(content, "sections", list, "")
        if not 1 <= len(entries) <= 1000:
            raise self.fail("sections", f"{len(entries)} of them")
        sections = tuple(self.part(e, f"sections[{i}]") for i, e in enumerate(entries))
        if len({p.name for p in sections}) != len(sections):
            raise self.fail("sections", "two have the same name")
        inputs, outputs = self.names(content, "inputs", ""), self.names(content, "outputs", "")
        self.check_order(sections, inputs, outputs)
        added = tuple(self.added(a, f"added[{i}]") for i, a in enumerate(self.get(content, "added", list, "")))
        path = None if file is None else Path(os.path.normpath(self.folder / file))
        return Parts(
            sections=sections,
            inputs=inputs,
            outputs=outputs,
            source=Source(
                path,
                self.get(source, "format", str, "source"),
                path.stem if path else "model",
                stated=self.get(source, "sha256", str, "source"),
            ),
            added=added,
            replicated=self.names(content, "replicated", ""),
            rewrites=tuple(self.get(content, "rewrites", list, "")),
        )

    def part(self, entry: Any, where: str) -> Part:
        name = self.get(entry, "name", str, where)
        if not _NAME.fullmatch(name):
            raise self.fail(f"{where}.name", f"{name[:60]!r} is no name of a section")
        file = self.get(entry, "file", str, where)
        if file != os.path.basename(file) or file in ("", ".", "..") or "\\" in file or "\0" in file:
            raise self.fail(f"{where}.file", f"{file[:80]!r} is not a plain file name; sections lie beside the manifest")
        path = self.folder / file
        if path.is_symlink() or not path.is_file():
            raise self.fail(f"{where}.file", f"{file!r} is {'a link' if path.is_symlink() else 'not there'}")
        if self.get(entry, "format", str, where) != "graphdef":
            raise self.fail(f"{where}.format", f"{entry['format'][:60]!r} is not read by this version")
        model = load(path, "graphdef")
        if model.sha256 != self.get(entry, "sha256", str, where):
            raise self.fail(f"{where}.sha256", f"{file!r} is not the file that was written (its sum is {model.sha256})")
        return Part(
            name,
            model,
            self.ports(entry, "inputs", where, model),
            self.ports(entry, "outputs", where, model),
            self.get(entry, "device", str, where),
        )

    def ports(self, entry: Any, key: str, where: str, model: GraphDefModel) -> tuple[Port, ...]:
        found = []
        for i, port in enumerate(self.get(entry, key, list, where)):
            here = f"{where}.{key}[{i}]"
            name = self.get(port, "name", str, here)
            if name not in model.index.tensors:
                raise self.fail(f"{here}.name", f"no tensor {name[:80]!r} in {entry['file']!r}")
            shape = self.get(port, "shape", (list, type(None)), here)
            found.append(
                Port(
                    self.get(port, "tensor", str, here),
                    name,
                    self.get(port, "dtype", (str, type(None)), here),
                    None if shape is None else self.shape(shape, here),
                )
            )
        return tuple(found)

    def shape(self, shape: list[Any], where: str) -> Shape:
        if len(shape) > 255 or not all(d is None or (type(d) is int and d >= 0) for d in shape):
            raise self.fail(f"{where}.shape", f"{json.dumps(shape)[:60]} is no shape")
        return tuple(shape)

    def added(self, entry: Any, where: str) -> Added:
        return Added(*(self.get(entry, k, str, where) for k in ("tensor", "section", "consumer", "reason")))

    def check_order(self, sections: tuple[Part, ...], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Every input of a section must be there when the section runs, and every output in the end."""
        there = set(inputs)
        for number, part in enumerate(sections):
            for port in part.inputs:
                if port.tensor not in there:
                    raise self.fail(f"sections[{number}].inputs", f"nothing before it gives {port.tensor[:80]!r}")
            there |= {p.tensor for p in part.outputs}
        for tensor in outputs:
            if tensor not in there:
                raise self.fail("outputs", f"no section gives {tensor[:80]!r}")
