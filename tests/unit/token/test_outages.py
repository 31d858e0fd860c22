"""Who may ask a token that was not there."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sidecar.errors import NoSuchKey, PinLocked, SignerBusy, TokenUnavailable
from sidecar.token.base import KeyId
from sidecar.token.outages import Outages

KEY, ANOTHER = KeyId(b"key"), KeyId(b"another")
GONE = TokenUnavailable("the token left")


class _World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.outages = Outages(lambda: self.now)

    def fail(self, times: int = 1, key_id: KeyId = KEY) -> None:
        """Requests that were on their way already."""
        for _ in range(times):
            self.outages.answered(key_id, object(), GONE)

    def probe(self, error: BaseException | None) -> None:
        """The next request that may ask, and its answer."""
        assert self.outages.probes(KEY)
        request = object()
        self.outages.let_through(KEY, request)
        self.outages.answered(KEY, request, error)

    def refused(self, key_id: KeyId = KEY) -> bool:
        try:
            self.outages.probes(key_id)
        except TokenUnavailable:
            return True
        return False

    @property
    def open_s(self) -> float:
        """For how long nobody may ask from now on, to a tenth of a second."""
        for tenths in range(100):
            self.now += tenths / 10
            refused = self.refused()
            self.now -= tenths / 10
            if not refused:
                return tenths / 10
        raise AssertionError("for ever")


@pytest.fixture
def world() -> _World:
    return _World()


def test_two_failures_leave_everybody_free_to_ask(world: _World) -> None:
    world.fail(times=2)
    assert not world.outages.probes(KEY)


def test_after_three_nobody_asks_for_a_moment_and_the_reason_is_told(world: _World) -> None:
    world.fail(times=3)
    with pytest.raises(TokenUnavailable, match="the token left; it is asked again soon"):
        world.outages.probes(KEY)
    assert world.open_s == 0.1


def test_one_at_a_time_finds_out_and_each_time_later(world: _World) -> None:
    world.fail(times=3)
    seen = []
    for _ in range(7):
        seen.append(world.open_s)
        world.now += seen[-1]
        assert world.outages.probes(KEY)
        request = object()
        world.outages.let_through(KEY, request)
        assert world.refused(), "the others wait for what becomes of it"
        world.outages.answered(KEY, request, GONE)
    assert seen == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_those_that_were_on_their_way_make_it_no_longer(world: _World) -> None:
    world.fail(times=64)
    assert world.open_s == 0.1


@pytest.mark.parametrize(
    "answer", [None, NoSuchKey("no key 0a1f"), PinLocked("locked")], ids=["signed", "none", "PIN"]
)
def test_any_answer_of_the_token_lets_all_ask_again(
    world: _World, answer: BaseException | None
) -> None:
    world.fail(times=3)
    world.now += 0.1
    world.probe(answer)
    assert not world.outages.failing
    assert not world.outages.probes(KEY)


def test_a_late_signature_lets_all_ask_again_too(world: _World) -> None:
    world.fail(times=3)
    world.outages.answered(KEY, object(), None)
    assert not world.refused()


@pytest.mark.parametrize("nothing", [SignerBusy("waited too long"), ZeroDivisionError()])
def test_what_says_nothing_of_the_token_leaves_the_next_to_find_out(
    world: _World, nothing: Exception
) -> None:
    world.fail(times=3)
    world.now += 0.1
    world.probe(nothing)
    assert world.outages.probes(KEY), "it did not find out, so the next may, at once"


def test_what_fails_with_one_key_goes_on_with_another(world: _World) -> None:
    world.fail(times=3)
    assert world.refused()
    assert not world.refused(ANOTHER)
    world.fail(key_id=ANOTHER)
    world.outages.answered(ANOTHER, object(), None)
    assert world.refused(), "what one key can says nothing of another"


def test_keys_that_nobody_asks_with_any_more_are_forgotten(world: _World) -> None:
    for number in range(1000):
        world.fail(times=3 - number % 2, key_id=KeyId(number.to_bytes(2)))
        world.now += 1.0
    assert len(world.outages.failing) <= 61


def test_the_log_says_when_it_begins_and_when_it_is_over(world: _World) -> None:
    with capture_logs() as logs:
        world.fail(times=64)
        for _ in range(5):
            world.now += 2.0
            world.probe(GONE)
        world.now += 2.0
        world.probe(None)
        world.fail()
        world.outages.answered(KEY, object(), None)
    assert [line["event"] for line in logs] == ["token left alone", "token signs again"]
