"""When a certificate authority is asked again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sidecar.ca.retries import retried
from sidecar.errors import AuthorityError, AuthorityUnavailable
from tests.fixtures.pauses import Pauses

MINUTE = timedelta(minutes=1)


class _Attempts:
    """Fails as often as there are failures, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> str:
        self.seconds.append(seconds)
        if self._failures:
            raise self._failures.pop(0)
        return "answer"


def _unavailable(times: int) -> list[AuthorityUnavailable]:
    return [AuthorityUnavailable(f"failure {number}") for number in range(times)]


async def test_an_answer_is_passed_on_at_once(pauses: Pauses) -> None:
    attempts = _Attempts()
    assert await retried(attempts, MINUTE, pauses.pacing) == "answer"
    assert attempts.seconds == [30.0]
    assert pauses.slept == []


@pytest.mark.parametrize(
    ("luck", "factor"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)], ids=["least", "middle", "most"]
)
async def test_waits_double_with_a_jitter_of_a_tenth(
    pauses: Pauses, luck: float, factor: float
) -> None:
    pauses.luck = luck
    assert await retried(_Attempts(*_unavailable(5)), MINUTE, pauses.pacing) == "answer"
    expected = [factor * wait for wait in (0.1, 0.2, 0.4, 0.8, 1.6)]
    assert pauses.slept == pytest.approx(expected)


async def test_the_sixth_failure_is_the_last(pauses: Pauses) -> None:
    attempts = _Attempts(*_unavailable(7))
    with pytest.raises(AuthorityUnavailable, match="failure 5"):
        await retried(attempts, MINUTE, pauses.pacing)
    assert len(attempts.seconds) == 6


async def test_a_refusal_is_passed_on_at_once(pauses: Pauses) -> None:
    attempts = _Attempts(AuthorityError("refused"))
    with pytest.raises(AuthorityError, match="refused"):
        await retried(attempts, MINUTE, pauses.pacing)
    assert len(attempts.seconds) == 1


async def test_an_attempt_has_half_of_the_deadline_or_what_is_left(pauses: Pauses) -> None:
    attempts = _Attempts(*_unavailable(5))
    await retried(attempts, timedelta(seconds=4), pauses.pacing)
    assert attempts.seconds == pytest.approx([2.0, 2.0, 2.0, 2.0, 2.0, 0.9])


async def test_no_wait_goes_beyond_the_deadline(pauses: Pauses) -> None:
    attempts = _Attempts(*_unavailable(6))
    with pytest.raises(AuthorityUnavailable, match="failure 4"):
        await retried(attempts, timedelta(seconds=3), pauses.pacing)
    assert pauses.slept == pytest.approx([0.1, 0.2, 0.4, 0.8])


async def test_an_attempt_never_has_less_than_no_time(pauses: Pauses) -> None:
    pauses.after_reading = [61.0]
    attempts = _Attempts()
    await retried(attempts, MINUTE, pauses.pacing)
    assert attempts.seconds == [0.0]
