"""What the user asked for → cuts → plan → parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike

from graphsplit.errors import CutError
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.inference.shapes import infer
from graphsplit.parts.parts import Part, Parts, Port, Source, default_device
from graphsplit.planning.cuts import Cut, resolve
from graphsplit.planning.planner import Plan, Repair, plan_sections
from graphsplit.planning.presets import Match, explain, match, read_presets, targets_for
from graphsplit.splitting.crop_file import read_crop_file
from graphsplit.splitting.suggestions import search

__all__ = ["Choice", "Names", "choose", "plan", "split"]

Names = str | Iterable[str]


@dataclass(frozen=True, slots=True)
class Choice:
    """A cut and where it came from.

    cuts    in order; the last section takes the rest
    last    name of that last section
    source  one sentence: named, from which preset, from which file
    """

    cuts: tuple[Cut, ...]
    last: str
    source: str
    notes: tuple[str, ...] = field(default=())


def plan(
    model: Model,
    *,
    outputs: Names | Sequence[Names] | None = None,
    inputs: Names | None = None,
    preset: str | None = None,
    autocrop: bool = False,
    affinity: str | PathLike[str] | None = None,
    crop_file: str | PathLike[str] | None = None,
    model_outputs: Names | None = None,
    repair: Repair = "auto",
) -> Plan:
    """Decide what a split will do; reads nothing but the index, writes nothing.

    outputs        split targets, the tensors at which ``main`` ends; a list of lists for an N-way split
    inputs         border tensors at which ``main`` starts; what is before them is ``pre``
    preset         name of a model family (see `graphsplit.planning.presets`), or path of a ``.json`` file with presets of your own
    autocrop       search the cut, see `graphsplit.planning.min_cut` (imports TensorFlow for the sizes of tensors)
    affinity       path of a table of the ops that your compiler takes, for that search
    crop_file      path of a JSON file with inputs and outputs
    model_outputs  outputs of the whole to keep (default: all); the rest is pruned
    repair         what to do with tensors that cross unnamed: see `graphsplit.planning.planner.plan_sections`

    Where nothing is named, the preset that matches the graph is taken, else the cut is searched; where nothing is worth
    cutting off, the plan has one section ``main``, equal to the whole. Names are written ``node``, ``node:port`` or
    several in one string with commas between.

    Raises TensorNotFoundError, CutError, FormatError (crop file), TypeError for contradicting arguments.
    """
    choice = choose(
        model,
        outputs=outputs,
        inputs=inputs,
        preset=preset,
        autocrop=autocrop,
        affinity=affinity,
        crop_file=crop_file,
        model_outputs=model_outputs,
    )
    return plan_choice(model, choice, model_outputs=model_outputs, repair=repair)


def plan_choice(model: Model, choice: Choice, *, model_outputs: Names | None, repair: Repair) -> Plan:
    """The plan of a cut that has been chosen."""
    index = model.index
    plan = plan_sections(index, choice.cuts, last=choice.last, outputs=_kept(index, model_outputs), repair=repair)
    return replace(plan, model=model)


def _kept(index: GraphIndex, model_outputs: Names | None) -> tuple[str, ...] | None:
    return None if model_outputs is None else tuple(dict.fromkeys(index.tensor(n) for n in _list(model_outputs)))


def choose(
    model: Model,
    *,
    outputs: Names | Sequence[Names] | None = None,
    inputs: Names | None = None,
    preset: str | None = None,
    autocrop: bool = False,
    affinity: str | PathLike[str] | None = None,
    crop_file: str | PathLike[str] | None = None,
    model_outputs: Names | None = None,
    shapes: bool = True,
) -> Choice:
    """The cut that the arguments of `plan` ask for.

    shapes  whether a search for the cut may ask TensorFlow for the sizes of tensors
    """
    ways = {
        "outputs/inputs": outputs is not None or inputs is not None,
        "preset": preset is not None,
        "autocrop": autocrop or affinity is not None,
        "crop_file": crop_file is not None,
    }
    given = [name for name, asked in ways.items() if asked]
    if len(given) > 1:
        raise CutError(f"{' and '.join(given)} both name a cut; give one of them")
    index = model.index
    notes: tuple[str, ...] = ()
    if crop_file is not None:
        crop = read_crop_file(crop_file)
        inputs, outputs = crop.inputs, crop.outputs
        source = f"crop file {crop_file}"
        if crop.entries > 1:
            notes = (f"{crop_file} has {crop.entries} entries; entry 0 is taken",)
    elif outputs is None and inputs is None:
        fits = None if preset is None and given else match(index) if preset is None else _preset(index, preset)
        if fits is None or not fits.targets:
            return _searched(model, affinity, model_outputs, shapes, "" if fits is None else fits.preset.note)
        outputs = fits.targets
        source = f"preset {fits.preset.name}: {fits.reason}"
    else:
        source = "named"

    lists = _lists(outputs)
    if len(lists) > 1:
        if inputs is not None:
            raise CutError("inputs go with one list of outputs; an N-way split starts at the inputs of the model")
        cuts = tuple(resolve(index, f"part_{i}", names) for i, names in enumerate(lists))
        return Choice(cuts, f"part_{len(cuts)}", source, notes)
    cuts = ()
    if inputs is not None:
        cuts += (resolve(index, "pre", _list(inputs)),)
    if lists:
        cuts += (resolve(index, "main", lists[0]),)
    return Choice(cuts, "post" if lists else "main", source, notes)


def _preset(index: GraphIndex, preset: str) -> Match:
    """The preset of that name; of a file of one's own, the first that fits."""
    if not preset.endswith(".json"):
        return targets_for(index, preset)
    own = read_presets(preset)
    found = match(index, own)
    if found is None:
        why = "; ".join(f"{v.preset.name}: {v.reason}" for v in explain(index, own))
        raise CutError(f"no preset of {preset} fits this graph: {why or 'it holds none'}")
    if not found.targets:
        raise CutError(
            f"preset {found.preset.name!r} of {preset} fits, but has no targets; name them in the file, or with --outputs"
        )
    return found


