"""Where to cut: what the user asked for → cuts, with the sentence that says where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, TypedDict, cast

from graphsplit.errors import CutError, OptionError
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.options import check_options
from graphsplit.planning.affinity import Affinity, read_affinity
from graphsplit.planning.cuts import Cut, make_cut
from graphsplit.planning.plan import Repair
from graphsplit.planning.presets import Match, explain, match, read_presets, targets_for
from graphsplit.planning.targets import Target, read_target
from graphsplit.splitting.crop_file import read_crop_file
from graphsplit.splitting.naming import Names, tensors_of
from graphsplit.splitting.searching import Finder, Found

__all__ = ["CutOptions", "CutRequest", "PlanOptions", "named_options", "read_request"]


class CutOptions(TypedDict, total=False):
    """Where to cut a model. At most one of `outputs`/`inputs`, `preset`, `autocrop`/`affinity`/`islands` and `crop_file`.

    Attributes:
        outputs: Split targets, the tensors at which ``main`` ends; a list of lists for an N-way split.
        inputs: Border tensors at which ``main`` starts; what is before them is ``pre``.
        preset: Name of a model family (`graphsplit presets` lists them), or path of a ``.json`` file with your own presets.
        autocrop: Search for the cut even if a preset matches.
        affinity: Path of a table of the ops that your compiler takes, used by that search.
        islands: Let that search put sections on accelerator and host in turn where host ops lie between layers.
        crop_file: Path of a JSON file with inputs and outputs.
        model_outputs: Outputs of the whole to keep (default: all); the rest is pruned.
        repair: What to do with tensors that cross without being named: "auto", "replicate", "border" or "error".
    """

    outputs: Names | Sequence[Names] | None
    inputs: Names | None
    preset: str | None
    autocrop: bool
    affinity: str | PathLike[str] | None
    islands: bool
    crop_file: str | PathLike[str] | None
    model_outputs: Names | None
    repair: Repair


class PlanOptions(CutOptions, total=False):
    """The same, or a compiler that is asked. `CutOptions` explains the other options.

    Attributes:
        target: Name of a target, or path of a ``.json`` file, whose compiler is asked until it takes all of main; see
            `graphsplit.compilers`.
        ask: False: the target's table alone, no compiler runs.
    """

    target: str | PathLike[str] | Target | None
    ask: bool


@dataclass(frozen=True, slots=True)
class CutRequest:
    """Where to cut a particular model.

    Attributes:
        cuts: In order; the last section owns the rest.
        last: Name of that last section.
        origin: Where the cuts came from, in a sentence.
        notes: What else was decided.
        outputs: Outputs of the whole to keep; None: all.
        repair: What to do with tensors that cross without being named.
        devices: Section → device, where the search decided that.
        target: Whose compiler has to take main, if one was named; then the cuts are found by `again`.
        again: Searches once more, for what an accelerator takes.
        ask: Whether the compiler is asked.
    """

    cuts: tuple[Cut, ...]
    last: str
    origin: str
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] | None = None
    repair: Repair = "auto"
    devices: Mapping[str, str] = field(default_factory=dict)
    target: Target | None = None
    again: Callable[[Affinity], CutRequest] | None = None
    ask: bool = True


def named_options(options: Mapping[str, Any]) -> list[str]:
    """Those of the options that name a cut; an option that was left at its default names none."""
    return [k for k, v in options.items() if k not in ("repair", "ask") and v not in (None, False)]


def read_request(
    function: Callable[..., object],
    model: Model,
    options: Mapping[str, Any],
    *,
    shapes: bool = True,
    isolate: bool = True,
) -> CutRequest:
    """Find out where to cut a model.

    Args:
        function: The function that took the options, for errors.
        model: The model.
        options: See `CutOptions` and `PlanOptions`.
        shapes: Whether a search for the cut may ask TensorFlow for the sizes of tensors.
        isolate: Whether it is asked in a child process.

    Raises:
        OptionError: for an option that does not exist.
        CutError: for contradicting options, and a cut that cannot be made.
        TensorNotFoundError: for a name that the model does not have.
        FormatError: for a crop file, preset file or table that cannot be read.
    """
    check_options(function, options, PlanOptions)
    cut = PlanOptions(**options)  # type: ignore[typeddict-item]  # checked above
    searched = any(cut.get(way) not in (None, False) for way in ("autocrop", "affinity", "islands", "target"))
    ways = {
        "outputs/inputs": cut.get("outputs") is not None or cut.get("inputs") is not None,
        "preset": cut.get("preset") is not None,
        "autocrop": searched,
        "crop_file": cut.get("crop_file") is not None,
    }
    chosen = [name for name, asked in ways.items() if asked]
    if len(chosen) > 1:
        raise CutError(f"{' and '.join(chosen)} both say where to cut; pass one of them")
    kept = cut.get("model_outputs")
    outputs = None if kept is None else tensors_of(model.index, kept)
    if cut.get("target") is not None and cut.get("affinity") is not None:
        raise CutError("affinity and target both say what the accelerator takes; pass one of them")
    finder = Finder(model, outputs=outputs, shapes=shapes, isolate=isolate)
    request = _request(model.index, cut, finder, any_preset=not chosen)
    return replace(request, outputs=outputs, repair=cut.get("repair", "auto"))


def _request(index: GraphIndex, cut: PlanOptions, finder: Finder, *, any_preset: bool) -> CutRequest:
    preset, crop_file = cut.get("preset"), cut.get("crop_file")
    if crop_file is not None:
        crop = read_crop_file(crop_file)
        several = (f"{crop_file} has {crop.entries} entries; entry 0 is used",) if crop.entries > 1 else ()
        return CutRequest(*_named(index, crop.outputs, crop.inputs), f"crop file {crop_file}", several)
    outputs, inputs = cut.get("outputs"), cut.get("inputs")
    if outputs is not None or inputs is not None:
        return CutRequest(*_named(index, outputs, inputs), "named")
    fitting = match(index) if any_preset else _preset(index, preset) if preset is not None else None
    if fitting is not None and fitting.targets:
        return CutRequest(*_named(index, fitting.targets, None), f"preset {fitting.preset.name}: {fitting.reason}")
    notes = () if fitting is None else (fitting.preset.note,)

    def again(affinity: Affinity) -> CutRequest:
        found = finder.search(affinity)
        return _alternating(found, notes) if cut.get("islands") else _searched(found, notes)

    target = cut.get("target")
    if target is None:
        return again(read_affinity(cut.get("affinity")))
    return CutRequest((), "main", "", target=read_target(target), again=again, ask=cut.get("ask", True))


def _named(index: GraphIndex, outputs: Names | Sequence[Names] | None, inputs: Names | None) -> tuple[tuple[Cut, ...], str]:
    """The cuts at named tensors, and the name of the last section."""
    lists = (
        []
        if outputs is None
        else _lists(outputs)
        if not isinstance(outputs, (str, bytes)) and isinstance(outputs, Iterable)
        else [[outputs]]
    )
    if len(lists) > 1:
        if inputs is not None:
            raise CutError("inputs go with one list of outputs; an N-way split starts at the inputs of the model")
        return tuple(_cut(index, f"part_{i}", names) for i, names in enumerate(lists)), f"part_{len(lists)}"
    cuts = [] if inputs is None else [_cut(index, "pre", inputs)]
    if lists:
        cuts.append(_cut(index, "main", lists[0]))
    return tuple(cuts), "post" if lists else "main"


def _lists(outputs: Names | Sequence[Names]) -> list[Names]:
    """The names of each cut: of several if there is a list among the outputs, else of one."""
    if isinstance(outputs, str) or not isinstance(outputs, Iterable):
        return [outputs]
    entries = list(outputs)
    nested = any(isinstance(entry, Iterable) and not isinstance(entry, (str, bytes)) for entry in entries)
    return list(entries) if nested else [cast(Names, entries)]


def _cut(index: GraphIndex, section: str, names: Names) -> Cut:
    return make_cut(section, tensors_of(index, names))


def _preset(index: GraphIndex, preset: str) -> Match:
    """The preset of that name; of a file, the first that matches."""
    if not isinstance(preset, str):
        raise OptionError(f"preset must be the name of a preset or the path of a .json file, not {preset!r}", option="preset")
    if not preset.endswith(".json"):
        return targets_for(index, preset)
    own = read_presets(preset)
    fitting = match(index, own)
    if fitting is None:
        why = "; ".join(f"{v.preset.name}: {v.reason}" for v in explain(index, own))
        raise CutError(f"no preset of {preset} matches this graph: {why or 'it holds none'}")
    if not fitting.targets:
        raise CutError(f"preset {fitting.preset.name!r} of {preset} matches, but has no targets; add them to the file")
    return fitting


def _searched(found: Found, notes: tuple[str, ...]) -> CutRequest:
    """The automatic cut, or one section if there is nothing worth cutting off."""
    best = found.search.best()
    cuts, last = found.cuts()
    if not cuts:
        return CutRequest((), "main", best.reason, (*notes, *found.between))
    return CutRequest(cuts, last, f"automatic cut: {found.why(best)}", (*notes, *found.between))


def _alternating(found: Found, notes: tuple[str, ...]) -> CutRequest:
    """Accelerator and host in turn, or the automatic cut where one chain holds every layer."""
    cuts, last, devices = found.islands()
    if not devices:
        return _searched(found, (*notes, "no host op lies between layers, so there are no islands"))
    return CutRequest(cuts, last, "islands: accelerator and host in turn", (*notes, *found.between), devices=devices)
