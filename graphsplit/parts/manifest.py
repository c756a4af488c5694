"""``split.json``: what it states of a split, and reading it back. A manifest is input like any other: nothing in it is trusted."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.formats import Model, load
from graphsplit.formats.staging import reading
from graphsplit.graph.json_input import as_type, entry_error, read_json
from graphsplit.graph.options import check_path, hinted
from graphsplit.graph.signature import Signature
from graphsplit.parts.parts import Part, Parts, Port, Source
from graphsplit.planning.plan import Added
from graphsplit.planning.targets.answer import Answer
from graphsplit.version import VERSION

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "added_json",
    "file_names",
    "find_manifest",
    "load_parts",
    "manifest_json",
    "section_json",
]

MANIFEST = "split.json"
SCHEMA = 1

_LIMIT = 16 * 2**20  # bytes
_MOST_SECTIONS = 1000
_MOST_DIMENSIONS, _LARGEST = 254, 2**63  # of a shape
_SECTION_FORMATS = ("graphdef", "tflite")
_NAME = re.compile(r"pre|main|post|part_[0-9]{1,6}")


# writing


def file_names(parts: Parts) -> dict[str, str]:
    """Section → name of its file."""
    return {p.name: f"{parts.source.stem}_{p.name}.{p.model.suffix}" for p in parts}


def section_json(part: Part) -> dict[str, object]:
    """A section as the manifest states it, without its file."""

    def ports(found: Sequence[Port]) -> list[dict[str, object]]:
        return [
            {"tensor": p.tensor, "name": p.name, "dtype": p.dtype, "shape": None if p.shape is None else list(p.shape)}
            | ({"optional": True} if p.optional else {})
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


def manifest_json(parts: Parts, sums: Mapping[str, str], directory: Path) -> dict[str, object]:
    """The content of ``split.json``.

    Args:
        parts: The sections.
        sums: Section → SHA-256 of its file.
        directory: The folder of the split; the path of the source is written relative to it.
    """
    names, source = file_names(parts), parts.source
    return {
        "graphsplit": VERSION,
        "schema": SCHEMA,
        "source": {"file": _relative(source.path, directory), "sha256": source.sha256, "format": source.format}
        | ({} if source.signature is None else {"signature": source.signature})
        | ({} if source.tags is None else {"tags": list(source.tags)}),
        "sections": [{"name": p.name, "file": names[p.name], "sha256": sums[p.name]} | section_json(p) for p in parts],
        "inputs": list(parts.inputs),
        "outputs": list(parts.outputs),
        **({"signature": dict(parts.signature)} if parts.signature else {}),
        **({"feeds": dict(parts.feeds)} if parts.feeds else {}),
        "added": [added_json(a) for a in parts.added],
        "replicated": list(parts.replicated),
        "rewrites": [dict(r) for r in parts.rewrites],
        **({"target": parts.target.json()} if parts.target is not None else {}),
    }


def _relative(path: Path | None, directory: Path) -> str | None:
    if path is None:
        return None
    try:
        return Path(os.path.relpath(path.resolve(), directory.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


# reading: what the file has to state; keys that are not listed here are left to later versions


@dataclass(frozen=True, slots=True)
class _Version:
    schema: int


@dataclass(frozen=True, slots=True)
class _Source:
    file: str | None
    sha256: str
    format: str
    signature: str | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    file: str
    sha256: str
    format: str
    device: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class _Manifest:
    graphsplit: str
    source: _Source
    sections: tuple[_Section, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    added: tuple[Added, ...]
    replicated: tuple[str, ...]
    rewrites: tuple[dict[str, object], ...]
    target: Answer | None = None
    signature: dict[str, str] = field(default_factory=dict)
    feeds: dict[str, object] = field(default_factory=dict)


def find_manifest(path: str | PathLike[str]) -> Path | None:
    """The manifest of a split, given its folder or the manifest itself; None: the path leads to something else."""
    where = Path(path)
    manifest = where if where.name == MANIFEST else where / MANIFEST
    try:
        with reading(manifest.parent) as at:
            return manifest if at(MANIFEST).is_file() else None
    except OSError:  # a name that no file can have
        return None


@hinted
def load_parts(directory: str | PathLike[str]) -> Parts:
    """Read a split back. Section files are beside the manifest, and their checksums are checked.

    Args:
        directory: The folder, or the manifest in it.

    Raises:
        FormatError: Names the entry at fault: ``$.sections[0].inputs[0].shape[1]``.
        OptionError: `directory` is not a path.
    """
    check_path("directory", directory, "the folder of a split")
    folder = Path(directory)
    try:
        path = folder / MANIFEST if folder.is_dir() else folder
        with reading(path.parent) as at:
            return _load(path, at, folder)
    except OSError as error:  # a name that no file can have
        if isinstance(error, GraphSplitError):
            raise
        raise FormatError(f"cannot be read: {error.strerror or error}", path=folder) from error


def _load(path: Path, at: Callable[[str], Path], folder: Path) -> Parts:
    """The split of a manifest; `at` returns the path of each file of its folder."""
    manifest = at(path.name)
    if not manifest.exists():
        raise FormatError(f"no {MANIFEST} here; `graphsplit split MODEL -o {folder}` writes one", path=folder)
    if not manifest.is_file():
        raise FormatError("neither a file nor a folder (a pipe or a device is never opened)", path=path)
    content = read_json(manifest, dict[str, object], what="a manifest", limit=_LIMIT)
    schema = as_type(content, _Version, what="a manifest", path=path).schema
    if schema != SCHEMA:
        raise entry_error("$.schema", f"{schema} is not known to this version ({VERSION}), which reads {SCHEMA}", path=path)
    return _Reader(path, at).parts(as_type(content, _Manifest, what="a manifest", path=path))


class _Reader:
    """Checks what no type says; every error names the entry."""

    def __init__(self, path: Path, at: Callable[[str], Path]) -> None:
        self.path, self.folder, self.at = path, path.parent, at

    def fault(self, at: str, what: str) -> FormatError:
        return entry_error(f"$.{at}", what, path=self.path)

    @contextmanager
    def naming(self, at: str) -> Iterator[None]:
        """An error of the model's file becomes one of an entry."""
        try:
            yield
        except FormatError as error:
            raise self.fault(at, str(error)) from error

    def parts(self, content: _Manifest) -> Parts:
        self.check_names(content.sections)
        sections = tuple(self.part(entry, f"sections[{i}]") for i, entry in enumerate(content.sections))
        self.check_order(sections, content.inputs, content.outputs)
        source, first = content.source, content.sections[0]
        if source.file is not None and "\0" in source.file:
            raise self.fault("source.file", f"{source.file[:60]!r} is not a path")
        return Parts(
            sections=sections,
            inputs=content.inputs,
            outputs=content.outputs,
            # The path is relative to where the folder really is, not to a link that leads there.
            source=Source(
                None if source.file is None else Path(os.path.normpath(self.folder.resolve() / source.file)),
                source.format,
                Path(first.file).stem.removesuffix(f"_{first.name}"),
                stated=source.sha256,
                signature=source.signature,
                tags=source.tags,
            ),
            added=content.added,
            replicated=content.replicated,
            rewrites=content.rewrites,
            stated_target=content.target,
            signature=self.signature(content),
            feeds=self.feeds(content),
        )

    def signature(self, content: _Manifest) -> Signature:
        """The keys, of tensors that the whole takes or outputs."""
        for key, tensor in content.signature.items():
            if tensor not in content.inputs and tensor not in content.outputs:
                raise self.fault(f"signature.{key[:60]}", f"{tensor[:80]!r} is neither an input nor an output of the whole")
        return Signature(
            {k: t for k, t in content.signature.items() if t not in content.outputs},
            {k: t for k, t in content.signature.items() if t in content.outputs},
        )

    def feeds(self, content: _Manifest) -> dict[str, object]:
        """Values and shapes that a proof runs on."""
        for tensor, value in content.feeds.items():
            at = f"feeds.{tensor[:60]}"
            if tensor not in content.inputs:
                raise self.fault(at, "is not an input of the whole")
            if isinstance(value, dict):
                sizes = value.get("shape")
                fine = isinstance(sizes, list) and all(n is None or (type(n) is int and n >= 0) for n in sizes)
                if value.keys() != {"shape"} or not fine:
                    raise self.fault(at, 'a shape is {"shape": [1, 224, 224, 3]}')
            elif isinstance(value, str) or value is None:
                raise self.fault(at, "neither a number, a flag or a list of these nor a shape")
        return content.feeds

    def check_names(self, entries: Sequence[_Section]) -> None:
        """Names of sections and of their files, before any of the files is looked at."""
        if not 1 <= len(entries) <= _MOST_SECTIONS:
            raise self.fault("sections", f"a split has 1 to {_MOST_SECTIONS} sections, not {len(entries)}")
        for key in ("name", "file"):
            seen: dict[str, int] = {}
            for i, entry in enumerate(entries):
                value: str = getattr(entry, key)
                if key == "name" and not _NAME.fullmatch(value):
                    raise self.fault(f"sections[{i}].name", f"{value[:60]!r} is not the name of a section")
                if value in seen:
                    raise self.fault(f"sections[{i}].{key}", f"{value[:60]!r} is also that of sections[{seen[value]}]")
                seen[value] = i

    def part(self, entry: _Section, at: str) -> Part:
        if entry.format not in _SECTION_FORMATS:
            raise self.fault(f"{at}.format", f"this version does not read {entry.format[:60]!r} sections")
        path = self.file(entry.file, f"{at}.file")
        with self.naming(f"{at}.file"):
            model = load(path, entry.format)
        if model.sha256 != entry.sha256:
            raise self.fault(f"{at}.sha256", f"{entry.file!r} is not the file that was written (its checksum is {model.sha256})")
        with self.naming(f"{at}.file"):
            model.index  # noqa: B018  # a checksum does not prove that it is a graph
        for side in ("inputs", "outputs"):
            for i, port in enumerate(getattr(entry, side)):
                self.check_port(port, model, entry.file, f"{at}.{side}[{i}]")
        return Part(entry.name, model, entry.inputs, entry.outputs, entry.device)

    def file(self, file: str, at: str) -> Path:
        """The path of a section file, which is beside the manifest. Raises FormatError."""
        if file != os.path.basename(file) or file in ("", ".", "..") or "\\" in file or "\0" in file:
            raise self.fault(at, f"{file[:80]!r} is not a plain file name; section files are beside the manifest")
        path = self.at(file)
        try:
            link, there = path.is_symlink(), path.is_file()
        except (OSError, ValueError) as error:  # a name that no file can have
            raise self.fault(at, f"{file[:80]!r} cannot be read: {error}") from error
        if link or not there:
            raise self.fault(at, f"{file[:80]!r} is {'a link' if link else 'not there'}")
        return path

    def check_port(self, port: Port, model: Model, file: str, at: str) -> None:
        """The file holds the tensor, with that dtype, and its shape is one."""
        if port.name not in model.index.tensors:
            raise self.fault(f"{at}.name", f"no tensor {port.name[:80]!r} in {file!r}")
        dtype = model.index.tensors[port.name].dtype
        if dtype is not None and port.dtype != dtype:
            raise self.fault(f"{at}.dtype", f"{port.dtype!r:.80}, but {port.name[:80]!r} in {file!r} is {dtype}")
        if port.optional and port.name not in model.index.defaults:
            raise self.fault(f"{at}.optional", f"{port.name[:80]!r} in {file!r} has no default")
        if port.shape is not None and len(port.shape) > _MOST_DIMENSIONS:
            raise self.fault(f"{at}.shape", f"{len(port.shape)} dimensions, more than {_MOST_DIMENSIONS}")
        for i, size in enumerate(port.shape or ()):
            if size is not None and not 0 <= size < _LARGEST:
                raise self.fault(f"{at}.shape[{i}]", f"{str(size)[:40]} is not the size of a dimension")

    def check_order(self, sections: Sequence[Part], inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Every input of a section is there when the section runs, and every output in the end."""
        there = set(inputs)
        for number, part in enumerate(sections):
            for i, port in enumerate(part.inputs):
                if port.tensor not in there:
                    raise self.fault(f"sections[{number}].inputs[{i}]", f"no earlier section outputs {port.tensor[:80]!r}")
            there |= {p.tensor for p in part.outputs}
        for i, tensor in enumerate(outputs):
            if tensor not in there:
                raise self.fault(f"outputs[{i}]", f"no section outputs {tensor[:80]!r}")
