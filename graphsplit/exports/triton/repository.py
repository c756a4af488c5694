"""A repository, written: a SavedModel for each section, and an ensemble that passes border tensors on.

    REPOSITORY ┌ ssd/config.pbtxt          platform "ensemble": image ─▶ ssd_main ─▶ scores, boxes ─▶ ssd_post ─▶ detections
               │ ssd/1/.keep               an ensemble has a version without files
               ├ ssd_main/config.pbtxt     KIND_GPU
               │ ssd_main/1/model.savedmodel/
               ├ ssd_post/config.pbtxt     KIND_CPU
               └ ssd_post/1/model.savedmodel/

Shapes include the batch (``max_batch_size: 0``), since a border tensor need not have one entry per image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from graphsplit.errors import FormatError
from graphsplit.exports.saved_model import write_saved_model
from graphsplit.exports.signature_keys import signature_keys
from graphsplit.exports.sources import Source, Written
from graphsplit.exports.triton.configs import (
    CONFIG,
    ENSEMBLE,
    SAVED_MODEL,
    TENSORFLOW,
    config_text,
    fits,
    messages,
    read_config,
    stated,
)
from graphsplit.formats import GraphDefModel
from graphsplit.inference.shapes import infer
from graphsplit.parts.parts import Part, Parts, Port

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

__all__ = ["check_repository", "repository_files", "write_repository"]

_VERSION = "1"


def repository_files(source: Source) -> frozenset[str]:
    """The only names in a repository of a source, two levels deep; nothing else is ever replaced. Raises FormatError."""
    parts = _split_of(source)
    folders = [_name(parts), *(_name(parts, part) for part in parts)]
    return frozenset(n for folder in folders for n in (folder, f"{folder}/{_VERSION}", f"{folder}/{CONFIG}"))


def write_repository(source: Source, keys: Mapping[str, str], path: Path) -> Written:
    """Write a repository of the sections of a split. Every configuration is read back and compared with the sections.

    Args:
        source: The split.
        keys: Tensor of the whole → the name by which clients send or receive it.
        path: The folder.

    Raises:
        FormatError: Triton lacks the dtype of a tensor, or its rank is unknown.
        MissingExtraError: Triton's client is not installed.
    """
    parts = _split_of(source)
    sections = _completed(parts)
    names = signature_keys([*keys, *(p.tensor for part in sections for p in (*part.inputs, *part.outputs))])
    configs = {_name(parts, part): _section(part, _name(parts, part)) for part in sections}
    configs[_name(parts)] = _ensemble(parts, sections, source, names)
    for name in configs:  # only after all configurations are known to be valid
        (path / name / _VERSION).mkdir(parents=True)
    for part in sections:
        assert isinstance(part.model, GraphDefModel)
        folder = path / _name(parts, part) / _VERSION / SAVED_MODEL
        write_saved_model(Source(part.model, part.name, part.inputs, part.outputs), _keys(part), folder)
    (path / _name(parts) / _VERSION / ".keep").write_bytes(b"")  # copies and archives drop empty folders
    for name, config in configs.items():
        (path / name / CONFIG).write_text(config_text(config), encoding="utf-8")
    check_repository(path, parts.source.stem, sections, source)
    models: list[dict[str, str | None]] = [
        {"name": _name(parts, p), "section": p.name, "platform": TENSORFLOW, "kind": _kind(p)} for p in sections
    ]
    models.append({"name": _name(parts), "section": None, "platform": ENSEMBLE, "kind": None})
    inputs, outputs = (tuple(names[p.tensor] for p in of) for of in (source.inputs, source.outputs))
    return Written(inputs, outputs, models=tuple(models))


def check_repository(path: Path, stem: str, sections: tuple[Part, ...], source: Source) -> None:
    """Read every configuration of a repository back and compare its dtypes and shapes with those of the sections.

    Args:
        path: The repository.
        stem: Prefix of the names of its models.
        sections: The sections.
        source: The split.

    Raises:
        FormatError: A configuration differs; the message names file and tensor.
    """
    known = {p.tensor: p for part in sections for p in (*part.inputs, *part.outputs)}
    names = signature_keys(p.tensor for p in (*source.inputs, *source.outputs))
    wanted = [(_named(stem, part.name), _keys(part), part.inputs, part.outputs) for part in sections]
    wanted.append((_named(stem, None), names, source.inputs, source.outputs))
    for name, keys, inputs, outputs in wanted:
        where = path / name / CONFIG
        config = read_config(where)
        if config.name != name:
            raise FormatError(f"names the model {config.name!r}, unlike its folder", path=where)
        for entries, ports in ((config.input, inputs), (config.output, outputs)):
            by_key = {e.name: e for e in entries}
            if list(by_key) != [keys[p.tensor] for p in ports]:
                raise FormatError(f"states {', '.join(by_key)} where {', '.join(keys[p.tensor] for p in ports)} belong", path=where)
            for port in ports:
                entry, shape = by_key[keys[port.tensor]], known[port.tensor].shape
                exact = [-1 if d is None else d for d in shape or ()]
                if config.platform == ENSEMBLE and not exact:
                    exact = [1]
                if not fits(entry, port.dtype or "", exact):
                    raise FormatError(f"states {entry.name} as {list(entry.dims)}, but it is {port.dtype} {exact}", path=where)


def _split_of(source: Source) -> Parts:
    if source.section is not None or source.parts is None:
        raise FormatError(
            "a Triton repository holds all sections of a split and their ensemble; one section alone is served "
            "as a SavedModel (to='saved_model')"
        )
    return source.parts


def _name(parts: Parts, part: Part | None = None) -> str:
    return _named(parts.source.stem, None if part is None else part.name)


def _named(stem: str, section: str | None) -> str:
    """Name of the model of a section, or of the ensemble, and of its folder."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", stem).lstrip("_-") or "model"
    return plain if section is None else f"{plain}_{section}"


