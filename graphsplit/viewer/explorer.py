"""The graph as ai-edge-model-explorer reads it: sections as coloured groups, scopes inside, border tensors between them.

    main (blue) ─▶ [border: Postprocessor/Slice:0, float32 [?, 1917, 90] · 690.1 KB] ─▶ post (orange)

Constants are not nodes; the nodes that read them list them. A node that several sections hold appears in each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graphsplit.diagram.colours import tint
from graphsplit.formats import Model
from graphsplit.graph.index import GraphIndex, Node, TensorSpec
from graphsplit.graph.text import bytes_text, shape_text, shortened, spec_text
from graphsplit.planning.plan import Plan

__all__ = ["graph_of", "node_data", "tensor_of", "web_files"]

_GRAPH = "plan"
_BORDER = {"backgroundColor": "#fff7c2", "borderColor": "#a68a00"}
_OUTSIDE = {"backgroundColor": "#eceff2", "borderColor": "#6b7280"}
_LAYOUT = {"keepLayersWithASingleChild": True}  # a section of one node is a section, too
_COLD, _WARM, _HOT = "#fff5eb", "#fd8d3c", "#a63603"


def web_files() -> Path | None:
    """The folder of the explorer's web page, which comes with its package; None if that is not installed."""
    found = find_spec("model_explorer")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(next(iter(found.submodule_search_locations))) / "web_app"
    return folder if (folder / "index.html").is_file() else None


def graph_of(model: Model, plan: Plan, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    """A plan as a graph collection of the explorer.

    Args:
        model: The model.
        plan: Its plan.
        specs: Dtypes and shapes of tensors that cross; for others the index is asked.
    """
    return {"label": "", "graphs": [_Graph(model, plan, specs).build()]}


def node_data(index: GraphIndex, cost: Mapping[str, int]) -> dict[str, Any]:
    """Estimated cost of each node, for the heat map; by the names of its outputs, so that it holds for every plan."""
    results = {index.name_to_node_map[name].outputs[0]: {"value": value} for name, value in cost.items()}
    stops = [{"stop": 0, "bgColor": _COLD}, {"stop": 0.2, "bgColor": _WARM}, {"stop": 1, "bgColor": _HOT}]
    return {_GRAPH: {"name": "estimated operations", "results": results, "gradient": stops}}


def _id(section: str, node: str) -> str:
    return f"{section}::{node}"


def tensor_of(model: Model, node_id: str) -> tuple[str, ...]:
    """The tensors that a node selected in the explorer represents; none for a group."""
    kind, _, name = node_id.partition("::")
    if kind == "tensor":
        return (name,) if name in model.index.producer else ()
    node = model.index.name_to_node_map.get(name)
    return () if node is None else node.outputs


class _Graph:
    def __init__(self, model: Model, plan: Plan, specs: Mapping[str, TensorSpec]) -> None:
        self.model, self.plan, self.specs = model, plan, specs
        self.index = model.index
        self.borders = set(plan.borders)

    def build(self) -> dict[str, Any]:
        nodes = [self._outside("input", t, None) for t in self.plan.inputs]
        for section in self.plan.sections:
            held = set(section.nodes)
            members = [self.index.name_to_node_map[n] for n in section.nodes]
            nodes += [self._node(section.name, n, held, set(section.inputs)) for n in members if n.kind == "op"]
            nodes += [self._outside("border", t, section.name) for t in section.outputs if t in self.borders]
            ends = [t for t in section.outputs if t in self.plan.outputs and t not in self.borders]
            nodes += [self._outside("output", t, section.name) for t in ends]
        nodes = list({n["id"]: n for n in reversed(nodes)}.values())[::-1]  # an input of the whole may be its output, too
        made = {n["id"] for n in nodes}
        for node in nodes:  # what passes from input to output untouched has no maker here
            node["incomingEdges"] = [e for e in node["incomingEdges"] if e["sourceNodeId"] in made]
        groups = [
            {"namespaceRegex": f"^{s.name}$", "backgroundColor": tint(s.name).back, "borderColor": tint(s.name).frame}
            for s in self.plan.sections
        ]
        about = {s.name: {"nodes": f"{len(s.nodes):,}", "given": ", ".join(s.inputs)} for s in self.plan.sections}
        return {"id": _GRAPH, "nodes": nodes, "groupNodeConfigs": groups, "groupNodeAttributes": about, "layoutConfigs": _LAYOUT}

    def _spec(self, tensor: str) -> TensorSpec:
        return self.specs[tensor] if tensor in self.specs else self.index.tensors[tensor]

    def _outside(self, kind: str, tensor: str, section: str | None) -> dict[str, Any]:
        """A tensor that enters, crosses or leaves, as a node between the sections."""
        spec = self._spec(tensor)
        size = spec.frame().nbytes
        edges = [] if section is None else [self._edge(_id(section, self.index.producer[tensor]), tensor, 0)]
        attrs = {"tensor": tensor, "dtype": spec.dtype or "?", "shape": shape_text(spec.shape), "what": kind}
        attrs["bytes a frame"] = bytes_text(size)
        added = next((a for a in self.plan.added if a.tensor == tensor), None)
        if added is not None:
            attrs["added because"] = f"{added.reason}; read by {added.consumer}"
        return {
            "id": _id("tensor", tensor),
            "label": f"{shortened(tensor, 34)}\n{spec.dtype or '?'} {shape_text(spec.shape)}"
            + (f"\n{bytes_text(size)}" if size is not None else ""),
            "namespace": "",
            "attrs": _pairs(attrs),
            "incomingEdges": edges,
            "outputsMetadata": [],  # their names would make the cost of the maker count twice
            "style": _BORDER if kind == "border" else _OUTSIDE,
        }

    def _edge(self, source: str, tensor: str, place: int) -> dict[str, Any]:
        maker = self.index.name_to_node_map[self.index.producer[tensor]]
        port = str(maker.outputs.index(tensor)) if not source.startswith("tensor::") else "0"
        return {"sourceNodeId": source, "sourceNodeOutputId": port, "targetNodeInputId": str(place)}

    def _node(self, section: str, node: Node, held: set[str], given: set[str]) -> dict[str, Any]:
        edges, constants = [], []
        for place, tensor in enumerate(node.inputs):
            maker = self.index.name_to_node_map[self.index.producer[tensor]]
            if tensor in given:
                edges.append(self._edge(_id("tensor", tensor), tensor, place))
            elif maker.kind == "const":
                constants.append(f"{maker.name} {spec_text(self.index.tensors[tensor])}")
            elif maker.name in held:
                edges.append(self._edge(_id(section, maker.name), tensor, place))
        attrs = {"name": node.name, "op": node.op, "section": section}
        if constants:
            attrs["constants"] = "; ".join(constants[:8])
        if node.group is not None:
            attrs["stays together with"] = f"{self.index.groups[node.group].kind} {node.group}"
        scope = node.name.partition(";")[0].rpartition("/")[0]
        return {
            "id": _id(section, node.name),
            "label": node.op,
            "namespace": f"{section}/{scope}" if scope else section,
            "attrs": _pairs(attrs),
            "incomingEdges": edges,
            "outputsMetadata": [self._metadata(str(i), t) for i, t in enumerate(node.outputs)],
        }

    def _metadata(self, port: str, tensor: str) -> dict[str, Any]:
        spec = self._spec(tensor)
        attrs = {"tensor_name": tensor, "shape": f"{spec.dtype or '?'} {shape_text(spec.shape)}"}
        return {"id": port, "attrs": _pairs(attrs)}


def _pairs(attrs: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": k, "value": v} for k, v in attrs.items()]
