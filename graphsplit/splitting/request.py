"""Where to cut: what the user asked for → cuts, with the sentence that says where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, TypedDict, cast

from graphsplit.errors import CutError, OptionError
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.options import check_options
from graphsplit.inference.shapes import Sizes
from graphsplit.planning.cuts import Cut, make_cut
from graphsplit.planning.min_cut import Crop
from graphsplit.planning.plan import Repair
from graphsplit.planning.presets import Match, explain, match, read_presets, targets_for
from graphsplit.splitting.crop_file import read_crop_file
from graphsplit.splitting.suggestions import search

__all__ = ["CutOptions", "CutRequest", "Names", "named_options", "read_request", "tensors_of"]

#: One name, several in one string with commas between, or an iterable of names.
Names = str | Iterable[str]


class CutOptions(TypedDict, total=False):
    """Where to cut a model. At most one of `outputs`/`inputs`, `preset`, `autocrop`/`affinity` and `crop_file`.

    Attributes:
        outputs: Split targets, the tensors at which ``main`` ends; a list of lists for an N-way split.
        inputs: Border tensors at which ``main`` starts; what is before them is ``pre``.
        preset: Name of a model family (`graphsplit presets` lists them), or path of a ``.json`` file with your own presets.
        autocrop: Search for the cut even if a preset matches.
        affinity: Path of a table of the ops that your compiler takes, used by that search.
        crop_file: Path of a JSON file with inputs and outputs.
        model_outputs: Outputs of the whole to keep (default: all); the rest is pruned.
        repair: What to do with tensors that cross without being named: "auto", "replicate", "border" or "error".
    """

    outputs: Names | Sequence[Names] | None
    inputs: Names | None
    preset: str | None
    autocrop: bool
    affinity: str | PathLike[str] | None
    crop_file: str | PathLike[str] | None
    model_outputs: Names | None
    repair: Repair


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
        firm: Whether somebody named the tensors of the cuts, so that these cross as they are.
    """

    cuts: tuple[Cut, ...]
    last: str
    origin: str
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] | None = None
    repair: Repair = "auto"
    firm: bool = True


def named_options(options: Mapping[str, Any]) -> list[str]:
    """Those of the options that name a cut; an option that was left at its default names none."""
    return [k for k, v in options.items() if k != "repair" and v not in (None, False)]


def tensors_of(index: GraphIndex, names: Names) -> tuple[str, ...]:
    """Full names of tensors as users write them, each once. A string is one name, or several with commas between.

    Raises:
        TensorNotFoundError: with the closest names.
    """
    texts = list(names) if isinstance(names, Iterable) and not isinstance(names, (str, bytes)) else [names]
    for text in texts:
        if not isinstance(text, str):
            raise OptionError(f"{text!r} is not the name of a tensor; names are strings", option="outputs")
    return tuple(dict.fromkeys(tensor for text in texts for tensor in _tensors(index, text)))


def _tensors(index: GraphIndex, text: str) -> list[str]:
    if "," in text and text.strip() in index.producer:  # a name may hold commas
        return [text.strip()]
    return [index.tensor(part) for part in text.split(",") if part.strip()]


def read_request(function: Callable[..., object], model: Model, options: Mapping[str, Any], sizes: Sizes) -> CutRequest:
    """Find out where to cut a model.

    Args:
        function: The function that took the options, for errors.
        model: The model.
        options: See `CutOptions`.
        sizes: Bytes of its tensors, for a search.

    Raises:
        OptionError: for an option that does not exist.
        CutError: for contradicting options, and a cut that cannot be made.
        TensorNotFoundError: for a name that the model does not have.
        FormatError: for a crop file, preset file or table that cannot be read.
    """
    check_options(function, options, CutOptions)
    cut = CutOptions(**options)  # type: ignore[typeddict-item]  # checked above
    ways = {
        "outputs/inputs": cut.get("outputs") is not None or cut.get("inputs") is not None,
        "preset": cut.get("preset") is not None,
        "autocrop": bool(cut.get("autocrop")) or cut.get("affinity") is not None,
        "crop_file": cut.get("crop_file") is not None,
    }
    chosen = [name for name, asked in ways.items() if asked]
    if len(chosen) > 1:
        raise CutError(f"{' and '.join(chosen)} both say where to cut; pass one of them")
    kept = cut.get("model_outputs")
    outputs = None if kept is None else tensors_of(model.index, kept)
    cuts, last, origin, notes = _cuts(model, cut, outputs, partial(search, sizes=sizes), any_preset=not chosen)
    firm = "outputs/inputs" in chosen or "crop_file" in chosen
    return CutRequest(cuts, last, origin, notes, outputs, cut.get("repair", "auto"), firm)


_Cuts = tuple[tuple[Cut, ...], str, str, tuple[str, ...]]
_Searching = Callable[..., Crop]  # `search`


def _cuts(model: Model, cut: CutOptions, kept: tuple[str, ...] | None, searching: _Searching, *, any_preset: bool) -> _Cuts:
    """Cuts, name of the last section, origin and notes."""
    index, preset, crop_file = model.index, cut.get("preset"), cut.get("crop_file")
    if crop_file is not None:
        crop = read_crop_file(crop_file)
        several = (f"{crop_file} has {crop.entries} entries; entry 0 is used",) if crop.entries > 1 else ()
        return (*_named(index, crop.outputs, crop.inputs), f"crop file {crop_file}", several)
    outputs, inputs = cut.get("outputs"), cut.get("inputs")
    if outputs is not None or inputs is not None:
        return (*_named(index, outputs, inputs), "named", ())
    fitting = match(index) if any_preset else _preset(index, preset) if preset is not None else None
    if fitting is not None and fitting.targets:
        return (*_named(index, fitting.targets, None), f"preset {fitting.preset.name}: {fitting.reason}", ())
    note = "" if fitting is None else fitting.preset.note
    return _searched(model, cut.get("affinity"), kept, searching, note)


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


def _searched(
    model: Model, affinity: str | PathLike[str] | None, kept: tuple[str, ...] | None, searching: _Searching, note: str
) -> _Cuts:
    """The automatic cut, or one section if there is nothing worth cutting off."""
    crop = searching(model, affinity=affinity, outputs=kept)
    notes = (note,) if note else ()
    if not crop.back:
        return (), "main", crop.reason, notes
    origin = f"automatic cut: the fewest bytes between the network and {crop.reason}"
    return (_cut(model.index, "main", crop.back),), "post", origin, notes
