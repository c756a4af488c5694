"""Repair of a border: what crosses without having been named is recomputed, added to the border, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex, Node
from graphsplit.planning.plan import Added, Repair
from graphsplit.planning.state import StateOrder

__all__ = ["Border", "Repairer"]

_CHAIN = 16  # nodes; a longer chain of shape arithmetic crosses the border instead of being recomputed


@dataclass(frozen=True, slots=True)
class Border:
    """What a section reads from outside.

    Attributes:
        inputs: Tensors that cross: inputs of the whole, named border tensors, and added ones.
        copied: Nodes of earlier sections that it computes again.
        added: Tensors among `inputs` that were not named.
    """

    inputs: dict[str, None]
    copied: set[str]
    added: tuple[Added, ...]


class Repairer:
    """Finds what each section reads from earlier ones.

    Args:
        index: The graph.
        owner: Node → number of the section that owns it; constants and inputs are owned by none.
        sections: Names of all sections.
        named: Tensors that the user named.
        repair: What to do with the others.
        state: The order of state.
    """

    def __init__(
        self,
        index: GraphIndex,
        owner: Mapping[str, int],
        sections: list[str],
        named: Set[str],
        repair: Repair,
        state: StateOrder,
    ) -> None:
        self.index, self.owner, self.sections, self.named, self.repair, self.state = index, owner, sections, named, repair, state
        self.nodes = index.name_to_node_map

    def border(self, number: int, owned: Iterable[Node]) -> Border:
        """The border before section `number`, which owns these nodes. Raises CutError if `repair` is "error"."""
        index = self.index
        inputs: dict[str, None] = {}
        unnamed: dict[str, str] = {}  # tensor → first consumer
        for node in owned:
            for tensor in node.inputs:
                producer = self.nodes[index.producer[tensor]]
                if producer.kind == "input" or (tensor in self.named and self._is_earlier(producer, number)):
                    inputs[tensor] = None
                elif self._is_earlier(producer, number):
                    unnamed.setdefault(tensor, node.name)
        copied: set[str] = set()
        added: list[Added] = []
        for tensor, consumer in unnamed.items():
            chain = self._chain(tensor, number, inputs)
            if chain is not None:
                copied |= chain
            else:
                added.append(self._added(tensor, number, consumer))
                inputs[tensor] = None
        for name in sorted(copied, key=index.node_seq.__getitem__):
            for tensor in self.nodes[name].inputs:
                producer = self.nodes[index.producer[tensor]]
                if producer.name not in copied and not producer.is_shared_constant:
                    inputs.setdefault(tensor)
        return Border(inputs, copied, tuple(added))

    def _is_earlier(self, node: Node, number: int) -> bool:
        return node.name in self.owner and self.owner[node.name] < number

    def _added(self, tensor: str, number: int, consumer: str) -> Added:
        index, section = self.index, self.sections[number]
        producer = self.nodes[index.producer[tensor]]
        earlier = self.sections[self.owner[producer.name]]
        if self.repair == "error":
            raise CutError(
                f"{tensor!r} crosses from {earlier!r} to {section!r} without having been named: {consumer!r} reads it; "
                'name it as a target, too, or let the split repair the border (repair="auto")',
                cut=(tensor,),
            )
        handles = sorted(self.named & index.handles) if producer.group is not None else []
        named = [t for t in handles if self.nodes[index.producer[t]].group == producer.group]
        if named:
            dtype = index.tensors[named[0]].dtype
            why = f"{named[0]} is a handle ({dtype}) and cannot cross, so what reads it stays in {earlier}"
        elif any(self.owner[n] < number for n in index.consumers[tensor] if n in self.owner):
            why = f"{earlier} and {section} both read it"
        else:
            why = f"{earlier} computes it on the way to its targets, or beside them"
        if producer.stateful and producer.group is None:
            why += f"; {producer.op} holds state and is never copied"
        return Added(tensor, section, consumer, why)

    def _chain(self, tensor: str, number: int, available: Mapping[str, None]) -> set[str] | None:
        """The nodes to recompute so that `tensor` need not cross; None if that is impossible or too expensive."""
        if self.repair in ("border", "error"):
            return None
        greedy = self.repair == "replicate"
        chain: set[str] = set()
        stack = [tensor]
        while stack:
            node = self.nodes[self.index.producer[stack.pop()]]
            copyable = self.state.copyable_without_control_inputs(node)
            if node.name in chain or (node.is_shared_constant and copyable):
                continue
            if node.kind == "input" or node.stateful or node.group is not None or not self._is_earlier(node, number):
                return None
            if any(t in self.index.defaults for t in node.outputs):  # a copy would not see what is fed
                return None
            # What crosses must not be computed as well: that would be two nodes of one name.
            if not copyable or any(t in available for t in node.outputs):
                return None
            chain.add(node.name)
            if greedy:
                stack.extend(t for t in node.inputs if t not in available and self.nodes[self.index.producer[t]].kind != "input")
            elif len(chain) > _CHAIN or not self._is_cheap(node, available):
                return None
            elif node.role != "shape":
                stack.extend(node.inputs)
        return chain

    def _is_cheap(self, node: Node, available: Mapping[str, None]) -> bool:
        if node.role == "shape":
            return all(t in available for t in node.inputs)
        return node.role == "arithmetic"
