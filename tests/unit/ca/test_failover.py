"""Several authorities in order, each behind a breaker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import pytest

from sidecar.ca.failover import Failover, GuardedAuthority, Result
from sidecar.errors import AuthorityError, AuthorityUnavailable, CertificateRefused, MeshkeyError

LIFETIME = timedelta(minutes=20)
DOWN = AuthorityUnavailable("down")
NO = AuthorityError("no")


class Scripted:
    """An authority that answers with what it is told to."""

    def __init__(self, *script: bytes | Exception) -> None:
        self._script = list(script)
        self.asked = 0

    async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:  # noqa: ARG002
        self.asked += 1
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, Exception):
            raise step
        return [step]


class Steady:
    def __init__(self) -> None:
        self.now = timedelta(0)

    def __call__(self) -> timedelta:
        return self.now


def _accept(answer: Sequence[bytes]) -> bytes:
    if answer[0] == b"bad":
        raise CertificateRefused("for another key")
    return answer[0]


async def _ask(*authorities: GuardedAuthority) -> tuple[str, bytes]:
    return await Failover(authorities).obtain(b"csr", LIFETIME, _accept)


@pytest.fixture
def steady() -> Steady:
    return Steady()


async def test_the_first_is_asked_and_the_second_left_alone(steady: Steady) -> None:
    second = Scripted(b"two")
    answer = await _ask(
        GuardedAuthority("one", Scripted(b"one"), steady), GuardedAuthority("two", second, steady)
    )
    assert answer == ("one", b"one")
    assert second.asked == 0


@pytest.mark.parametrize(
    ("step", "result"),
    [(DOWN, Result.UNAVAILABLE), (NO, Result.REFUSED), (b"bad", Result.UNACCEPTABLE)],
)
async def test_what_does_not_help_is_followed_by_the_next(
    steady: Steady, step: bytes | Exception, result: Result
) -> None:
    first = GuardedAuthority("one", Scripted(step), steady)
    second = GuardedAuthority("two", Scripted(b"two"), steady)
    assert await _ask(first, second) == ("two", b"two")
    assert first.results == {result: 1}
    assert second.results == {Result.ISSUED: 1}


async def test_after_three_failures_it_is_left_alone_for_a_while(steady: Steady) -> None:
    authority = Scripted(DOWN)
    first = GuardedAuthority("one", authority, steady)
    second = GuardedAuthority("two", Scripted(b"two"), steady)
    for _ in range(10):
        assert (await _ask(first, second))[0] == "two"
    assert authority.asked == 3
    steady.now += timedelta(seconds=5)
    await _ask(first, second)
    await _ask(first, second)
    assert authority.asked == 4


async def test_one_that_is_back_is_first_again(steady: Steady) -> None:
    first = GuardedAuthority("one", Scripted(DOWN, DOWN, DOWN, b"one"), steady)
    second = GuardedAuthority("two", Scripted(b"two"), steady)
    names = []
    for _ in range(5):
        names.append((await _ask(first, second))[0])
        steady.now += timedelta(seconds=5)
    assert names == ["two", "two", "two", "one", "one"]


async def test_a_refusal_is_an_answer_and_opens_nothing(steady: Steady) -> None:
    authority = Scripted(NO)
    guarded = GuardedAuthority("one", authority, steady)
    for _ in range(10):
        with pytest.raises(AuthorityError, match=r"^no$"):
            await _ask(guarded)
    assert authority.asked == 10


async def test_answers_that_one_identity_cannot_use_keep_it_from_no_other(steady: Steady) -> None:
    guarded = GuardedAuthority("one", Scripted(*[b"bad"] * 5, b"good"), steady)
    for _ in range(5):
        with pytest.raises(CertificateRefused):
            await _ask(guarded)
    assert await _ask(guarded) == ("one", b"good")


@pytest.mark.parametrize("step", [b"one", DOWN, NO])
async def test_an_authority_is_timed_however_it_answers(
    steady: Steady, step: bytes | Exception
) -> None:
    class Slow(Scripted):
        async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
            steady.now += timedelta(seconds=3)
            return await super().sign(csr, lifetime)

    guarded = GuardedAuthority("one", Slow(step), steady)
    with suppress(AuthorityError):
        await _ask(guarded)
    times = dict(guarded.times.cumulative())
    assert (times[2.5], times[5], guarded.times.sum) == (0, 1, 3.0)


async def test_while_it_is_left_alone_the_error_says_so_and_why(steady: Steady) -> None:
    guarded = GuardedAuthority("one", Scripted(DOWN), steady)
    for _ in range(3):
        with pytest.raises(AuthorityUnavailable, match=r"^down$"):
            await _ask(guarded)
    with pytest.raises(AuthorityUnavailable, match=r"down; after 3 failures .* another 5 s"):
        await _ask(guarded)


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ((DOWN, NO), AuthorityUnavailable),
        ((NO, b"bad"), AuthorityError),
        ((b"bad",), CertificateRefused),
    ],
)
async def test_when_none_helps_the_error_names_them_all(
    steady: Steady, steps: Sequence[bytes | Exception], kind: type[MeshkeyError]
) -> None:
    guarded = [
        GuardedAuthority(f"ca{number}", Scripted(step), steady) for number, step in enumerate(steps)
    ]
    with pytest.raises(MeshkeyError) as refused:
        await _ask(*guarded)
    assert type(refused.value) is kind
    if len(steps) > 1:
        assert all(authority.name in str(refused.value) for authority in guarded)


async def test_a_bug_in_a_client_is_not_taken_for_an_answer(steady: Steady) -> None:
    first = GuardedAuthority("one", Scripted(ZeroDivisionError()), steady)
    with pytest.raises(ZeroDivisionError):
        await _ask(first, GuardedAuthority("two", Scripted(b"two"), steady))
