"""Sections as models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graphsplit.errors import CutError, SectionNotFoundError
from graphsplit.formats import Model, as_graphdef
from graphsplit.graph.index import Shape, TensorSpec
from graphsplit.graph.signature import Signature
from graphsplit.graph.text import count_text, flow_text, shape_text, shortened
from graphsplit.planning.plan import Added, Plan
from graphsplit.planning.targets.answer import Answer

__all__ = ["DEFAULT_DEVICES", "Part", "Parts", "Port", "Source", "default_device", "entering"]

#: Where sections run unless told otherwise. Sections of other names run on the CPU.
DEFAULT_DEVICES = {"main": "/gpu:0"}


def default_device(section: str) -> str:
    """The device a section runs on unless told otherwise."""
    return DEFAULT_DEVICES.get(section, "/cpu:0")


_LONG = 60  # characters of a name in a repr


@dataclass(frozen=True, slots=True, repr=False)
class Port:
    """An input or output of a section.

    Attributes:
        tensor: Its name in the whole model.
        name: Its name in the section's file.
        dtype: ``float32`` …; None if the file does not state it.
        shape: None inside it is an unknown dimension, None instead of it an unknown rank.
        optional: Whether it is an input that has a default in the section's file, so that it need not be fed.
    """

    tensor: str
    name: str
    dtype: str | None
    shape: Shape | None
    optional: bool = False

    @property
    def spec(self) -> TensorSpec:
        """What is known about the tensor, by its name in the whole."""
        return TensorSpec(self.tensor, self.dtype, self.shape, self.optional)

    def __repr__(self) -> str:
        name = "" if self.name == self.tensor else f" as {shortened(self.name, _LONG)}"
        shape = shortened(shape_text(self.shape), _LONG)
        return f"Port({shortened(self.tensor, _LONG)}{name}, {self.dtype or '?'} {shape})"


@dataclass(frozen=True)
class Part:
    """A section with its model.

    Attributes:
        name: ``main``, ``post``, ``part_0`` …
        model: The section as a model of its own.
        inputs: What to feed.
        outputs: What to fetch.
        device: Where it runs unless told otherwise.
    """

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
        """Write the section to a file, whole or not at all. An existing file is replaced. Raises FormatError."""
        return self.model.save(path)


def entering(sections: Iterable[Part]) -> dict[str, Port]:
    """What sections read that none before them computes: tensor → a port that needs a value, if there is one."""
    ports: dict[str, Port] = {}
    computed: set[str] = set()
    for part in sections:
        for port in part.inputs:
            known = ports.get(port.tensor)
            if port.tensor not in computed and (known is None or (known.optional and not port.optional)):
                ports[port.tensor] = port
        computed |= {p.tensor for p in part.outputs}
    return ports


@dataclass(frozen=True)
class Source:
    """The model that was split.

    Attributes:
        path: Of its file or folder; None for a model in memory.
        format: See `graphsplit.load`.
        stem: Start of the names of its section files.
        model: The model itself, while it is at hand.
        stated: Its checksum as a manifest states it; None: computed from the model on demand.
        signature: Which signature of the file it is, if that has any.
        tags: Which meta graph of a SavedModel it is.
    """

    path: Path | None
    format: str
    stem: str
    model: Model | None = field(default=None, repr=False)
    stated: str | None = None
    signature: str | None = None
    tags: tuple[str, ...] | None = None

    @property
    def sha256(self) -> str:
        """Checksum of the file (of a SavedModel: of saved_model.pb)."""
        if self.stated is not None:
            return self.stated
        return "" if self.model is None else self.model.sha256


@dataclass(frozen=True)
class Parts:
    """The sections of a split, in the order they run: ``parts["main"]``, ``for part in parts``.

    Attributes:
        sections: One part each.
        inputs: Tensors to feed to the whole.
        outputs: Tensors that the whole produces.
        source: The model that was split.
        added: Border tensors beyond the named ones.
        replicated: Nodes, except constants, that more than one section holds.
        rewrites: What was replaced in the model before it was split.
        plan: What was planned; None for parts that were loaded from a folder.
        stated_target: What their manifest states of a target; see `target`.
        signature: The keys by which the file of the whole names inputs and outputs, of those that are left.
        feeds: What a proof ran on and the file does not state: tensor → a value, or {"shape": […]}; see
            `graphsplit.verification.report.Report`.
    """

    sections: tuple[Part, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: Source
    added: tuple[Added, ...] = ()
    replicated: tuple[str, ...] = ()
    rewrites: tuple[Mapping[str, Any], ...] = ()
    plan: Plan | None = field(default=None, repr=False)
    stated_target: Answer | None = field(default=None, repr=False)
    signature: Signature = field(default_factory=Signature, repr=False)
    feeds: Mapping[str, Any] = field(default_factory=dict, repr=False)

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

    @property
    def input_ports(self) -> tuple[Port, ...]:
        """Of each of `inputs` that a section reads, its port there; optional if none of the sections needs a value."""
        ports = entering(self.sections)
        return tuple(ports[t] for t in self.inputs if t in ports)

    def replaced(self, section: str, model: Model, names: Mapping[str, str], *, device: str | None = None) -> Parts:
        """The same sections with another model in place of one of them, of any format that sections have.

        Args:
            section: Name of the section.
            model: The model that takes its place.
            names: Tensor of the whole → its name in that model, for every input and output of the section.
            device: Where it runs; None: where the section ran.

        Raises:
            SectionNotFoundError: for a section that does not exist.
            CutError: for a tensor that is not named, or that the model does not hold with the same dtype.
        """
        part = self[section]
        there = model.index.tensors

        def ports(old: tuple[Port, ...]) -> tuple[Port, ...]:
            for port in old:
                spec = there.get(names.get(port.tensor, ""))
                if spec is None or (spec.dtype and port.dtype and spec.dtype != port.dtype):
                    raise CutError(f"section {section!r} needs {port.tensor!r} as {port.dtype}, which the new model does not hold")
            return tuple(
                replace(p, name=names[p.tensor], optional=p.optional and names[p.tensor] in model.index.defaults) for p in old
            )

        new = replace(part, model=model, inputs=ports(part.inputs), outputs=ports(part.outputs), device=device or part.device)
        sections = tuple(new if p is part else p for p in self.sections)
        return replace(self, sections=sections, plan=None)

    @property
    def target(self) -> Answer | None:
        """What a target takes of the accelerator's sections, if the split was made for one."""
        return self.stated_target if self.plan is None else self.plan.target

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
        """Tensors that one section produces and a later one reads, in the order they are produced."""
        read = {p.tensor for part in self.sections for p in part.inputs}
        return tuple(dict.fromkeys(p.tensor for part in self.sections for p in part.outputs if p.tensor in read))
