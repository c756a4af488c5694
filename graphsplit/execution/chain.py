"""A section with those before and after it, joined by the names of their tensors in the whole.

[pre] ─▶ main ─▶ [post]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Literal

from graphsplit.errors import CutError, FeedError
from graphsplit.formats import ModelLike, as_model
from graphsplit.graph.index import TensorSpec
from graphsplit.inference.fed_arrays import fed_array
from graphsplit.parts.manifest import MANIFEST, load_parts
from graphsplit.parts.parts import Part, Port, default_device, entering
from graphsplit.runtimes.arrays import Array

__all__ = ["Chain", "Role", "SectionLike"]

#: A part, the path of the file of a section, or a model: anything that `graphsplit.load` takes.
SectionLike = Part | ModelLike

Role = Literal["pre", "main", "post"]
_ROLES: tuple[Role, ...] = ("pre", "main", "post")


class Chain:
    """Sections in the order they run; each is named by its role.

    Args:
        main: The section in the middle.
        trust: Load a SavedModel that reaches files, the network or Python.
    """

    def __init__(self, main: SectionLike, *, trust: bool = False) -> None:
        self._trust = trust
        self._sections: dict[Role, Part] = {"main": self._part(main, "main")}

    @property
    def sections(self) -> tuple[Part, ...]:
        """The sections, in the order they run."""
        return tuple(self._sections[role] for role in _ROLES if role in self._sections)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What no section computes, in order: the inputs of pre, then those of main, then those of post."""
        return tuple(entering(self.sections).values())

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The outputs of the last section, then those of earlier ones that no later section reads."""
        read = {p.tensor for s in self.sections for p in s.inputs}
        outputs: dict[str, Port] = {}
        for place, section in enumerate(reversed(self.sections)):
            for port in section.outputs:
                if place == 0 or port.tensor not in read:
                    outputs.setdefault(port.tensor, port)
        return tuple(outputs.values())

    def set(self, role: Role, section: SectionLike) -> None:
        """Put a section before or after main.

        Raises:
            CutError: It has no tensor in common with main.
        """
        part = self._part(section, role)
        earlier, later = (part, self._sections["main"]) if role == "pre" else (self._sections["main"], part)
        if not {p.tensor for p in earlier.outputs} & {p.tensor for p in later.inputs}:
            raise CutError(
                f"{role} and main share no tensor: {earlier.name} computes {_names(earlier.outputs)}, "
                f"{later.name} reads {_names(later.inputs)}"
            )
        self._sections[role] = part

    def feeds(self, values: object, *, copy: bool = False) -> dict[str, Array]:
        """Feeds by name, of one array or of a list or tuple with one for each input; a leading 1 may be omitted.

        Where some inputs have defaults, None in their place leaves them at that, and so does a list of the others only.

        Raises:
            FeedError: The number of arrays differs from that of the inputs, or one of them is not an array.
        """
        several = list(values) if isinstance(values, (list, tuple)) else [values]
        ports = self.inputs
        needed = [p for p in ports if not p.optional]
        if len(several) == len(needed):
            ports = tuple(needed)
        if len(several) != len(ports):
            rest = "; None leaves an input at its default" if len(needed) < len(ports) else ""
            raise FeedError([f"got {len(several)} arrays for {len(ports)} inputs: {_names(ports)}{rest}"])
        fed = {p: v for p, v in zip(ports, several, strict=True) if v is not None or not p.optional}
        wrong: list[str] = []
        feeds: dict[str, Array] = {}
        for port, value in fed.items():
            try:
                feeds[port.tensor] = _batched(port, fed_array(value, copy=copy))
            except ValueError as error:
                wrong.append(f"{port.tensor!r} {error}")
        if wrong:
            raise FeedError(wrong)
        return feeds

    def _part(self, section: SectionLike, role: Role) -> Part:
        """A part; of a path the section that the manifest beside it describes, else a whole model."""
        if isinstance(section, Part):
            return replace(section, name=role)
        if isinstance(section, (str, PathLike)) and (Path(section).parent / MANIFEST).is_file():
            path = Path(section)
            for part in load_parts(path.parent):
                if part.model.path is not None and part.model.path.name == path.name:
                    return replace(part, name=role)
        model = as_model(section, trust=self._trust)
        return Part(role, model, _ports(model.inputs), _ports(model.outputs), default_device(role))


def _batched(port: Port, array: Array) -> Array:
    """An array with the leading batch of 1 that was omitted."""
    if port.shape is not None and array.ndim == len(port.shape) - 1 and port.shape[0] in (1, None):
        return array[None]
    return array


def _ports(specs: Sequence[TensorSpec]) -> tuple[Port, ...]:
    return tuple(Port(s.name, s.name, s.dtype, s.shape, s.optional) for s in specs)


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(p.tensor for p in ports) or "nothing"
