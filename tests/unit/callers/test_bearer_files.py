"""Keys and revocations as the files have them now."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar import whole_file
from sidecar.callers.bearer import Wanted
from sidecar.callers.bearer_files import BearerTokens
from sidecar.errors import CallerRefused, ConfigurationError
from tests.fixtures.bearers import AUDIENCE, ISSUER, NOW, SUBJECT, issuer, key_set
from tests.fixtures.waiting import soon

ONE, TWO = issuer("one"), issuer("two")
WANTED = Wanted(AUDIENCE, ISSUER, timedelta(hours=1), needs_id=True)


class World:
    """The two files, a clock, and who reads them."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.jwks = directory / "jwks.json"
        self.revoked = directory / "revoked"
        self.publish(key_set(ONE.entry))
        self.revoke()
        self.tokens = BearerTokens(self.jwks, self.revoked, WANTED, self._clock)

    def _clock(self) -> datetime:
        return self.now

    def publish(self, document: bytes) -> None:
        whole_file.replace(self.jwks, document, 0o600)

    def revoke(self, *ids: str) -> None:
        whole_file.replace(self.revoked, "".join(f"{each}\n" for each in ids).encode(), 0o600)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _refused(world: World, token: str, why: str) -> None:
    with pytest.raises(CallerRefused, match=why):
        world.tokens.subject(token)


async def test_a_token_is_good_until_it_expires_however_often_it_was_seen(world: World) -> None:
    await world.tokens.begin()
    token = ONE.token()
    assert world.tokens.subject(token) == world.tokens.subject(token) == SUBJECT
    world.now += timedelta(minutes=5)
    _refused(world, token, "has expired")


async def test_a_revoked_token_is_refused_though_it_was_good_a_moment_ago(world: World) -> None:
    await world.tokens.begin()
    token, another = ONE.token(), ONE.token(jti="token-2")
    assert world.tokens.subject(token)
    world.revoke("token-0", "token-1")
    await world.tokens.look()
    _refused(world, token, "was revoked")
    assert world.tokens.subject(another)


async def test_a_key_that_is_gone_makes_no_token_good_any_more(world: World) -> None:
    await world.tokens.begin()
    token = ONE.token()
    assert world.tokens.subject(token)
    world.publish(key_set(TWO.entry))
    await world.tokens.look()
    _refused(world, token, "no key of bearer.jwks")
    assert world.tokens.subject(TWO.token())


@pytest.mark.parametrize("broken", [None, b"", b"{}", b"x" * (5 << 20)])
async def test_keys_stay_while_their_file_is_not_to_be_used(
    world: World, broken: bytes | None
) -> None:
    await world.tokens.begin()
    if broken is None:
        world.jwks.unlink()
    else:
        world.publish(broken)
    with capture_logs() as logs:
        await world.tokens.look()
        await world.tokens.look()
    assert [(each["event"], each["setting"]) for each in logs] == [
        ("bearer file not usable", "bearer.jwks")
    ]
    assert world.tokens.subject(ONE.token())


async def test_no_token_is_good_while_nobody_knows_which_are_revoked(world: World) -> None:
    await world.tokens.begin()
    token = ONE.token()
    assert world.tokens.subject(token)
    world.revoked.unlink()
    with capture_logs() as logs:
        await world.tokens.look()
    assert [each["setting"] for each in logs] == ["bearer.revoked"]
    _refused(world, token, "bearer.revoked cannot be read")
    # Not even one that is seen for the first time.
    _refused(world, ONE.token(jti="new"), "bearer.revoked cannot be read")
    world.revoke()
    await world.tokens.look()
    assert world.tokens.subject(token)


async def test_before_the_files_were_read_no_token_is_good(world: World) -> None:
    _refused(world, ONE.token(), "no key of bearer.jwks")


async def test_without_a_list_nothing_is_revoked(world: World) -> None:
    tokens = BearerTokens(world.jwks, None, WANTED, world._clock)
    await tokens.begin()
    assert tokens.subject(ONE.token()) == SUBJECT


@pytest.mark.parametrize("setting", ["jwks", "revoked"])
async def test_a_start_needs_both_files(world: World, setting: str) -> None:
    (world.jwks if setting == "jwks" else world.revoked).unlink()
    with pytest.raises(ConfigurationError, match=rf"bearer.{setting}: file .* cannot be read"):
        await world.tokens.begin()


async def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(world: World) -> None:
    await world.tokens.begin()
    world.revoked.unlink()
    os.mkfifo(world.revoked)
    await world.tokens.look()
    _refused(world, ONE.token(), "bearer.revoked cannot be read")


async def test_the_files_are_looked_at_again_and_again(world: World) -> None:
    await world.tokens.begin()
    running = asyncio.create_task(world.tokens.run())
    token = ONE.token()
    world.revoke("token-1")

    def refused() -> bool:
        try:
            world.tokens.subject(token)
        except CallerRefused:
            return True
        return False

    await soon(refused)
    running.cancel()


async def test_many_good_tokens_do_not_take_the_memory(world: World) -> None:
    await world.tokens.begin()
    for number in range(1100):
        world.tokens.subject(ONE.token(jti=f"token-{number}"))
    assert len(world.tokens._good) == 1024
    assert world.tokens.subject(ONE.token(jti="token-0")) == SUBJECT


async def test_neither_a_token_nor_a_part_of_it_is_kept_or_logged(world: World) -> None:
    await world.tokens.begin()
    good, bad = ONE.token(), TWO.token()
    with capture_logs() as logs:
        world.tokens.subject(good)
        _refused(world, bad, "no key")
    kept = repr(vars(world.tokens)) + repr(logs)
    for token in (good, bad):
        assert not any(part in kept for part in token.split("."))
