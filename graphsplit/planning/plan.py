"""A plan: which nodes form which section, and which tensors cross. Pure data, made by `graphsplit.planning.planner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from graphsplit.errors import SectionNotFoundError
from graphsplit.graph.text import count_text, flow_text, list_text
from graphsplit.planning.cuts import Cut
from graphsplit.planning.targets.answer import Answer

__all__ = ["Added", "Plan", "Repair", "Section"]

#: What happens to a tensor that crosses a border without having been named:
#: "auto" recomputes shape arithmetic in the section that reads it and adds anything else to the border, "replicate"
#: recomputes every stateless chain, "border" adds everything to the border, "error" refuses.
Repair = Literal["auto", "replicate", "border", "error"]


@dataclass(frozen=True, slots=True, repr=False)
class Section:
    """A part of the graph.

    Attributes:
        name: ``main``, ``post``, ``part_0`` …
        nodes: Names of its nodes in file order: those it owns, copies of constants, and replicated nodes.
        inputs: Tensors it reads from outside: inputs of the whole, and border tensors of earlier sections.
        outputs: Tensors it produces for others: its cut first, then what was added, then outputs of the whole.
        replicated: Those of its nodes, except constants, that an earlier section holds as well.
    """

    name: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    replicated: tuple[str, ...] = ()

    def __repr__(self) -> str:
        counts = {"node": self.nodes, "input": self.inputs, "output": self.outputs}
        return f"Section({self.name}: {', '.join(count_text(len(some), noun) for noun, some in counts.items())})"


@dataclass(frozen=True, slots=True, repr=False)
class Added:
    """A border tensor that the user did not name.

    Attributes:
        tensor: Its name in the whole.
        section: The section that reads it.
        consumer: The first node there that reads it.
        reason: Why it has to cross, in a sentence.
    """

    tensor: str
    section: str
    consumer: str
    reason: str

    def __repr__(self) -> str:
        return f"Added({list_text([self.tensor])} for {list_text([self.consumer])} in {self.section})"


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What a split will do. Nothing but the index of the model has been read for it.

    Attributes:
        sections: In the order they run; empty ones are left out.
        added: Border tensors beyond the named ones.
        replicated: Names of the nodes, except constants, that more than one section holds.
        inputs: Tensors to feed to the whole.
        outputs: Tensors that the whole produces.
        cuts: Where the sections end, as named; the last section has none.
        last: Name of the section that owns the rest.
        repair: What was asked for tensors that cross without having been named.
        origin: Where the cut came from, in a sentence: named, a preset, a file, a search.
        notes: Sentences on everything else that was decided.
        fingerprint: Of the graph that it was made for; see `graphsplit.planning.fingerprint`.
        devices: Section → device, where the search for the cut decided that.
        target: What a target takes of the accelerator's sections, if the cut was made for one.
    """

    sections: tuple[Section, ...]
    added: tuple[Added, ...]
    replicated: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cuts: tuple[Cut, ...] = ()
    last: str = "main"
    repair: Repair = field(default="auto", compare=False)
    origin: str = field(default="named", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    fingerprint: str = field(default="", compare=False)
    devices: Mapping[str, str] = field(default_factory=dict, compare=False)
    target: Answer | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        sections = [(f"{s.name} {count_text(len(s.nodes), 'node')}", s.inputs, s.outputs) for s in self.sections]
        return f"Plan({flow_text(sections)})"

    def __getitem__(self, name: str) -> Section:
        for section in self.sections:
            if section.name == name:
                return section
        raise SectionNotFoundError(name, known=[s.name for s in self.sections])

    @property
    def borders(self) -> tuple[str, ...]:
        """Tensors produced by one section and read by a later one, in the order they are produced."""
        produced: dict[str, None] = {}
        crossing: dict[str, None] = {}
        for section in self.sections:
            crossing |= {t: None for t in section.inputs if t in produced}
            produced |= dict.fromkeys(section.outputs)
        return tuple(t for t in produced if t in crossing)
