"""What a picture shows, taken from a plan, from parts or from a model: sections, clusters, tensors and who feeds whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphsplit.diagram.scopes import Cluster, collapse
from graphsplit.errors import GraphSplitError
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.parts.parts import Part, Parts
from graphsplit.planning.plan import Plan

__all__ = ["Block", "Scene", "scene_of"]

_ROOM = 32  # clusters in a picture, all sections together
_LEAST = 4  # of each section


@dataclass(frozen=True, slots=True)
class Block:
    """A section.

    size      nodes it holds, copies of constants included
    clusters  in file order
    edges     between its clusters, by their places
    reads     tensor of the whole → places of the clusters that read it
    makes     tensor of the whole that leaves the section → place of the cluster that makes it; None: passed through
    """

    name: str
    size: int
    clusters: tuple[Cluster, ...]
    edges: tuple[tuple[int, int], ...]
    reads: Mapping[str, tuple[int, ...]]
    makes: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything in a picture.

    specs  tensors that enter or leave a section → what is known of them
    added  border tensors that the user did not name
    """

    title: str
    blocks: tuple[Block, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    specs: Mapping[str, TensorSpec]
    added: frozenset[str]

    @property
    def borders(self) -> tuple[str, ...]:
        """Tensors that one section makes and a later one reads, in the order they are made."""
        made: dict[str, None] = {}
        crossing: set[str] = set()
        for block in self.blocks:
            crossing |= {t for t in block.reads if t in made}
            made |= dict.fromkeys(block.makes)
        return tuple(t for t in made if t in crossing)


def scene_of(what: Plan | Parts | Model, specs: Mapping[str, TensorSpec], *, model: Model | None = None) -> Scene:
    """The scene of a plan (of `model`), of parts, or of a whole model.

    specs  what is known of tensors that enter or leave sections; others are taken from the index

    Raises GraphSplitError for a plan that came without its model.
    """
    if isinstance(what, Parts):
        ported = {p.tensor: TensorSpec(p.tensor, p.dtype, p.shape) for part in what for p in (*part.inputs, *part.outputs)}
        if what.plan is None or what.source.model is None:
            return _of_parts(what, {**ported, **specs})
        return _of_plan(what.plan, what.source.model, {**ported, **specs})
    if isinstance(what, Plan):
        known = model if model is not None else what.model
        if known is None:
            raise GraphSplitError("this plan was made of a bare index, which is not kept; give the model: draw(plan, model=model)")
        return _of_plan(what, known, specs)
    index = what.index
    names = tuple(n.name for n in index.nodes)
    block = _block("whole", index, names, {t: t for t in index.inputs}, {t: t for t in index.outputs}, _ROOM)
    return Scene(_title(what), (block,), index.inputs, index.outputs, _specs(index, (block,), specs), frozenset())


def _title(model: Model) -> str:
    return "model" if model.path is None else model.path.name


def _of_plan(plan: Plan, model: Model, specs: Mapping[str, TensorSpec]) -> Scene:
    index = model.index
    rooms = _rooms([len(s.nodes) for s in plan.sections])
    blocks = tuple(
        _block(s.name, index, s.nodes, {t: t for t in s.inputs}, {t: t for t in s.outputs}, room)
        for s, room in zip(plan.sections, rooms, strict=True)
    )
    added = frozenset(a.tensor for a in plan.added)
    return Scene(_title(model), blocks, plan.inputs, plan.outputs, _specs(index, blocks, specs), added)


def _of_parts(parts: Parts, specs: Mapping[str, TensorSpec]) -> Scene:
    """Parts from a folder: each has an index of its own, in which border tensors may have other names."""

    def block(part: Part, room: int) -> Block:
        index = part.model.index
        inputs = {index.tensor(p.name): p.tensor for p in part.inputs}
        outputs = {index.tensor(p.name): p.tensor for p in part.outputs}
        return _block(part.name, index, [n.name for n in index.nodes], inputs, outputs, room)

    rooms = _rooms([len(p.model.index.nodes) for p in parts])
    blocks = tuple(block(p, room) for p, room in zip(parts, rooms, strict=True))
    added = frozenset(a.tensor for a in parts.added)
    return Scene(parts.source.stem, blocks, parts.inputs, parts.outputs, specs, added)


def _rooms(sizes: Sequence[int]) -> list[int]:
    """How many clusters each section may have: half shared evenly, half by the number of nodes."""
    total = sum(sizes) or 1
    return [max(_LEAST, round(_ROOM / 2 / len(sizes) + _ROOM / 2 * size / total)) for size in sizes]


def _specs(index: GraphIndex, blocks: Sequence[Block], known: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    tensors = dict.fromkeys(t for b in blocks for t in (*b.reads, *b.makes))
    return {t: known[t] if t in known else index.tensors[t] for t in tensors}


def _block(
    name: str, index: GraphIndex, nodes: Sequence[str], inputs: Mapping[str, str], outputs: Mapping[str, str], room: int
) -> Block:
    """A section of an index. `inputs` and `outputs`: tensor of the index → tensor of the whole."""
    clusters = collapse(index, nodes, room)
    home = {n: i for i, c in enumerate(clusters) for n in c.nodes}
    edges: dict[tuple[int, int], None] = {}
    reads: dict[str, dict[int, None]] = {t: {} for t in inputs.values()}
    for place, cluster in enumerate(clusters):
        for member in cluster.nodes:
            for tensor in index.name_to_node_map[member].inputs:
                if tensor in inputs:
                    reads[inputs[tensor]][place] = None
                elif (maker := home.get(index.producer[tensor])) is not None and maker != place:
                    edges[maker, place] = None
    makes = {whole: home.get(index.producer[t]) for t, whole in outputs.items()}
    return Block(name, len(nodes), clusters, tuple(edges), {t: tuple(r) for t, r in reads.items()}, makes)
