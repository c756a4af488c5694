"""A split on disk: the section files and ``split.json``, written whole or not at all, read back with suspicion."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats import Model, load
from graphsplit.formats.atomic import check_folder, check_free
from graphsplit.graph.index import Shape
from graphsplit.graph.json_input import read_json
from graphsplit.parts.parts import Part, Parts, Port, Source
from graphsplit.planning.plan import Added
from graphsplit.version import VERSION

__all__ = ["MANIFEST", "SCHEMA", "check_save", "file_names", "find_manifest", "load_parts", "manifest", "save", "section_json"]

MANIFEST = "split.json"
SCHEMA = 1
_LIMIT = 16 * 2**20  # bytes of a manifest
_SECTION_FORMATS = ("graphdef", "tflite")
_NAME = re.compile(r"pre|main|post|part_[0-9]{1,6}")
_KINDS: dict[type, str] = {str: "text", int: "a whole number", list: "a list", dict: "an object", type(None): "null"}


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
    sections = []
    for part in parts:
        entry = section_json(part)
        name = entry.pop("name")
        sections.append({"name": name, "file": names[part.name], "sha256": sums[part.name], **entry})
    return {
        "graphsplit": VERSION,
        "schema": SCHEMA,
        "source": {"file": _relative(source.path, directory), "sha256": source.sha256, "format": source.format},
        "sections": sections,
        "inputs": list(parts.inputs),
        "outputs": list(parts.outputs),
        "added": [added_json(a) for a in parts.added],
        "replicated": list(parts.replicated),
        "rewrites": [dict(r) for r in parts.rewrites],
    }


def _relative(path: Path | None, directory: Path) -> str | None:
    if path is None:
        return None
    try:
        return Path(os.path.relpath(path.resolve(), directory.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def check_save(parts: Parts, directory: str | PathLike[str], *, overwrite: bool = False, then: str | None = None) -> None:
    """Refuse to save parts over what is there.

    Args:
        parts: What is to be saved.
        directory: The folder to save it into.
        overwrite: Whether files of the same names may be replaced.
        then: What to do about files that exist, for the message; by default, to set `overwrite`.

    Raises:
        OverwriteError: A file is there already, or there cannot be such a folder.
    """
    folder = Path(directory)
    check_folder(folder)
    check_free([folder / name for name in (*file_names(parts).values(), MANIFEST)], overwrite=overwrite, then=then)


def save(parts: Parts, directory: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the section files and the manifest into a folder, which is made if need be.

    Everything is written beside its place first and renamed at the end, the manifest last. When anything fails, what was
    there before is there again.

    Raises OverwriteError when one of the files is there and `overwrite` is not set; other files are never touched.
    Raises FormatError when a file cannot be written.
    """
    target = Path(directory)
    try:
        check_save(parts, target, overwrite=overwrite)
        _save(parts, target)
    except OSError as error:
        if isinstance(error, GraphSplitError):  # an OverwriteError is a FileExistsError
            raise
        raise FormatError(f"cannot be written: {error.strerror or error}", path=error.filename or target) from error
    return target


def _save(parts: Parts, target: Path) -> None:
    names = file_names(parts)
    made = _first_missing(target)
    work = target / f".graphsplit.{secrets.token_hex(4)}.tmp"
    try:
        target.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        sums = _write(parts, names, work)
        text = json.dumps(manifest(parts, sums, target), indent=1, ensure_ascii=False) + "\n"
        # A path that is not UTF-8 holds lone surrogates; a backslash before them is JSON's own way to write them.
        (work / MANIFEST).write_bytes(text.encode("utf-8", "backslashreplace"))
        with _locked(target):
            _move(work, target, [*names.values(), MANIFEST])
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        for folder in _made(target, made):
            with suppress(OSError):  # somebody else may have put something in
                folder.rmdir()
        raise
    shutil.rmtree(work, ignore_errors=True)


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

    def checksum(model: Model) -> str:
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time, so that the files of two splits into one folder do not mix. No lock where the system has none."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _move(work: Path, target: Path, names: list[str]) -> None:
    """Put the files in place, and everything back when one of them cannot be.

    What has been done is read off the folders, so that it does not matter between which two steps the failure came.
    """
    before = {name for name in names if os.path.lexists(target / name)}
    try:
        for name in names:
            if name in before:
                os.replace(target / name, work / f"{name}.before")
            os.replace(work / name, target / name)
    except BaseException:
        for name in names:
            with suppress(OSError):
                if os.path.lexists(work / f"{name}.before"):
                    os.replace(work / f"{name}.before", target / name)
                elif name not in before and not os.path.lexists(work / name):
                    os.unlink(target / name)
        raise


