"""Whether a plan was made for a model: what it takes for granted about the graph, as a checksum."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex
from graphsplit.planning.plan import Plan, Section

__all__ = ["check_belongs", "fingerprint_of"]


def fingerprint_of(index: GraphIndex, sections: Sequence[Section]) -> str:
    """A checksum of the nodes of some sections, with their ops and all that they read, and of the dtypes at the borders."""
    nodes, tensors = index.name_to_node_map, index.tensors
    total = sha256()
    for section in sections:
        for name in section.nodes:
            node = nodes[name]
            total.update(repr((name, node.op, node.inputs, node.control_inputs, node.group)).encode("utf-8", "surrogatepass"))
        for tensor in (*section.inputs, *section.outputs):
            total.update(repr((tensor, tensors[tensor].dtype, index.producer[tensor])).encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def check_belongs(index: GraphIndex, plan: Plan) -> None:
    """Refuse a plan that was made for another graph, also where both have nodes of the same names.

    Raises:
        CutError: Says what differs.
    """
    names = (name for section in plan.sections for name in section.nodes)
    missing = next((f"node {name!r}" for name in names if name not in index.name_to_node_map), None)
    if missing is None:
        read = (t for section in plan.sections for t in (*section.inputs, *section.outputs))
        missing = next((f"tensor {tensor!r}" for tensor in read if tensor not in index.tensors), None)
    if missing is not None:
        raise CutError(f"the plan was made for another model: this one has no {missing}; plan it again")
    if plan.fingerprint and fingerprint_of(index, plan.sections) != plan.fingerprint:
        raise CutError(
            "the plan was made for another model: in this one nodes of the same names have other ops, inputs or dtypes; "
            "plan it again"
        )
