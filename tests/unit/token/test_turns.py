"""Callers of one lane take turns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sidecar.token.turns import Turns

FLOWS = ["flooder", "honest", "another", "late"]
# Which flow puts a job, and how many jobs are taken after that.
STEPS = st.lists(st.tuples(st.sampled_from(FLOWS), st.integers(0, 3)), max_size=200)

_Job = tuple[str, int]


def _filled(**waiting: int) -> Turns[_Job]:
    turns: Turns[_Job] = Turns()
    for flow, jobs in waiting.items():
        for number in range(jobs):
            turns.put(flow, (flow, number))
    return turns


def _taken(turns: Turns[_Job], jobs: int) -> Sequence[str]:
    return [turns.take()[0] for _ in range(jobs)]


def test_one_flow_alone_is_served_in_order() -> None:
    turns = _filled(honest=5)
    assert [turns.take()[1] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert not turns.waiting


def test_who_comes_behind_a_flood_waits_for_one_of_its_jobs() -> None:
    turns = _filled(flooder=512)
    turns.put("honest", ("honest", 0))
    assert _taken(turns, 3) == ["flooder", "honest", "flooder"]


def test_who_comes_again_and_again_is_served_every_second_time() -> None:
    turns = _filled(flooder=512)
    served: Counter[str] = Counter()
    for number in range(100):
        turns.put("honest", ("honest", number))
        served.update(_taken(turns, 2))
    assert served == {"flooder": 100, "honest": 100}


def test_the_longest_queue_loses_its_newest_job_to_who_has_few() -> None:
    turns = _filled(honest=2, flooder=10)
    assert turns.displace("another") == ("flooder", 9)
    assert turns.displace("honest") == ("flooder", 8)
    assert turns.waiting == 10


def test_nobody_gives_way_to_who_would_have_more_than_he_has() -> None:
    turns = _filled(honest=3, flooder=4)
    assert turns.displace("flooder") is None
    assert turns.displace("honest") is None
    assert turns.displace("another") == ("flooder", 3)
    assert turns.waiting == 6


def test_nobody_loses_the_only_job_he_has() -> None:
    turns = _filled(honest=1, another=1)
    assert turns.displace("late") is None


def test_what_is_dropped_costs_nobody_his_turn() -> None:
    turns = _filled(flooder=4, honest=2, another=2)
    turns.take()
    dropped = turns.drop(lambda job: job[0] == "honest" or job == ("flooder", 1))
    assert sorted(dropped) == [("flooder", 1), ("honest", 0), ("honest", 1)]
    assert [turns.take() for _ in range(turns.waiting)] == [
        ("another", 0),
        ("flooder", 2),
        ("another", 1),
        ("flooder", 3),
    ]


@given(STEPS)
def test_every_job_comes_out_once_and_those_of_a_flow_in_order(
    steps: list[tuple[str, int]],
) -> None:
    turns: Turns[_Job] = Turns()
    put: dict[str, list[int]] = defaultdict(list)
    got: dict[str, list[int]] = defaultdict(list)

    def take() -> None:
        flow, number = turns.take()
        got[flow].append(number)

    for number, (flow, takes) in enumerate(steps):
        turns.put(flow, (flow, number))
        put[flow].append(number)
        for _ in range(min(takes, turns.waiting)):
            take()
    while turns.waiting:
        take()
    assert got == put


@given(STEPS)
def test_no_flow_waits_for_more_than_one_job_of_each_other(steps: list[tuple[str, int]]) -> None:
    turns: Turns[_Job] = Turns()
    waiting: Counter[str] = Counter()
    # What was served of others since a flow began to wait, or was served itself.
    passed: dict[str, Counter[str]] = {}

    def take() -> None:
        served, _ = turns.take()
        assert waiting[served], "work conserving: what is taken was there"
        waiting[served] -= 1
        for flow, others in passed.items():
            if waiting[flow] and flow != served:
                others[served] += 1
                assert others[served] <= 1, f"{flow} waits for a second job of {served}"
        passed[served] = Counter()

    for number, (flow, takes) in enumerate(steps):
        if not waiting[flow]:
            passed[flow] = Counter()
        turns.put(flow, (flow, number))
        waiting[flow] += 1
        for _ in range(min(takes, turns.waiting)):
            take()
    while turns.waiting:
        take()
    assert not waiting.total()


@given(STEPS, st.integers(1, 8))
def test_a_full_queue_evens_out_and_says_what_it_dropped(
    steps: list[tuple[str, int]], capacity: int
) -> None:
    turns: Turns[_Job] = Turns()
    held: Counter[str] = Counter()
    for number, (flow, takes) in enumerate(steps):
        if turns.waiting < capacity:
            turns.put(flow, (flow, number))
            held[flow] += 1
        elif displaced := turns.displace(flow):
            turns.put(flow, (flow, number))
            held[flow] += 1
            held[displaced[0]] -= 1
            assert held[displaced[0]] >= held[flow], "he has not less than who came"
        else:
            assert held[flow] + 1 >= max(held.values()), "whoever has most gives way"
        assert turns.waiting == held.total() <= capacity
        for _ in range(min(takes, turns.waiting)):
            held[turns.take()[0]] -= 1
