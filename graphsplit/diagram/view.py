"""What a picture shows of a model, a plan or parts: sections, clusters of nodes, tensors and edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphsplit.diagram.scopes import Cluster, collapse
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex, TensorSpec
from graphsplit.parts.parts import Part, Parts
from graphsplit.planning.plan import Plan
from graphsplit.planning.targets.answer import Answer

__all__ = ["Block", "Scene", "plan_scene", "scene_of"]

_ROOM = 32  # clusters in a picture, all sections together
_LEAST = 4  # clusters of a section


@dataclass(frozen=True, slots=True)
class Block:
    """A section.

    Attributes:
        name: Name of the section; ``whole`` for a model that is not divided.
        size: Number of its nodes, copies of constants included.
        clusters: In file order.
        edges: Pairs of indexes into `clusters`: producer, consumer.
        reads: Input, named as in the whole → indexes of the clusters that read it.
        makes: Output, named as in the whole → index of the cluster that produces it; None for an input that is passed through.
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

    Attributes:
        title: File name of the model, or stem of the split.
        blocks: Sections, in the order they run.
        inputs: Tensors to feed.
        outputs: Tensors to fetch.
        specs: Tensor that enters or leaves a section → its dtype and shape; tensors may be missing.
        added: Border tensors that the user did not name.
        target: What a target takes of the accelerator's sections, if the split was made for one.
    """

    title: str
    blocks: tuple[Block, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    specs: Mapping[str, TensorSpec]
    added: frozenset[str]
    target: Answer | None = None

    @property
    def borders(self) -> tuple[str, ...]:
        """Tensors that one section produces and a later one reads, in the order they are produced."""
        produced: dict[str, None] = {}
        crossing: set[str] = set()
        for block in self.blocks:
            crossing |= {t for t in block.reads if t in produced}
            produced |= dict.fromkeys(block.makes)
        return tuple(t for t in produced if t in crossing)


def scene_of(what: Model | Parts | Part, specs: Mapping[str, TensorSpec]) -> Scene:
    """The scene of a model, of parts or of one of them.

    Args:
        what: What to draw.
        specs: Dtypes and shapes of tensors that enter or leave sections, over those that parts and indexes state.
    """
    if isinstance(what, Parts):
        specs = {**_stated(what), **specs}
        if what.plan is None or what.source.model is None:
            return _of_parts(what, specs)
        return plan_scene(what.plan, what.source.model, specs)
    if isinstance(what, Part):
        block = _of_part(what, _ROOM)
        return Scene(what.name, (block,), tuple(block.reads), tuple(block.makes), {**_stated([what]), **specs}, frozenset())
    index = what.index
    names = tuple(n.name for n in index.nodes)
    block = _block("whole", index, names, {t: t for t in index.inputs}, {t: t for t in index.outputs}, _ROOM)
    return Scene(_title(what), (block,), index.inputs, index.outputs, _specs(index, (block,), specs), frozenset())


def plan_scene(plan: Plan, model: Model | None, specs: Mapping[str, TensorSpec]) -> Scene:
    """The scene of a plan; without the model that it divides each section is one cluster, since a plan holds names only.

    Args:
        plan: The plan to draw.
        model: The model that it divides.
        specs: Dtypes and shapes of tensors that enter or leave sections, over those that the index states.
    """
    if model is None:
        return _of_names(plan, specs)
    index = model.index
    rooms = _rooms([len(s.nodes) for s in plan.sections])
    blocks = tuple(
        _block(s.name, index, s.nodes, {t: t for t in s.inputs}, {t: t for t in s.outputs}, room)
        for s, room in zip(plan.sections, rooms, strict=True)
    )
    added = frozenset(a.tensor for a in plan.added)
    return Scene(_title(model), blocks, plan.inputs, plan.outputs, _specs(index, blocks, specs), added, plan.target)


def _title(model: Model) -> str:
    return "model" if model.path is None else model.path.name


def _stated(parts: Iterable[Part]) -> dict[str, TensorSpec]:
    """Dtypes and shapes of tensors of the whole, as parts state them."""
    return {p.tensor: TensorSpec(p.tensor, p.dtype, p.shape) for part in parts for p in (*part.inputs, *part.outputs)}


def _of_names(plan: Plan, specs: Mapping[str, TensorSpec]) -> Scene:
    """A plan alone: names of nodes and tensors, no ops and no edges inside of sections."""
    blocks = []
    for section in plan.sections:
        outputs = {t: None if t in section.inputs else 0 for t in section.outputs}
        clusters = (_scopes(section.nodes),)
        blocks.append(Block(section.name, len(section.nodes), clusters, (), dict.fromkeys(section.inputs, (0,)), outputs))
    return Scene("plan", tuple(blocks), plan.inputs, plan.outputs, specs, frozenset(a.tensor for a in plan.added), plan.target)


def _scopes(nodes: Sequence[str]) -> Cluster:
    """All nodes of a section as one cluster, named after the scope that most of them lie in."""
    scopes = Counter(name.partition(";")[0].partition("/")[0] for name in nodes)
    largest = max(scopes, key=scopes.__getitem__, default="")
    return Cluster(largest + (" …" if len(scopes) > 1 else ""), tuple(nodes), ())


def _of_parts(parts: Parts, specs: Mapping[str, TensorSpec]) -> Scene:
    """Parts from a folder, each with an index of its own."""
    rooms = _rooms([len(p.model.index.nodes) for p in parts])
    blocks = tuple(_of_part(p, room) for p, room in zip(parts, rooms, strict=True))
    added = frozenset(a.tensor for a in parts.added)
    return Scene(parts.source.stem, blocks, parts.inputs, parts.outputs, specs, added, parts.target)


def _of_part(part: Part, room: int) -> Block:
    """A part, whose model may have other names for tensors of the whole."""
    index = part.model.index
    inputs = {index.tensor(p.name): p.tensor for p in part.inputs}
    outputs = {index.tensor(p.name): p.tensor for p in part.outputs}
    return _block(part.name, index, [n.name for n in index.nodes], inputs, outputs, room)


def _rooms(sizes: Sequence[int]) -> list[int]:
    """The most clusters of each section: half of all shared evenly, half by the number of nodes."""
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