def _keys(part: Part) -> dict[str, str]:
    return signature_keys(p.tensor for p in (*part.inputs, *part.outputs))


def _kind(part: Part) -> str:
    return "KIND_CPU" if "cpu" in part.device.lower() else "KIND_GPU"


def _completed(parts: Parts) -> tuple[Part, ...]:
    """The sections with all known shapes, including those known from another section or by inference."""
    known: dict[str, Port] = {}
    for part in parts:
        left = [p.name for p in part.outputs if p.shape is None]
        inferred = infer(part.model, left) if left else {}
        for port in (*part.outputs, *part.inputs):
            found = replace(port, shape=inferred[port.name].shape) if port.name in inferred else port
            if port.tensor not in known or known[port.tensor].shape is None:
                known[port.tensor] = found

    def ports(of: tuple[Port, ...]) -> tuple[Port, ...]:
        return tuple(replace(p, shape=known[p.tensor].shape, dtype=p.dtype or known[p.tensor].dtype) for p in of)

    return tuple(replace(part, inputs=ports(part.inputs), outputs=ports(part.outputs)) for part in parts)


def _section(part: Part, name: str) -> ModelConfig:
    of_triton, keys = messages(), _keys(part)
    config = of_triton.ModelConfig(name=name, platform=TENSORFLOW, max_batch_size=0)
    for entries, ports in ((config.input, part.inputs), (config.output, part.outputs)):
        for port in ports:
            entry = entries.add(name=keys[port.tensor], **stated(port))
            if port.shape == ():
                entry.reshape.SetInParent()  # [1] for clients, [] for TensorFlow
    config.instance_group.add(count=1, kind=getattr(of_triton.ModelInstanceGroup, _kind(part)))
    return config


def _ensemble(parts: Parts, sections: tuple[Part, ...], source: Source, names: Mapping[str, str]) -> ModelConfig:
    written = {p.tensor for p in source.inputs}
    if (passed := next((p.tensor for p in source.outputs if p.tensor in written), None)) is not None:
        raise FormatError(f"{passed!r} is both input and output of the whole, which an ensemble cannot pass on; drop that output")
    known = {p.tensor: p for part in sections for p in (*part.inputs, *part.outputs)}
    config = messages().ModelConfig(name=_name(parts), platform=ENSEMBLE, max_batch_size=0)
    for entries, ports in ((config.input, source.inputs), (config.output, source.outputs)):
        for port in ports:
            entries.add(name=names[port.tensor], **stated(known[port.tensor]))
    needed = {p.tensor for part in sections for p in part.inputs} | {p.tensor for p in source.outputs}
    for part in sections:
        keys = _keys(part)
        step = config.ensemble_scheduling.step.add(model_name=_name(parts, part), model_version=-1)
        for port in part.inputs:
            step.input_map[keys[port.tensor]] = names[port.tensor]
        for port in part.outputs:
            if port.tensor in needed - written:  # each tensor is written by one step
                step.output_map[keys[port.tensor]] = names[port.tensor]
                written.add(port.tensor)
    return config
