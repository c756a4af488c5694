"""What follows a multiclass suppression: the joined lists are sorted, clipped and cut.

    lists ─ sort ─ clip, drop what has no area ─ mark what has no area with -1 ─ sort ─ take the best ─ take the valid ones

The replacement depends on it: boxes that are dropped here can be left out, and of lists that are cut to the best few only the
best are needed. The replaced lists are therefore shorter, and nothing except these steps may read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import eq

from graphsplit.graph.index import Node
from graphsplit.graph.traversal import reachable
from graphsplit.rewrites.boxes import Window, area, clipped, keeps_area, row_filter, valid_count
from graphsplit.rewrites.joined import Joined
from graphsplit.rewrites.matching import Matcher, NoMatch

__all__ = ["Following", "read_following"]

_STEPS = 8  # sort, clip, mark, sort, take, take: no list goes through more

# Ops that compute each row of a list independently; one of two inputs may be the same for all rows.
_ROW_BY_ROW = ("Identity", "Cast", "Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum", "ZerosLike", "OnesLike")
_COLUMNS = {"Split": 0, "ConcatV2": -1, "Concat": 0}  # ops that do so along axis 1 → index of the input that is the axis


@dataclass(frozen=True, slots=True)
class Following:
    """What follows the joined lists.

    Attributes:
        total: The most detections of all classes.
        window: Scalars ymin, xmin, ymax, xmax to which boxes are clipped; None: they are not.
    """

    total: int
    window: Window | None


def read_following(match: Matcher, joined: Joined) -> Following:
    """Read the steps that follow the joined lists. Raises NoMatch, also if anything else reads the lists."""
    steps = _Steps(match, joined)
    for _ in range(_STEPS):
        if steps.valid or not (steps.sort() or steps.clip() or steps.mark() or steps.take()):
            break
    if not steps.total:
        raise NoMatch("the suppression is not followed by the sort, clip and cut of the Object Detection API")
    if joined.padded and not steps.valid:
        raise NoMatch("each class is padded, and none of the recognised steps drops the padding")
    steps.check_readers(joined)
    return Following(steps.total, steps.window)


class _Steps:
    """The lists, one step after the other.

    Attributes:
        boxes: Boxes after the current step; empty if the graph drops them.
        scores: Scores after the current step.
        lists: All lists after the current step; row i of each belongs to the same detection.
        past: All lists after this and earlier steps.
        counted: Those of them with as many rows as the current lists, or as the lists before the last take.
        dependent: All tensors that are computed from the joined lists.
        known: Names of the nodes of the steps.
        ends: Names of the nodes of the last take, whose values the replacement does not change.
    """

    def __init__(self, match: Matcher, joined: Joined) -> None:
        self.match, self.padded = match, joined.padded
        self.boxes, self.scores, *_ = joined.lists
        self.lists = {t for t in joined.lists if t}
        self.dependent = _dependent(match, self.lists)
        self.past: set[str] = set()
        self.counted: set[str] = set()
        self.known: set[str] = set()
        self.ends: set[str] = set()
        self.total, self.in_order, self.valid = 0, False, False
        self.window: Window | None = None
        self._extend()

    def sort(self) -> bool:
        match = self.match
        for node in match.readers.get(self.scores, ()):
            if node.op == "TopKV2" and node.inputs[0] == self.scores:
                with match.tracing() as seen:
                    if match.rows_of(node.inputs[1]) not in self.counted:
                        raise NoMatch(f"{node.name!r} does not sort the whole list")
                self.known |= seen | {node.name}
                self._gather(partial(eq, node.outputs[1]), self.counted)
                if not self.scores:
                    raise NoMatch("sorted scores are not gathered")
                self.in_order = True
                return True
        return False

    def clip(self) -> bool:
        match = self.match
        for indices, _ in row_filter(match, self.scores):
            try:
                with match.tracing() as seen:
                    kept = keeps_area(match, indices)
                    source, window = clipped(match, kept)
            except NoMatch:
                continue
            if source != self.boxes:
                raise NoMatch("the clipped boxes are not those of the scores")
            if self.window is not None:
                raise NoMatch("boxes are clipped twice")
            self.window, self.boxes = window, kept
            self.known |= seen
            self._gather(partial(eq, indices), set())
            return True
        return False

    def mark(self) -> bool:
        match = self.match
        for node in match.readers.get(self.scores, ()):
            if node.op not in ("Select", "SelectV2") or node.inputs[1] != self.scores:
                continue
            with match.tracing() as seen:
                try:
                    size = match.fill(node.inputs[2], -1)
                except NoMatch:
                    continue
                if size is not None and match.rows_of(size) not in self.counted:
                    raise NoMatch(f"{node.name!r} does not mark the whole list")
                cast = match.node(node.inputs[0], "Cast", "NotEqual")
                if area(match, cast.inputs[0]) != self.boxes:
                    raise NoMatch(f"{node.name!r} drops boxes by something other than their area")
            self.known |= seen | {node.name}
            self.scores = node.outputs[0]
            self.lists.add(self.scores)
            self._extend()
            return True
        return False

    def take(self) -> bool:
        match = self.match
        for indices, _ in row_filter(match, self.scores):
            try:
                limit = match.first(indices)
            except NoMatch:
                continue
            if not self.in_order:
                raise NoMatch("the first rows are taken from a list that is not sorted")
            with match.tracing() as seen:
                most, self.valid = self._limit(limit)
            self.total = min(self.total or most, most)
            self.known |= seen
            self.ends = {match.maker(match.plain(limit)).name}
            self._gather(partial(self._counts_to, limit), self.counted, ends=True)
            return True
        return False

    def _limit(self, limit: str) -> tuple[int, bool]:
        """The most rows that a take keeps, and whether only valid ones. Raises NoMatch."""
        match = self.match
        node = match.maker(match.plain(limit))
        valid = node.op in ("Select", "SelectV2")
        most, rows = match.minimum(self._unless_valid_are_fewer(node) if valid else limit)
        if (rows is None and self.padded) or (rows is not None and match.rows_of(rows) not in self.counted):
            raise NoMatch(f"{node.name!r} does not count the rows of the list")
        if most < 1:
            raise NoMatch(f"at most {most} of all classes")
        return most, valid

    def _unless_valid_are_fewer(self, node: Node) -> str:
        """x, for a node that is the minimum of x and the number of valid scores. Raises NoMatch."""
        match = self.match
        greater = match.node(node.inputs[0], "Greater")
        if valid_count(match, greater.inputs[1]) not in self.past:
            raise NoMatch(f"{node.name!r} counts other scores")
        if not (match.same(node.inputs[1], greater.inputs[1]) and match.same(node.inputs[2], greater.inputs[0])):
            raise NoMatch(f"{node.name!r} is not the number of valid boxes")
        return greater.inputs[0]

    def _counts_to(self, limit: str, indices: str) -> bool:
        try:
            return self.match.same(self.match.first(indices), limit)
        except NoMatch:
            return False

    def _gather(self, fits: Callable[[str], bool], counted: set[str], *, ends: bool = False) -> None:
        """Replace the lists by their rows at the indices that fit; a list that is not gathered is dropped."""
        rows: dict[str, str] = {}
        for tensor in self.lists:
            for indices, gathered in row_filter(self.match, tensor):
                if fits(indices):
                    rows[tensor] = gathered
                    names = {self.match.index.producer[t] for t in (indices, gathered)}
                    self.known |= names
                    self.ends |= names if ends else set()
        self.boxes, self.scores = rows.get(self.boxes, ""), rows.get(self.scores, "")
        self.lists, self.counted = set(rows.values()), counted
        self._extend()

    def _extend(self) -> None:
        """Add what is computed row by row from the lists: boxes in other coordinates, for instance."""
        stack = list(self.lists)
        while stack:
            for node in self.match.readers.get(stack.pop(), ()):
                if not self.lists.issuperset(node.outputs) and self._is_row_by_row(node):
                    self.known.add(node.name)
                    self.lists.update(node.outputs)
                    stack += node.outputs
        self.past |= self.lists
        self.counted = self.counted | self.lists

    def _is_row_by_row(self, node: Node) -> bool:
        match = self.match
        inputs = list(node.inputs)
        if node.op in _COLUMNS:
            if not match.is_number(inputs.pop(_COLUMNS[node.op]), 1):
                return False
        elif node.op not in _ROW_BY_ROW:
            return False
        if any(t in self.dependent and t not in self.lists for t in inputs):
            return False
        values = [match.value(t) for t in inputs]
        return all(value is None or value.shape in ((), (1,), (4,)) for value in values)  # one for all, or one per coordinate

    def check_readers(self, joined: Joined) -> None:
        """Check that only the steps read the lists and what is computed from them, as far as outputs need it. Raises NoMatch."""
        match = self.match
        stack = [t for t in joined.lists if t]
        seen: set[str] = set()
        while stack:
            tensor = stack.pop()
            if tensor in match.index.outputs:
                raise NoMatch(f"{tensor} is an output of the model")
            for node in match.readers.get(tensor, ()):
                if node.name not in match.reaching or node.name in seen:  # Asserts may read anything
                    continue
                if node.name not in self.known:
                    raise NoMatch(f"{tensor} is read by {node.name!r} ({node.op}), too")
                seen.add(node.name)
                if node.name not in self.ends:
                    stack += node.outputs


def _dependent(match: Matcher, tensors: set[str]) -> set[str]:
    """The tensors and all that are computed from them."""
    return reachable(tensors, lambda tensor: (t for node in match.readers.get(tensor, ()) for t in node.outputs))
