"""A cut: the border tensors at which a section ends, and whether a graph can be cut there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from graphsplit.errors import CutError
from graphsplit.graph.index import GraphIndex
from graphsplit.graph.text import list_text, shortened
from graphsplit.graph.traversal import reachable

__all__ = ["Cut", "check_cut", "make_cut", "nearest_borders"]


@dataclass(frozen=True, slots=True, repr=False)
class Cut:
    """Where a section ends.

    Attributes:
        section: Name of the section that produces the tensors.
        tensors: Full tensor names, each once, in the order in which they were named.
    """

    section: str
    tensors: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Cut({shortened(self.section, 60)} ends at {list_text(self.tensors)})"


def make_cut(section: str, tensors: Iterable[str]) -> Cut:
    """A cut at tensors given by their full names. Raises CutError if there are none."""
    unique = tuple(dict.fromkeys(tensors))
    if not unique:
        raise CutError(f"section {section!r} has no border tensors; name at least one")
    return Cut(section, unique)


def check_cut(index: GraphIndex, cut: Cut, needed: Set[str], outputs: Set[str]) -> None:
    """Refuse a cut that cannot be made.

    Args:
        index: The graph.
        cut: The cut.
        needed: Names of the nodes that the outputs need.
        outputs: The tensors that the whole produces.

    Raises:
        CutError: for a constant, a tensor inside a loop or cond, and a tensor that feeds no output.
    """
    for tensor in cut.tensors:
        node = index.name_to_node_map[index.producer[tensor]]
        if node.is_shared_constant:
            raise CutError(
                f"{tensor!r} is a constant: every section that reads it gets its own copy, so it cannot end section "
                f"{cut.section!r}; name a tensor that is computed",
                cut=cut.tensors,
            )
        if tensor in index.captive and tensor not in index.handles:
            group = index.groups[node.group or ""]
            before, after = nearest_borders(index, tensor)
            raise CutError(
                f"{tensor!r} lies inside the {group.kind} {group.name!r}, which must stay whole; "
                f"the nearest legal borders are {_list(after)} after it and {_list(before)} before it",
                cut=cut.tensors,
            )
        read = any(name in needed for name in index.consumers.get(tensor, ()))
        if tensor not in outputs and not read:
            raise CutError(
                f"{tensor!r} feeds none of the outputs {_list(sorted(outputs))}; "
                "name a tensor on the way to one of them, or keep more with model_outputs=…",
                cut=cut.tensors,
            )


def nearest_borders(index: GraphIndex, tensor: str, limit: int = 3) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tensors that enter and tensors that leave the group around a tensor, the nearest first.

    Of a loop these are the inputs of its Enter nodes and the outputs of its Exit nodes, or what its TensorArrays are filled
    from and gathered into.

    Args:
        index: The graph.
        tensor: A tensor inside a group.
        limit: How many of each.
    """
    nodes, consumers = index.name_to_node_map, index.consumers
    start = nodes[index.producer[tensor]]
    members = set(index.groups[start.group or ""].nodes)
    before: dict[str, None] = {}
    after: dict[str, None] = {}

    def inside(name: str) -> Iterator[str]:
        """Neighbours in the group; those outside of it are noted on the way."""
        for read in nodes[name].inputs:
            producer = nodes[index.producer[read]]
            if producer.name in members:
                yield producer.name
            elif producer.kind != "const":
                before[read] = None
        for output in nodes[name].outputs:
            for reader in consumers.get(output, ()):
                if reader in members:
                    yield reader
                else:
                    after[output] = None

    reachable([start.name], inside)
    return tuple(before)[:limit], tuple(after)[:limit]


def _list(names: Iterable[str]) -> str:
    chosen = list(names)
    shown = ", ".join(chosen[:4]) + (" …" if len(chosen) > 4 else "")
    return f"[{shown}]" if chosen else "[none]"