# reading


def find_manifest(path: str | PathLike[str]) -> Path | None:
    """The manifest of a split, given its folder or the manifest itself; None: the path leads to something else."""
    where = Path(path)
    manifest = where if where.name == MANIFEST else where / MANIFEST
    try:
        return manifest if manifest.is_file() else None
    except OSError:  # a name that no file can have
        return None


def load_parts(directory: str | PathLike[str]) -> Parts:
    """Read a split back. A manifest is input like any other: paths stay inside the folder and sums are checked.

    directory  the folder, or the manifest in it

    Raises FormatError that names the entry at fault.
    """
    folder = Path(directory)
    try:
        path = folder / MANIFEST if folder.is_dir() else folder
        there, plain = path.exists(), path.is_file()
    except OSError as error:  # a name that no file can have
        raise FormatError(f"cannot be read: {error.strerror or error}", path=folder) from error
    if not there:
        raise FormatError(f"no {MANIFEST} here; `graphsplit split MODEL -o {folder}` makes one", path=folder)
    if not plain:
        raise FormatError("neither a file nor a folder (a pipe or a device is never opened)", path=path)
    content = read_json(path, what="a manifest", limit=_LIMIT)
    return _Reader(path).parts(content)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "something deeply nested"
    return text if len(text) <= 60 else f"{text[:60]}…"


