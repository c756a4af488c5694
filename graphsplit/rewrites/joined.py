"""The lists that join what the suppressions of all classes select: boxes, scores, class ids, values that are carried along.

class 0: NonMaxSuppression ─ gather, pad ─┐
class 1: NonMaxSuppression ─ gather, pad ─┼─ ConcatV2 ─ one list        rows of class 0 first, then those of class 1, …
                                          …
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from graphsplit.graph.index import Node
from graphsplit.graph.traversal import walk
from graphsplit.rewrites.matching import Matcher, NoMatch
from graphsplit.rewrites.suppression import ClassNms

__all__ = ["Joined", "read_joined"]


@dataclass(slots=True)
class Joined:
    """Joined lists of n rows.

    Attributes:
        boxes: float32 [n, 4]; empty if the graph does not join boxes.
        scores: float32 [n].
        classes: float32 [n]; empty if the graph does not join class ids.
        first: The id of column 0 of the scores; the others count up by one.
        padded: Whether each class has the same number of rows, padded with scores of -1.
        carried: Other lists, each with the [k, …] that it holds rows of.
    """

    boxes: str = ""
    scores: str = ""
    classes: str = ""
    first: float = 0.0
    padded: bool = False
    carried: list[tuple[str, str]] = field(default_factory=list)

    @property
    def lists(self) -> tuple[str, ...]:
        """Boxes, scores, class ids, and the other lists."""
        return self.boxes, self.scores, self.classes, *(tensor for tensor, _ in self.carried)


def read_joined(match: Matcher, classes: Sequence[ClassNms]) -> Joined:
    """Find and identify the lists that join what the classes selected. Raises NoMatch."""
    joined = Joined()
    for node in _concats(match, classes):
        if not match.is_number(node.inputs[-1], 0):
            raise NoMatch(f"{node.name!r} does not join rows")
        try:
            kinds = [_kind(match, c, i) for c, i in zip(classes, node.inputs, strict=False)]
        except NoMatch as why:
            raise NoMatch(f"{node.name!r} joins selected values with something unknown: {why}") from why
        names = {k[0] for k in kinds}
        tensor = node.outputs[0]
        if names == {"boxes"}:
            joined.boxes = tensor
        elif names == {"scores"} or names == {"padded scores"}:
            joined.scores, joined.padded = tensor, names == {"padded scores"}
        elif names == {"class"}:
            joined.classes, joined.first = tensor, float(kinds[0][1])
            if [float(k[1]) for k in kinds] != [joined.first + i for i in range(len(classes))]:
                raise NoMatch(f"{node.name!r} joins class ids that do not count up by one")
        elif names == {"rows"}:
            if len({k[1] for k in kinds}) != 1:
                raise NoMatch("masks or other values of each class are carried along")
            joined.carried.append((tensor, str(kinds[0][1])))
        else:
            raise NoMatch(f"{node.name!r} joins {' and '.join(sorted(names))}")
    if not joined.scores:
        raise NoMatch("the selected scores are not joined over the classes")
    return joined


def _concats(match: Matcher, classes: Sequence[ClassNms]) -> list[Node]:
    """The first nodes downstream of the suppressions that join one tensor per class."""
    suppressions = {c.node.name for c in classes}

    def joins(node: Node) -> bool:
        # What one class joins reads its suppression and its own padding; what joins the classes reads no suppression.
        within = node.inputs and match.index.producer[match.plain(node.inputs[0])] in suppressions
        return node.op == "ConcatV2" and len(node.inputs) == len(classes) + 1 and not within

    def readers(node: Node) -> Iterator[Node]:
        return (reader for tensor in node.outputs for reader in match.readers.get(tensor, ()))

    def onward(node: Node) -> Iterable[Node]:
        return () if joins(node) or node.op in ("Shape", "Size", "TensorArrayWriteV3", "Assert") else readers(node)

    return [node for node in walk((reader for c in classes for reader in readers(c.node)), onward) if joins(node)]


def _kind(match: Matcher, c: ClassNms, tensor: str) -> tuple[str, float | str]:
    """The role of a tensor of one class: boxes, scores, class id, rows of another tensor. Raises NoMatch."""
    tensor = match.plain(tensor)
    node = match.maker(tensor)
    if tensor == f"{c.node.name}:1" and node.op == "NonMaxSuppressionV5":
        return "scores", 0.0
    if node.op in ("GatherV2", "Gather"):
        return _gathered(match, c, node)
    if node.op in ("Select", "SelectV2"):
        less = match.node(node.inputs[0], "Less")
        if not match.same(match.first(less.inputs[0]), c.node.inputs[2]) or not _is_count(match, c, less.inputs[1]):
            raise NoMatch(f"{node.name!r} selects by something other than the number of selected boxes")
        size = match.fill(node.inputs[2], -1)
        if not (size is None or match.same(size, c.node.inputs[2])) or not _are_scores(match, c, node.inputs[1]):
            raise NoMatch(f"{node.name!r} does not pad scores with -1")
        return "padded scores", 0.0
    source, number = match.plus(tensor)
    zeros = match.node(source, "ZerosLike")
    if _kind(match, c, zeros.inputs[0])[0] not in ("scores", "padded scores"):
        raise NoMatch(f"{node.name!r} is not the class id of the scores")
    return "class", number


def _gathered(match: Matcher, c: ClassNms, node: Node) -> tuple[str, float | str]:
    source, indices = match.gather(node.outputs[0])
    if not _are_selected(match, c, indices):
        raise NoMatch(f"{node.name!r} gathers by something other than the selected indices")
    if match.same(source, c.node.inputs[0]):
        return "boxes", 0.0
    if match.same(source, c.node.inputs[1]):
        return "scores", 0.0
    for kept in c.filters:
        source, indices = match.gather(source)
        if indices != kept:
            raise NoMatch(f"{node.name!r} gathers rows that were filtered differently")
    return "rows", match.here(source)


def _are_selected(match: Matcher, c: ClassNms, indices: str) -> bool:
    """Whether indices are those that a class selected, possibly padded with zeros."""
    selected = f"{c.node.name}:0"
    return indices == selected or (match.maker(indices).op == "ConcatV2" and _padded(match, c, match.maker(indices)) == selected)


def _are_scores(match: Matcher, c: ClassNms, tensor: str) -> bool:
    node = match.maker(match.plain(tensor))
    if node.op == "ConcatV2":
        return _padded(match, c, node) == f"{c.node.name}:1"
    return _kind(match, c, tensor)[0] == "scores"


def _padded(match: Matcher, c: ClassNms, node: Node) -> str:
    """x, for x padded with zeros to the maximum of a class. Raises NoMatch."""
    size = match.fill(node.inputs[1], 0) if len(node.inputs) == 3 else None
    left = None if size is None else match.node(size, "Sub")
    if left is None or not match.same(left.inputs[0], c.node.inputs[2]) or not _is_count(match, c, left.inputs[1]):
        raise NoMatch(f"{node.name!r} does not pad to the maximum of a class")
    return match.plain(node.inputs[0])


def _is_count(match: Matcher, c: ClassNms, tensor: str) -> bool:
    """Whether a tensor is the number of boxes that a class selected."""
    if c.node.op == "NonMaxSuppressionV4" and match.plain(tensor) == f"{c.node.name}:1":
        return True
    return match.rows_of(tensor) == f"{c.node.name}:0"
