"""The split itself: a request → a plan → sections as models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphsplit.errors import CutError, OptionError
from graphsplit.formats import Model, ModelLike, as_model
from graphsplit.graph.index import TensorSpec
from graphsplit.graph.options import check_options
from graphsplit.graph.training import training_note
from graphsplit.inference.devices import check_devices, check_sections
from graphsplit.inference.shapes import Shapes, Sizes, infer
from graphsplit.parts.parts import Part, Parts, Port, Source, default_device
from graphsplit.planning.affinity import refusing
from graphsplit.planning.fingerprint import check_belongs
from graphsplit.planning.plan import Plan
from graphsplit.planning.planner import plan_sections
from graphsplit.splitting.naming import Names, tensors_of
from graphsplit.splitting.request import CutRequest, PlanOptions, named_options, read_request

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["plan", "plan_whole", "split"]


def plan(model: ModelLike, *, shapes: Shapes = True, trust: bool = False, isolate: bool = True, **cut: Unpack[PlanOptions]) -> Plan:
    """Decide what a split will do. Writes nothing, and reads nothing but the index, and sizes of tensors where these decide.

    If no cut is named, the preset that matches the graph is used, else the cut is searched for; if nothing is worth
    cutting off, the plan has one section ``main``, equal to the whole. `Plan.origin` says which.

    Args:
        model: A model, or anything that `graphsplit.load` takes.
        shapes: Whether the search for the cut, or for the smallest border, may infer the sizes of tensors (needs
            TensorFlow); without, all count alike. Or shapes of inputs that the file does not state: ``{"x": [1, 224, 224, 3]}``.
        trust: Load a SavedModel that reaches files, the network or Python.
        isolate: Infer in a child process, which a model can crash without harm; False: in this one.
        **cut: Where to cut: `outputs`, `inputs`, `preset`, `autocrop`, `affinity`, `islands`, `crop_file`, `model_outputs`,
            `repair`, see `graphsplit.splitting.request.CutOptions`; `target`, `ask`: whose compiler has to take main, see
            `graphsplit.splitting.request.PlanOptions`.

    Raises:
        TensorNotFoundError: for a name that the model does not have.
        CutError: for a cut that cannot be made, and for contradicting options.
        OptionError: for an option that does not exist.
        FormatError: for a file that cannot be read.
    """
    model = _fed(as_model(model, trust=trust, isolate=isolate), cut)
    sizes = Sizes(model, shapes=shapes, isolate=isolate, outputs=_kept(model, cut))
    return _planned(model, read_request(plan, model, cut, sizes), sizes)


def _fed(model: Model, cut: PlanOptions) -> Model:
    """The model, with the constants that `inputs` names as inputs."""
    inputs = cut.get("inputs")
    return model if inputs is None else model.fed_with(tensors_of(model.index, inputs))


def _kept(model: Model, cut: PlanOptions) -> tuple[str, ...]:
    """The outputs of the whole to keep; the rest is never looked at."""
    kept = cut.get("model_outputs")
    if kept is None:
        return model.index.outputs
    if not isinstance(kept, (str, bytes)) and isinstance(kept, Iterable):
        cut["model_outputs"] = kept = list(kept)  # an iterator is read once
    return tensors_of(model.index, kept)


def plan_whole(model: Model, *, outputs: Names | None = None) -> Plan:
    """The plan that leaves a model in one section, ``main``.

    Args:
        model: The model.
        outputs: Outputs of the whole to keep (default: all).
    """
    kept = None if outputs is None else tensors_of(model.index, outputs)
    return _planned(model, CutRequest((), "main", "whole, as one section", outputs=kept), Sizes(model, shapes=False))


def _planned(model: Model, request: CutRequest, sizes: Sizes) -> Plan:
    if request.target is not None:
        return _fitted(model, request, sizes)
    planned = plan_sections(
        model.index,
        request.cuts,
        last=request.last,
        outputs=request.outputs,
        repair=request.repair,
        nbytes=sizes,
        fixed=request.fixed,
        firm=request.firm,
    )
    training = training_note(model.index, planned.outputs)
    left = model.original.left_out([(s.inputs, s.outputs) for s in planned.sections])
    return replace(
        planned,
        origin=request.origin,
        notes=(*model.original.choice.notes, *filter(None, [training]), *request.notes, *planned.notes, *left),
        devices=request.devices,
    )


def _fitted(model: Model, request: CutRequest, sizes: Sizes) -> Plan:
    """The plan of which a target takes the accelerator's sections, as far as there is one; see `graphsplit.compilers.fit`."""
    from graphsplit.compilers import fit  # imports NumPy, which --help does not need

    target, again = request.target, request.again
    assert target is not None
    assert again is not None

    def make(tied: Mapping[str, str]) -> Parts:
        found = replace(again(refusing(tied)), outputs=request.outputs, repair=request.repair)
        planned = _planned(model, found, sizes)
        return _parts(model, planned, border_specs(model, planned, shapes=sizes.shapes, isolate=sizes.isolate), {})

    parts, answer = fit(model, target, make, ask=request.ask)
    assert parts.plan is not None
    said = f"{answer.summary()}{f' ({answer.reason})' if answer.reason else ''}"
    return replace(parts.plan, origin=f"target {target.name}: {parts.plan.origin}", notes=(*parts.plan.notes, said), target=answer)