class _Reader:
    """Checks a manifest entry by entry; every complaint names the entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent

    def fail(self, where: str, what: str) -> FormatError:
        return FormatError(f"{where}: {what}", path=self.path)

    def get(self, entry: Any, key: str, kind: type | tuple[type, ...], where: str = "") -> Any:
        if type(entry) is not dict:
            raise self.fail(where or MANIFEST, f"an object is wanted, not {_shown(entry)}")
        here = f"{where}.{key}" if where else key
        if key not in entry:
            raise self.fail(here, "is missing")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(entry[key]) not in kinds:  # true is no number here, nor is 1.0
            raise self.fail(here, f"{' or '.join(_KINDS[k] for k in kinds)} is wanted, not {_shown(entry[key])}")
        return entry[key]

    def names(self, entry: Any, key: str, where: str = "") -> tuple[str, ...]:
        found = self.get(entry, key, list, where)
        for i, name in enumerate(found):
            if type(name) is not str:
                raise self.fail(f"{where}.{key}[{i}]".lstrip("."), f"a name is wanted, not {_shown(name)}")
        return tuple(found)

    def objects(self, entry: Any, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(entry, key, list)
        for i, item in enumerate(found):
            if type(item) is not dict:
                raise self.fail(f"{key}[{i}]", f"an object is wanted, not {_shown(item)}")
        return found

    def parts(self, content: Any) -> Parts:
        if self.get(content, "schema", int) != SCHEMA:
            raise self.fail("schema", f"{content['schema']} is not known to this version ({VERSION}), which reads {SCHEMA}")
        self.get(content, "graphsplit", str)
        source = self.get(content, "source", dict)
        file = self.get(source, "file", (str, type(None)), "source")
        kind, stated = self.get(source, "format", str, "source"), self.get(source, "sha256", str, "source")
        entries = self.objects(content, "sections")
        inputs, outputs = self.names(content, "inputs"), self.names(content, "outputs")
        added = tuple(self.added(a, f"added[{i}]") for i, a in enumerate(self.objects(content, "added")))
        replicated, rewrites = self.names(content, "replicated"), self.objects(content, "rewrites")
        self.check_names(entries)
        sections = tuple(self.part(e, f"sections[{i}]") for i, e in enumerate(entries))
        self.check_order(sections, inputs, outputs)
        return Parts(
            sections=sections,
            inputs=inputs,
            outputs=outputs,
            # The path is relative to where the folder really is, not to a link that leads there.
            source=Source(
                None if file is None else Path(os.path.normpath(self.folder.resolve() / file)),
                kind,
                Path(entries[0]["file"]).stem.removesuffix(f"_{sections[0].name}"),
                stated=stated,
            ),
            added=added,
            replicated=replicated,
            rewrites=tuple(rewrites),
        )

    def check_names(self, entries: list[dict[str, Any]]) -> None:
        """Names of sections and of their files, before any of the files is looked at."""
        if not 1 <= len(entries) <= 1000:
            raise self.fail("sections", f"{len(entries)} of them")
        for key in ("name", "file"):
            seen: dict[str, int] = {}
            for i, entry in enumerate(entries):
                value = self.get(entry, key, str, f"sections[{i}]")
                if key == "name" and not _NAME.fullmatch(value):
                    raise self.fail(f"sections[{i}].name", f"{value[:60]!r} is no name of a section")
                if value in seen:
                    raise self.fail(f"sections[{i}].{key}", f"{value[:60]!r} is that of sections[{seen[value]}], too")
                seen[value] = i

    def part(self, entry: Any, where: str) -> Part:
        device = self.get(entry, "device", str, where)
        if self.get(entry, "format", str, where) not in _SECTION_FORMATS:
            raise self.fail(f"{where}.format", f"{entry['format'][:60]!r} is not read by this version")
        stated = self.get(entry, "sha256", str, where)
        file = entry["file"]
        try:
            model = load(self.file(file, where), entry["format"])
            if model.sha256 != stated:
                raise self.fail(f"{where}.sha256", f"{file!r} is not the file that was written (its sum is {model.sha256})")
            model.index  # noqa: B018  # a sum says who wrote it, not that it is a graph
        except FormatError as error:
            if error.path == str(self.path):
                raise
            raise self.fail(f"{where}.file", str(error)) from error
        inputs, outputs = (self.ports(entry, key, where, model) for key in ("inputs", "outputs"))
        return Part(entry["name"], model, inputs, outputs, device)

    def file(self, file: str, where: str) -> Path:
        """The path of a section file, which lies beside the manifest. Raises FormatError."""
        if file != os.path.basename(file) or file in ("", ".", "..") or "\\" in file or "\0" in file:
            raise self.fail(f"{where}.file", f"{file[:80]!r} is not a plain file name; sections lie beside the manifest")
        path = self.folder / file
        try:
            link, there = path.is_symlink(), path.is_file()
        except (OSError, ValueError) as error:  # a name that no file can have
            raise self.fail(f"{where}.file", f"{file[:80]!r} cannot be read: {error}") from error
        if link or not there:
            raise self.fail(f"{where}.file", f"{file[:80]!r} is {'a link' if link else 'not there'}")
        return path

    def ports(self, entry: Any, key: str, where: str, model: Model) -> tuple[Port, ...]:
        found = []
        for i, port in enumerate(self.get(entry, key, list, where)):
            here = f"{where}.{key}[{i}]"
            name = self.get(port, "name", str, here)
            if name not in model.index.tensors:
                raise self.fail(f"{here}.name", f"no tensor {name[:80]!r} in {entry['file']!r}")
            dtype, there = self.get(port, "dtype", (str, type(None)), here), model.index.tensors[name].dtype
            if there is not None and dtype != there:
                raise self.fail(f"{here}.dtype", f"{_shown(dtype)}, but {name[:80]!r} in {entry['file']!r} is {there}")
            shape = self.shape(self.get(port, "shape", (list, type(None)), here), f"{here}.shape")
            found.append(Port(self.get(port, "tensor", str, here), name, dtype, shape))
        return tuple(found)

    def shape(self, shape: list[Any] | None, where: str) -> Shape | None:
        if shape is None:
            return None
        if len(shape) > 254 or not all(d is None or (type(d) is int and 0 <= d < 2**63) for d in shape):
            raise self.fail(where, f"{_shown(shape)} is no shape")
        return tuple(shape)

    def added(self, entry: Any, where: str) -> Added:
        return Added(*(self.get(entry, k, str, where) for k in ("tensor", "section", "consumer", "reason")))

    def check_order(self, sections: tuple[Part, ...], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Every input of a section must be there when the section runs, and every output in the end."""
        there = set(inputs)
        for number, part in enumerate(sections):
            for i, port in enumerate(part.inputs):
                if port.tensor not in there:
                    raise self.fail(f"sections[{number}].inputs[{i}]", f"nothing before it gives {port.tensor[:80]!r}")
            there |= {p.tensor for p in part.outputs}
        for i, tensor in enumerate(outputs):
            if tensor not in there:
                raise self.fail(f"outputs[{i}]", f"no section gives {tensor[:80]!r}")
