"""``check``: what a compiler takes of a model, or of the sections of a split that run on the accelerator."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike

from graphsplit.compilers.asking import ask as ask_compiler
from graphsplit.compilers.asking import ask_table
from graphsplit.errors import CutError
from graphsplit.formats import Model, ModelLike, as_model
from graphsplit.graph.options import hinted
from graphsplit.parts.manifest import find_manifest, load_parts
from graphsplit.parts.parts import Part, Parts
from graphsplit.planning.targets import Target, read_target
from graphsplit.planning.targets.answer import Answer, joined

__all__ = ["ask_section", "ask_sections", "check", "sections_of"]


@hinted
def check(what: ModelLike | Parts, *, target: str | PathLike[str] | Target, ask: bool = True, trust: bool = False) -> Answer:
    """Ask what a target takes of a model, or of the accelerator's sections of a split.

    Args:
        what: A model, anything that `graphsplit.load` takes, parts, or the folder of a split.
        target: Name of a target, or path of a ``.json`` file.
        ask: Ask the compiler; False: the table alone.
        trust: Load a SavedModel that reaches files, the network or Python.

    Raises:
        OptionError: There is no such target.
        FormatError: The target's file is not one, its command is not there or fails in a way that its patterns do not find,
            the compiler does not read models of this format, or the model cannot be read.
        CutError: No section of the split runs on an accelerator.
    """
    read = read_target(target)
    if isinstance(what, (str, PathLike)) and find_manifest(what) is not None:
        what = load_parts(what)
    if isinstance(what, Parts):
        return ask_sections(what, read, ask=ask)
    model = as_model(what, trust=trust)
    return _ask(model, read, model.path.name if model.path is not None else "the model", ask)


def ask_sections(parts: Parts, target: Target, *, ask: bool = True) -> Answer:
    """Ask about the sections of a split that run on the accelerator. Raises CutError if there are none."""
    sections = sections_of(parts)
    if not sections:
        raise CutError(f"no section runs on an accelerator: {', '.join(f'{p.name} on {p.device}' for p in parts)}")
    return joined(ask_section(part, target, ask=ask) for part in sections)


def ask_section(part: Part, target: Target, *, ask: bool = True) -> Answer:
    """Ask about the bytes of a section, as they are saved."""
    return replace(_ask(part.model, target, part.name, ask), sections=(part.name,))


def sections_of(parts: Parts) -> tuple[Part, ...]:
    """The sections that run on the accelerator: ``main``, else those whose device is not a CPU."""
    main = tuple(p for p in parts if p.name == "main")
    return main or tuple(p for p in parts if "cpu" not in p.device.lower())


def _ask(model: Model, target: Target, name: str, ask: bool) -> Answer:
    target.check_format(model.section_format, path=model.path)
    return ask_compiler(model, target, name=name) if ask else ask_table(model, target)
