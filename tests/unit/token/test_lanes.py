"""Who goes next."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import SignerBusy
from sidecar.token.lanes import FairQueue, Lane, Purpose

UPKEEP, CLIENT, SERVER, _ = (Lane(purpose) for purpose in Purpose)
SLOW_SERVER = Lane(Purpose.SERVER, slow=True)
LANES = [UPKEEP, CLIENT, SERVER, SLOW_SERVER]
FLOWS = ["flooder", "honest"]


def _taken(queue: FairQueue[int], cost: dict[Lane, float], seconds: float) -> Counter[Lane]:
    """Serves the queue for so much token time; how often each lane was served."""
    served: Counter[Lane] = Counter()
    while seconds > 0 and (taken := queue.take()):
        lane, _ = taken
        served[lane] += 1
        queue.charge(lane, cost[lane])
        seconds -= cost[lane]
    return served


def test_nothing_waits_in_an_empty_queue() -> None:
    assert FairQueue[int](3).take() is None


def test_one_lane_is_served_in_order() -> None:
    queue = FairQueue[int](3)
    for number in range(3):
        queue.put(CLIENT, number)
    assert [queue.take() for _ in range(4)] == [(CLIENT, 0), (CLIENT, 1), (CLIENT, 2), None]


def test_a_full_lane_is_busy_and_leaves_room_in_others() -> None:
    queue = FairQueue[int](2)
    queue.put(SERVER, 1)
    queue.put(SERVER, 2)
    with pytest.raises(SignerBusy, match="2 operations are waiting"):
        queue.put(SERVER, 3)
    queue.put(CLIENT, 4)
    assert len(queue) == 3


def test_a_full_lane_makes_room_for_a_caller_who_has_few() -> None:
    queue = FairQueue[int](3)
    for number in range(3):
        assert queue.put(SERVER, number, "flooder") is None
    assert queue.put(SERVER, 3, "honest") == 2
    assert len(queue) == 3
    with pytest.raises(SignerBusy, match="3 operations are waiting"):
        queue.put(SERVER, 4, "flooder")
    with pytest.raises(SignerBusy):
        queue.put(SERVER, 5, "honest")
    assert [queue.take() for _ in range(4)] == [(SERVER, 0), (SERVER, 3), (SERVER, 1), None]


def test_a_flood_of_one_caller_takes_no_turn_of_another_in_any_lane() -> None:
    queue = FairQueue[str](1000)
    for lane in (SERVER, CLIENT):
        for _ in range(500):
            queue.put(lane, "flooder", "flooder")
        queue.put(lane, "honest", "honest")
    taken: list[tuple[Lane, str]] = []
    while len(taken) < 4 and (entry := queue.take()):
        queue.charge(entry[0], 1.0)
        taken.append(entry)
    assert Counter(taken) == {(lane, who): 1 for lane in (SERVER, CLIENT) for who in FLOWS}


def test_slow_work_gets_its_share_of_time_and_not_more() -> None:
    queue = FairQueue[int](10_000)
    for number in range(10_000):
        queue.put(SLOW_SERVER, number)
        queue.put(CLIENT, number)
    served = _taken(queue, {SLOW_SERVER: 0.010, CLIENT: 0.001}, seconds=2.0)
    assert 0.9 <= served[SLOW_SERVER] * 0.010 <= 1.1
    assert 900 <= served[CLIENT] <= 1100


def test_an_idle_lane_saves_nothing_up() -> None:
    queue = FairQueue[int](1000)
    for number in range(1000):
        queue.put(SERVER, number)
    _taken(queue, {SERVER: 1.0}, seconds=500)
    for number in range(500):
        queue.put(CLIENT, number)
    served = _taken(queue, {SERVER: 1.0, CLIENT: 1.0}, seconds=100)
    assert abs(served[SERVER] - served[CLIENT]) <= 2


def test_several_takers_do_not_all_take_from_one_lane() -> None:
    queue = FairQueue[int](1000)
    for lane in (SERVER, CLIENT):
        queue.put(lane, 0)
        queue.take()
        queue.charge(lane, 1.0)
    for number in range(20):
        queue.put(SERVER, number)
    for number in range(20):
        queue.put(CLIENT, number)
    taken = [queue.take() for _ in range(8)]
    assert Counter(entry[0] for entry in taken if entry) == {SERVER: 4, CLIENT: 4}


def test_what_is_not_wanted_any_more_is_dropped_and_returned() -> None:
    queue = FairQueue[int](10)
    for number in range(6):
        queue.put(LANES[number % 2], number)
    assert sorted(queue.drop(lambda number: number > 2)) == [3, 4, 5]
    assert len(queue) == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(LANES), st.sampled_from(FLOWS), st.integers(0, 2)), max_size=200
    ),
    st.integers(1, 6),
)
def test_every_job_comes_out_once_or_is_given_back_and_no_lane_holds_more_than_its_room(
    steps: list[tuple[Lane, str, int]], capacity: int
) -> None:
    queue = FairQueue[int](capacity)
    ends: Counter[int] = Counter()
    for number, (lane, flow, takes) in enumerate(steps):
        try:
            displaced = queue.put(lane, number, flow)
        except SignerBusy:
            ends[number] += 1
        else:
            if displaced is not None:
                ends[displaced] += 1
        assert queue.states()[lane].waiting <= capacity
        for _ in range(takes):
            before = len(queue)
            taken = queue.take()
            assert (taken is None) == (before == 0), "work conserving"
            if taken:
                queue.charge(taken[0], 0.001)
                ends[taken[1]] += 1
    while taken := queue.take():
        ends[taken[1]] += 1
    assert ends == Counter(range(len(steps)))


@given(
    st.lists(st.tuples(st.sampled_from(LANES), st.booleans()), max_size=200),
    st.lists(st.floats(0.0, 2.0), min_size=4, max_size=4),
)
def test_nothing_is_lost_or_served_twice_or_out_of_order(
    steps: list[tuple[Lane, bool]], costs: list[float]
) -> None:
    queue, cost = FairQueue[int](1000), dict(zip(LANES, costs, strict=True))
    put: dict[Lane, list[int]] = {lane: [] for lane in LANES}
    got: dict[Lane, list[int]] = {lane: [] for lane in LANES}

    def take() -> bool:
        if not (taken := queue.take()):
            return False
        got[taken[0]].append(taken[1])
        queue.charge(taken[0], cost[taken[0]])
        return True

    for number, (lane, then_take) in enumerate(steps):
        queue.put(lane, number)
        put[lane].append(number)
        if then_take:
            take()
    while take():
        pass
    assert got == put
    assert len(queue) == 0


@given(st.lists(st.floats(0.0001, 1.0), min_size=2, max_size=4))
def test_no_lane_waits_longer_than_one_turn_of_each_other(costs: list[float]) -> None:
    lanes = LANES[: len(costs)]
    cost = dict(zip(lanes, costs, strict=True))
    queue = FairQueue[int](5000)
    for lane in lanes:
        for number in range(5000):
            queue.put(lane, number)
    longest = max(costs)
    served = _taken(queue, cost, seconds=40 * longest)
    shares = [served[lane] * cost[lane] for lane in lanes]
    if all(count < 5000 for count in served.values()):
        assert max(shares) - min(shares) <= 3 * longest


def test_a_lane_that_was_never_used_is_shown_too() -> None:
    queue = FairQueue[int](3)
    queue.put(SLOW_SERVER, 1)
    queue.put(SLOW_SERVER, 2)
    queue.take()
    queue.charge(SLOW_SERVER, 0.5)
    states = queue.states()
    assert {lane: state.waiting for lane, state in states.items() if state.waiting} == {
        SLOW_SERVER: 1
    }
    assert [lane.name for lane in states] == [
        "upkeep",
        "audit",
        "client",
        "client-slow",
        "server",
        "server-slow",
    ]
    assert states[SLOW_SERVER].times.sum == 0.5
    queue.charge(SLOW_SERVER, 0.5)
    assert states[SLOW_SERVER].times.sum == 0.5, "what was shown stays as it is"
