"""What the stages request of a cluster: what fits by default, and what never will."""

from __future__ import annotations

import pytest

from graphsplit.batching.demand import Node, demands
from graphsplit.errors import PlacementError

STAGES = ("read", "main", "answer")


def asked(nodes, **options):
    return {d.stage: (d.actors, d.cpus, d.gpus) for d in demands(STAGES, ["main"], [Node(*n) for n in nodes], **options)}


def test_two_cores_are_shared_in_fractions_and_something_stays_free():
    found = asked([(2, 0)])
    assert found == dict.fromkeys(STAGES, (1, 0.5, 0.0))


def test_four_cores_give_each_stage_one_and_leave_one():
    assert asked([(4, 0)]) == dict.fromkeys(STAGES, (1, 1.0, 0.0))


def test_without_gpus_most_of_many_cores_go_to_the_network():
    assert asked([(16, 0)]) == {"read": (4, 1.0, 0.0), "main": (7, 1.0, 0.0), "answer": (4, 1.0, 0.0)}


def test_every_gpu_gets_an_actor_of_the_network():
    found = asked([(8, 2), (8, 2)])
    assert found["main"] == (4, 1.0, 1.0)
    assert sum(count * cpus for count, cpus, _ in found.values()) <= 15


def test_what_is_asked_for_is_what_is_taken():
    found = asked([(2, 0)], actors={"read": 2}, cpus={"read": 0.25, "main": 0.75})
    assert found == {"read": (2, 0.25, 0.0), "main": (1, 0.75, 0.0), "answer": (1, 0.37, 0.0)}


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([(2, 0)], {"cpus": {"read": 1, "main": 1}}, r"request 2 CPUs and the cluster has 2: none is left for answer"),
        (
            [(2, 0)],
            {"cpus": dict.fromkeys(STAGES, 1)},
            r"'answer' can never be scheduled: .*answer 1 × 1 CPU; the machines have 2 CPU",
        ),
        ([(4, 0)], {"actors": {"main": 9}, "cpus": {"main": 1}}, "the actors request 9 CPUs and the cluster has 4"),
        (
            [(4, 0)],
            {"gpus": {"main": 1}},
            "'main' can never be scheduled: .*main 1 × 1 CPU and 1 GPU, .*; the machines have 4 CPU and 0 GPU",
        ),
        ([(4, 1)], {"actors": {"main": 2}}, "'main' can never be scheduled"),
        ([(2, 0), (2, 0)], {"cpus": {"main": 3}}, "'main' can never be scheduled"),
        ([(4, 0)], {"actors": {"post": 1}}, "no stage 'post'; there are read, main, answer"),
        ([], {}, "none is left for read"),
    ],
)
def test_what_can_never_be_scheduled_is_refused(nodes, options, message):
    with pytest.raises(PlacementError, match=message):
        asked(nodes, **options)


def test_fractions_of_one_gpu_make_room_for_two_actors():
    assert asked([(8, 1)], gpus={"main": 0.5})["main"] == (2, 1.0, 0.5)
