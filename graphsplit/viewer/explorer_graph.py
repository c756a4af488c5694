"""The graph as ai-edge-model-explorer reads it: sections as coloured groups, scopes inside, border tensors between them.

    main (blue) ─▶ [border: Postprocessor/Slice:0, float32 [?, 1917, 90] · 690.1 KB] ─▶ post (orange)

Constants are not nodes; the nodes that read them list them. A node that several sections hold appears in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TypedDict

from graphsplit.diagram.colours import REFUSED, tint
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.graph.text import bytes_text, shape_text, shortened, spec_text
from graphsplit.planning.plan import Plan, Section

__all__ = ["graph_of", "node_data", "node_of", "tensors_of_node"]

_GRAPH = "plan"
_BORDER = {"backgroundColor": "#fff7c2", "borderColor": "#a68a00"}
_OUTSIDE = {"backgroundColor": "#eceff2", "borderColor": "#6b7280"}
_REFUSED = {"backgroundColor": REFUSED.back, "borderColor": REFUSED.frame}
_LAYOUT = {"keepLayersWithASingleChild": True}  # a section of one node is a section, too
_COLD, _WARM, _HOT = "#fff5eb", "#fd8d3c", "#a63603"
_NOTHING: Mapping[str, str] = MappingProxyType({})
_LISTED = 8  # constants of a node


# The explorer's own names, see its graph_builder.py.
class _Edge(TypedDict):
    sourceNodeId: str
    sourceNodeOutputId: str
    targetNodeInputId: str


class _Node(TypedDict):
    id: str
    label: str
    namespace: str
    attrs: list[dict[str, str]]
    incomingEdges: list[_Edge]
    outputsMetadata: list[dict[str, object]]


class _Styled(_Node):
    style: dict[str, str]


def graph_of(
    model: Model, plan: Plan, spec: Callable[[str], TensorSpec], refused: Mapping[str, str] = _NOTHING, by: str = ""
) -> dict[str, object]:
    """A plan as a graph collection of the explorer.

    Args:
        model: The model.
        plan: Its plan.
        spec: Tensor → its dtype and shape.
        refused: Node that a target refuses → reason.
        by: Name of that target.
    """
    return {"label": "", "graphs": [_Graph(model.index, plan, spec, refused, by).build()]}


def node_data(index: GraphIndex, costs: Mapping[str, int], refused: Mapping[str, str] = _NOTHING) -> dict[str, object]:
    """Estimated cost of each node for the heat map, by the names of its outputs, so that it holds for every plan.

    Args:
        index: The graph.
        costs: Node → operations per frame.
        refused: Nodes without heat, which would cover their colour.
    """
    heat = {name: value for name, value in costs.items() if name not in refused}
    results = {index.name_to_node_map[name].outputs[0]: {"value": value} for name, value in heat.items()}
    stops = [{"stop": 0, "bgColor": _COLD}, {"stop": 0.2, "bgColor": _WARM}, {"stop": 1, "bgColor": _HOT}]
    return {_GRAPH: {"name": "estimated operations", "results": results, "gradient": stops}}


def tensors_of_node(model: Model, node_id: str) -> tuple[str, ...]:
    """The tensors that a node of the explorer represents; none for a group."""
    kind, _, name = node_id.partition("::")
    if kind == "tensor":
        return (name,) if name in model.index.producer else ()
    node = model.index.name_to_node_map.get(name)
    return () if node is None else node.outputs


def node_of(node_id: str) -> str:
    """The name of the node that a node of the explorer represents; empty for a tensor."""
    kind, _, name = node_id.partition("::")
    return "" if kind == "tensor" else name


class _Graph:
    def __init__(
        self, index: GraphIndex, plan: Plan, spec: Callable[[str], TensorSpec], refused: Mapping[str, str], by: str
    ) -> None:
        self.index, self.plan, self.spec, self.refused, self.by = index, plan, spec, refused, by

    def build(self) -> dict[str, object]:
        nodes: list[_Node] = [self._outside("input", t, None) for t in self.plan.inputs]
        for section in self.plan.sections:
            nodes += self._section(section)
        nodes = list({n["id"]: n for n in reversed(nodes)}.values())[::-1]  # an input of the whole may be its output, too
        ids = {n["id"] for n in nodes}
        for node in nodes:  # a tensor that passes from input to output has no producer here
            node["incomingEdges"] = [e for e in node["incomingEdges"] if e["sourceNodeId"] in ids]
        groups = [
            {"namespaceRegex": f"^{s.name}$", "backgroundColor": tint(s.name).back, "borderColor": tint(s.name).frame}
            for s in self.plan.sections
        ]
        about = {s.name: {"nodes": f"{len(s.nodes):,}", "inputs": ", ".join(s.inputs)} for s in self.plan.sections}
        return {"id": _GRAPH, "nodes": nodes, "groupNodeConfigs": groups, "groupNodeAttributes": about, "layoutConfigs": _LAYOUT}

    def _section(self, section: Section) -> list[_Node]:
        """The nodes of a section, and the tensors that leave it."""
        held, inputs, borders = set(section.nodes), set(section.inputs), set(self.plan.borders)
        members = [self.index.name_to_node_map[n] for n in section.nodes]
        nodes = [self._inside(section.name, n, held, inputs) for n in members if n.kind == "op"]
        nodes += [self._outside("border", t, section.name) for t in section.outputs if t in borders]
        ends = [t for t in section.outputs if t in self.plan.outputs and t not in borders]
        return nodes + [self._outside("output", t, section.name) for t in ends]

    def _outside(self, kind: str, tensor: str, section: str | None) -> _Styled:
        """A tensor that enters, crosses or leaves, as a node between the sections."""
        spec = self.spec(tensor)
        size = spec.frame().nbytes
        typed = f"{spec.dtype or '?'} {shape_text(spec.shape)}"
        attrs = {"tensor": tensor, "dtype": spec.dtype or "?", "shape": shape_text(spec.shape), "kind": kind}
        attrs["bytes per frame"] = bytes_text(size)
        added = next((a for a in self.plan.added if a.tensor == tensor), None)
        if added is not None:
            attrs["added because"] = f"{added.reason}; read by {added.consumer}"
        return {
            "id": _id("tensor", tensor),
            "label": "\n".join([shortened(tensor, 34), typed, *([] if size is None else [bytes_text(size)])]),
            "namespace": "",
            "attrs": _pairs(attrs),
            "incomingEdges": [] if section is None else [self._edge(_id(section, self.index.producer[tensor]), tensor, 0)],
            "outputsMetadata": [],  # with their names, the cost of the producer would count twice
            "style": _BORDER if kind == "border" else _OUTSIDE,
        }

    def _inside(self, section: str, node: Node, held: Collection[str], inputs: Collection[str]) -> _Node:
        """A node of a section.

        Args:
            section: Name of the section.
            node: The node.
            held: Names of the nodes of the section.
            inputs: Tensors that enter the section.
        """
        edges, constants = [], []
        for place, tensor in enumerate(node.inputs):
            producer = self.index.name_to_node_map[self.index.producer[tensor]]
            if tensor in inputs:
                edges.append(self._edge(_id("tensor", tensor), tensor, place))
            elif producer.kind == "const":
                constants.append(f"{producer.name} {spec_text(self.index.tensors[tensor])}")
            elif producer.name in held:
                edges.append(self._edge(_id(section, producer.name), tensor, place))
        attrs = {"name": node.name, "op": node.op, "section": section}
        if constants:
            attrs["constants"] = "; ".join(constants[:_LISTED])
        if node.group is not None:
            attrs["stays together with"] = f"{self.index.groups[node.group].kind} {node.group}"
        if node.name in self.refused:
            attrs["refused"] = f"by {self.by}: {self.refused[node.name]}"
        scope = node.name.partition(";")[0].rpartition("/")[0]
        inside: _Node = {
            "id": _id(section, node.name),
            "label": node.op,
            "namespace": f"{section}/{scope}" if scope else section,
            "attrs": _pairs(attrs),
            "incomingEdges": edges,
            "outputsMetadata": [self._metadata(str(port), t) for port, t in enumerate(node.outputs)],
        }
        return _Styled(**inside, style=_REFUSED) if node.name in self.refused else inside

    def _edge(self, source: str, tensor: str, place: int) -> _Edge:
        """An edge from the node `source`, which has the tensor among its outputs, to the input `place` of its reader."""
        producer = self.index.name_to_node_map[self.index.producer[tensor]]
        port = "0" if source.startswith("tensor::") else str(producer.outputs.index(tensor))
        return {"sourceNodeId": source, "sourceNodeOutputId": port, "targetNodeInputId": str(place)}

    def _metadata(self, port: str, tensor: str) -> dict[str, object]:
        spec = self.spec(tensor)
        attrs = {"tensor_name": tensor, "shape": f"{spec.dtype or '?'} {shape_text(spec.shape)}"}
        return {"id": port, "attrs": _pairs(attrs)}


def _id(section: str, node: str) -> str:
    return f"{section}::{node}"


def _pairs(attrs: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in attrs.items()]
