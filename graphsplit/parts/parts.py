"""Sections as models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graphsplit.errors import CutError, SectionNotFoundError
from graphsplit.formats import Model, as_graphdef
from graphsplit.graph.index import Shape
from graphsplit.graph.text import count_text, flow_text
from graphsplit.planning.plan import Added, Plan

__all__ = ["DEFAULT_DEVICES", "Part", "Parts", "Port", "Source", "default_device"]

#: Where sections run unless told otherwise. Sections of other names run on the CPU.
DEFAULT_DEVICES = {"main": "/gpu:0"}


def default_device(section: str) -> str:
    """The device a section runs on unless told otherwise."""
    return DEFAULT_DEVICES.get(section, "/cpu:0")


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that a section is given or gives.

    tensor  its name in the whole model
    name    its name in the section's file
    dtype   ``float32`` …
    shape   None where a size, or the whole shape, is unknown
    """

    tensor: str
    name: str
    dtype: str | None
    shape: Shape | None


@dataclass(frozen=True)
class Part:
    """A section with its model."""

    name: str
    model: Model
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    device: str

    def __repr__(self) -> str:
        counts = f"{count_text(len(self.inputs), 'input')}, {count_text(len(self.outputs), 'output')}"
        return f"Part({self.name} on {self.device}: {self.model!r}, {counts})"

    @property
    def graph_def(self) -> Any:
        """The section as a ``tf.compat.v1.GraphDef`` (imports TensorFlow)."""
        return as_graphdef(self.model, f"the graph_def of section {self.name!r}").graph_def

    @property
    def format(self) -> str:
        """The format it is saved in."""
        return self.model.section_format

    def save(self, path: str | Path) -> Path:
        """Write the section to a file, whole or not at all."""
        return self.model.save(path)


@dataclass(frozen=True)
class Source:
    """The model that was split.

    path    of its file or folder; None for a model made in memory
    stem    what the names of its section files start with
    model   the model itself, while it is at hand
    stated  its checksum as a manifest states it; None: computed from the model when it is asked for
    """

    path: Path | None
    format: str
    stem: str
    model: Model | None = field(default=None, repr=False)
    stated: str | None = None

    @property
    def sha256(self) -> str:
        """Checksum of the file (of a SavedModel: of saved_model.pb)."""
        if self.stated is not None:
            return self.stated
        return "" if self.model is None else self.model.sha256


@dataclass(frozen=True)
class Parts:
    """The sections of a split, in the order they run.

    inputs, outputs  tensors of the whole
    added            border tensors beyond the named ones
    replicated       nodes (no constants) that more than one section holds
    plan             what was planned; None for parts that were loaded from a folder
    """

    sections: tuple[Part, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: Source
    added: tuple[Added, ...] = ()
    replicated: tuple[str, ...] = ()
    rewrites: tuple[Mapping[str, Any], ...] = ()
    plan: Plan | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        sections = [(f"{p.name} on {p.device}", [i.tensor for i in p.inputs], [o.tensor for o in p.outputs]) for p in self.sections]
        return f"Parts({flow_text(sections)})"

    def __iter__(self) -> Iterator[Part]:
        return iter(self.sections)

    def __len__(self) -> int:
        return len(self.sections)

    def __getitem__(self, name: str) -> Part:
        for part in self.sections:
            if part.name == name:
                return part
        raise SectionNotFoundError(name, known=[p.name for p in self.sections])

    def replaced(self, section: str, model: Model, names: Mapping[str, str], *, device: str | None = None) -> Parts:
        """The same sections with another model for one of them, of any format that sections have.

        names   tensor of the whole → its name in that model, for every input and output of the section
        device  where it runs; None: where the other one ran

        Raises CutError for a tensor that is not named, or that the model does not hold with the same dtype.
        """
        part = self[section]
        there = model.index.tensors

        def ports(old: tuple[Port, ...]) -> tuple[Port, ...]:
            for port in old:
                spec = there.get(names.get(port.tensor, ""))
                if spec is None or (spec.dtype and port.dtype and spec.dtype != port.dtype):
                    raise CutError(
                        f"section {section!r} needs {port.tensor!r} as {port.dtype}, which the other model does not hold"
                    )
            return tuple(replace(port, name=names[port.tensor]) for port in old)

        made = replace(part, model=model, inputs=ports(part.inputs), outputs=ports(part.outputs), device=device or part.device)
        sections = tuple(made if p is part else p for p in self.sections)
        return replace(self, sections=sections, plan=None)

    @property
    def keep(self) -> Part:
        """The keep-graph: section ``main``, for the accelerator."""
        return self["main"]

    @property
    def remove(self) -> Part:
        """The remove-graph: section ``post``, for the CPU."""
        return self["post"]

    @property
    def borders(self) -> tuple[str, ...]:
        """Tensors that one section makes and a later one reads, in the order they are made."""
        read = {p.tensor for part in self.sections for p in part.inputs}
        return tuple(dict.fromkeys(p.tensor for part in self.sections for p in part.outputs if p.tensor in read))