def _searched(
    model: Model,
    affinity: str | PathLike[str] | None,
    model_outputs: Names | None,
    shapes: bool,
    note: str,
) -> Choice:
    """The automatic cut, or one section where nothing is worth cutting off."""
    found, _ = search(model, affinity=affinity, outputs=_kept(model.index, model_outputs), shapes=shapes)
    notes = (note,) if note else ()
    if not found.back:
        return Choice((), "main", found.reason, notes)
    cut = resolve(model.index, "main", found.back)
    return Choice((cut,), "post", f"automatic cut: the fewest bytes between the network and {found.reason}", notes)


def _list(names: Names) -> list[str]:
    given = [names] if isinstance(names, str) else list(names)
    return [part.strip() for name in given for part in name.split(",") if part.strip()]


def _lists(outputs: Names | Sequence[Names] | None) -> list[list[str]]:
    """One list of names for each cut."""
    if outputs is None:
        return []
    if isinstance(outputs, str):
        return [_list(outputs)]
    given = list(outputs)
    if any(not isinstance(o, str) for o in given):
        return [_list(o) for o in given]
    return [_list([o for o in given if isinstance(o, str)])]


def split(
    model: Model,
    plan_: Plan | None = None,
    /,
    *,
    shapes: bool = True,
    devices: Mapping[str, str] | None = None,
    outputs: Names | Sequence[Names] | None = None,
    inputs: Names | None = None,
    preset: str | None = None,
    autocrop: bool = False,
    affinity: str | PathLike[str] | None = None,
    crop_file: str | PathLike[str] | None = None,
    model_outputs: Names | None = None,
    repair: Repair = "auto",
) -> Parts:
    """Cut a model into its sections. Nothing is run and nothing is written.

    plan_    from `plan`; else the other arguments, as of `plan`, say where to cut
    shapes   whether to infer the shapes of border tensors that the file does not state (imports TensorFlow)
    devices  section → device, over the default (``main`` /gpu:0, the others /cpu:0)

    Raises what `plan` raises, FormatError for a graph that is not frozen, CutError for a border tensor whose dtype is
    unknown.
    """
    model.check_frozen()
    if plan_ is None:
        plan_ = plan(
            model,
            outputs=outputs,
            inputs=inputs,
            preset=preset,
            autocrop=autocrop,
            affinity=affinity,
            crop_file=crop_file,
            model_outputs=model_outputs,
            repair=repair,
        )
    elif autocrop or any(a is not None for a in (outputs, inputs, preset, affinity, crop_file, model_outputs)):
        raise CutError("a plan and a cut were given; the plan says where to cut already")
    pins = dict(devices or {})
    unknown = sorted(set(pins) - {s.name for s in plan_.sections})
    if unknown:
        raise CutError(f"no section {unknown[0]!r} to pin; there are {', '.join(s.name for s in plan_.sections)}")
    specs = border_specs(model, plan_, shapes=shapes)
    return Parts(
        sections=tuple(_part(model, plan_, i, specs, pins) for i in range(len(plan_.sections))),
        inputs=plan_.inputs,
        outputs=plan_.outputs,
        source=Source(model.path, model.format, _stem(model), model.original),
        added=plan_.added,
        replicated=plan_.replicated,
        rewrites=model.rewrites,
        plan=plan_,
    )


def border_specs(model: Model, plan_: Plan, *, shapes: bool = True) -> dict[str, TensorSpec]:
    """Dtype and shape of every tensor that enters or leaves a section."""
    tensors = dict.fromkeys(t for s in plan_.sections for t in (*s.inputs, *s.outputs))
    return infer(model, tensors) if shapes else {t: model.index.tensors[t] for t in tensors}


def _part(model: Model, plan_: Plan, number: int, specs: Mapping[str, TensorSpec], pins: Mapping[str, str]) -> Part:
    section = plan_.sections[number]
    made, names = model.section(section.nodes, [specs[t] for t in section.inputs], section.outputs)

    def ports(tensors: Iterable[str]) -> tuple[Port, ...]:
        return tuple(Port(t, names[t], specs[t].dtype, specs[t].shape) for t in tensors)

    device = pins.get(section.name, default_device(section.name))
    return Part(section.name, made, ports(section.inputs), ports(section.outputs), device)


def _stem(model: Model) -> str:
    if model.path is None:
        return "model"
    name = model.path.resolve().name
    return name if model.path.is_dir() else model.path.stem or name