def split(
    model: ModelLike,
    at: Plan | Names | Sequence[Names] | None = None,
    /,
    *,
    shapes: Shapes = True,
    devices: Mapping[str, str] | None = None,
    trust: bool = False,
    isolate: bool = True,
    **cut: Unpack[PlanOptions],
) -> Parts:
    """Cut a model into its sections. Nothing is run and nothing is written.

    Args:
        model: A model, or anything that `graphsplit.load` takes.
        at: A plan from `plan`, or what `outputs` takes; None: the other options, as of `plan`, say where to cut.
        shapes: Whether to infer the shapes of border tensors that the file does not state (needs TensorFlow); or shapes of
            inputs, as of `plan`.
        devices: Section → device, overriding the default (``main`` /gpu:0, the others /cpu:0).
        trust: Load a SavedModel that reaches files, the network or Python.
        isolate: Infer in a child process, which a model can crash without harm; False: in this one.
        **cut: Where to cut, as of `plan`.

    Raises:
        CutError: for a cut that cannot be made, for a plan together with a cut, for a plan of another model, and for a
            border tensor whose dtype is unknown.
        SectionNotFoundError: for a device of a section that does not exist.
        PlacementError: for an invalid device name.
        FormatError: for a graph that is not frozen.
        TensorNotFoundError: as of `plan`.
        OptionError: as of `plan`, and for `repair` together with a plan.
    """
    model = as_model(model, trust=trust, isolate=isolate)
    if isinstance(at, Plan):
        check_options(split, cut, PlanOptions)
        if named := named_options(cut):
            raise CutError(f"a plan and {named[0]} both say where to cut; pass one of them")
        for option in cut:
            raise OptionError(f"{option} is decided when a split is planned; pass it to plan(), not with a plan", option=option)
        planned = at
        model = model.fed_with(planned.inputs)
        check_belongs(model.index, planned)
        model.check_frozen(planned.outputs, runs=False)
    else:
        if at is not None:
            if cut.get("outputs") is not None:
                raise CutError("the second argument and outputs both say where to cut; pass one of them")
            cut["outputs"] = at
        model = _fed(model, cut)
        model.check_frozen(_kept(model, cut), runs=False)
        sizes = Sizes(model, shapes=shapes, isolate=isolate, outputs=_kept(model, cut))
        planned = _planned(model, read_request(split, model, cut, sizes), sizes)
    names = [s.name for s in planned.sections]
    check_sections("devices", devices, names)
    check_devices(devices or {})
    specs = border_specs(model, planned, shapes=shapes, isolate=isolate)
    return _parts(model, planned, specs, devices or {})


def _parts(model: Model, planned: Plan, specs: Mapping[str, TensorSpec], devices: Mapping[str, str]) -> Parts:
    original = model.original
    return Parts(
        sections=tuple(_part(model, planned, i, specs, devices) for i in range(len(planned.sections))),
        inputs=planned.inputs,
        outputs=planned.outputs,
        source=Source(model.path, model.format, _stem(model), original, signature=original.choice.name, tags=original.choice.tags),
        added=planned.added,
        replicated=planned.replicated,
        rewrites=model.rewrites,
        plan=planned,
        signature=model.signature.kept(planned.inputs, planned.outputs),
    )


def border_specs(model: Model, planned: Plan, *, shapes: Shapes = True, isolate: bool = True) -> dict[str, TensorSpec]:
    """Dtype and shape of every tensor that enters or leaves a section.

    Args:
        model: The model.
        planned: Its plan.
        shapes: Whether to infer shapes that the file does not state.
        isolate: As of `split`.
    """
    tensors = dict.fromkeys(t for s in planned.sections for t in (*s.inputs, *s.outputs))
    return (
        {t: model.index.tensors[t] for t in tensors} if shapes is False else infer(model, tensors, shapes=shapes, isolate=isolate)
    )


def _part(model: Model, planned: Plan, number: int, specs: Mapping[str, TensorSpec], devices: Mapping[str, str]) -> Part:
    section = planned.sections[number]
    index, held = model.index, set(section.nodes)
    optional = {t for t, constant in index.defaults.items() if constant is not None or index.producer[t] in held}
    entering = [replace(specs[t], optional=t in optional) for t in section.inputs]
    cropped, names = model.section(section.nodes, entering, section.outputs)

    def ports(found: Iterable[TensorSpec]) -> tuple[Port, ...]:
        return tuple(Port(s.name, names[s.name], s.dtype, s.shape, s.optional) for s in found)

    device = devices.get(section.name) or planned.devices.get(section.name, default_device(section.name))
    return Part(section.name, cropped, ports(entering), ports(specs[t] for t in section.outputs), device)


def _stem(model: Model) -> str:
    if model.path is None:
        return "model"
    name = model.path.resolve().name
    return name if model.path.is_dir() else model.path.stem or name
