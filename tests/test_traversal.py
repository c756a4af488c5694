"""Reachability.

a ─▶ b ─▶ d ─▶ a        a cycle
a ─▶ c ─▶ d
"""

from __future__ import annotations

from itertools import islice

from graphsplit.graph.index import TensorSpec, whole_bytes
from graphsplit.graph.traversal import reachable, walk

NEXT = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["a"], "e": []}


def test_a_cycle_ends_and_the_start_belongs_to_what_is_reached():
    assert reachable(["a"], NEXT.__getitem__) == {"a", "b", "c", "d"}
    assert reachable([], NEXT.__getitem__) == set()


def test_the_nearest_come_first_in_their_order_and_each_once():
    assert list(walk(["a", "e", "a"], NEXT.__getitem__)) == ["a", "e", "b", "c", "d"]
    assert list(walk(["d"], NEXT.__getitem__)) == ["d", "a", "b", "c"]


def test_what_is_skipped_is_not_passed_through():
    assert reachable(["a"], NEXT.__getitem__, skip={"b", "c"}) == {"a"}
    assert reachable(["a"], NEXT.__getitem__, skip={"c"}) == {"a", "b", "d"}
    assert reachable(["a"], NEXT.__getitem__, skip={"a"}) == set()


def test_neighbours_are_asked_for_only_as_far_as_the_walk_goes():
    asked = []

    def neighbours(number: int) -> list[int]:
        asked.append(number)
        return [number + 1]  # never ends

    assert list(islice(walk([0], neighbours), 3)) == [0, 1, 2]
    assert asked == [0, 1]


def test_sizes_of_any_magnitude_are_exact() -> None:
    assert [whole_bytes(3, size) for size in (0.25, 0.5, 1, 4)] == [1, 2, 3, 12]
    assert whole_bytes(10**400, 4) == 4 * 10**400
    assert TensorSpec("t", "float32", (2**40,) * 30).nbytes == 4 * 2**1200
    assert TensorSpec("t", "int4", (3,)).nbytes == 2
