"""Which deny list counts: the newest that was ever taken, whatever lies in the files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.core.deny_list import DenyList, WhenStale
from sidecar.deny import followed as module
from sidecar.deny.base import Signed
from sidecar.deny.files import DenyListFiles
from sidecar.deny.kept import KeptFile
from sidecar.errors import (
    ConfigurationError,
    DenyListUnavailable,
    RefusalReason,
    SigningRefused,
    StartFailed,
)
from sidecar.one_thread import OneThread
from tests.fixtures.deny_lists import OTHER, PEER, DenyWorld, ListSigner, deny_list
from tests.fixtures.waiting import settle

_HOUR = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path) -> DenyWorld:
    return DenyWorld(tmp_path)


async def test_a_list_is_taken_recorded_and_replaced_by_one_of_a_higher_sequence(
    world: DenyWorld,
) -> None:
    first, second = deny_list(1, PEER), deny_list(5, PEER, OTHER)
    world.put(first)
    followed = await world.life()
    assert followed.current == first
    assert followed.denies(PEER)
    assert not followed.denies(OTHER)
    assert not await followed.look()
    world.put(second)
    assert await followed.look()
    assert followed.current == second
    assert (followed.complaint, followed.refused) == ("", 0)
    assert world.journal.records == [
        ("deny list taken", {"sequence": 1, "entries": 1, "sha256": first.digest}),
        ("deny list taken", {"sequence": 5, "entries": 2, "sha256": second.digest}),
    ]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("replay", "told"),
    [
        (deny_list(4), "sequence 4, and one of sequence 5 was taken already"),
        (deny_list(5), "another deny list of sequence 5"),
        (deny_list(5, OTHER, PEER), "another deny list of sequence 5"),
        (deny_list(5, PEER, OTHER, lasts=2 * _HOUR), "another deny list of sequence 5"),
    ],
)
async def test_a_replay_is_refused_once_also_by_the_next_life(
    world: DenyWorld, replay: DenyList, told: str, again: bool
) -> None:
    taken = deny_list(5, PEER, OTHER)
    world.put(taken)
    followed = await world.life()
    world.put(replay)
    with capture_logs() as logged:
        if again:
            followed = await world.life()
        for _ in range(3):
            assert not await followed.look()
    assert followed.current == taken
    assert followed.refused == 1
    assert told in followed.complaint
    assert [e["log_level"] for e in logged if e["event"] == "deny list refused"] == ["error"]
    assert world.journal.records[1:] == [("deny list refused", {"reason": followed.complaint})]
    world.put(taken)
    await followed.look()
    assert followed.complaint == ""


async def test_the_list_lives_on_where_its_file_is_gone(world: DenyWorld) -> None:
    taken = deny_list(5, PEER)
    world.put(taken)
    followed = await world.life()
    world.files.file.unlink()
    assert not await followed.look()
    assert followed.current == taken
    assert f"deny_list.file {world.files.file}: No such file or directory" in followed.complaint
    reborn = await world.life()
    assert reborn.current == taken
    assert reborn.denies(PEER)
    assert reborn.refused == 0
    # It was taken once.
    assert world.journal.events == ["deny list taken"]


async def test_it_is_kept_before_it_counts(
    world: DenyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(deny_list(1))
    followed = await world.life()
    world.put(deny_list(2, PEER))

    def full(_self: KeptFile, _kept: object) -> None:
        assert followed.current
        assert followed.current.sequence == 1
        raise DenyListUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(KeptFile, "save", full)
        for _ in range(2):
            assert not await followed.look()
        assert followed.complaint == "the disk is full"
    assert await followed.look()
    assert followed.denies(PEER)
    assert world.journal.events == ["deny list taken"] * 2


async def test_damage_to_what_was_kept_ends_the_start(world: DenyWorld) -> None:
    world.put(deny_list(5, PEER))
    await world.life()
    (kept,) = world.state.iterdir()
    kept.write_bytes(kept.read_bytes()[:-2])
    world.put(deny_list(4))
    with pytest.raises(StartFailed, match="torn or changed"):
        await world.life()


async def test_without_what_was_kept_any_list_is_the_first_and_a_line_says_so(
    world: DenyWorld,
) -> None:
    world.put(deny_list(5, PEER))
    await world.life()
    (kept,) = world.state.iterdir()
    kept.unlink()
    world.put(deny_list(4))
    with capture_logs() as logged:
        followed = await world.life()
    assert followed.current == deny_list(4)
    assert [e["log_level"] for e in logged if "no deny list was kept" in e["event"]] == ["warning"]


async def test_keys_are_rotated_while_it_runs(world: DenyWorld) -> None:
    new = ListSigner()
    world.put(deny_list(1))
    followed = await world.life()
    world.put(deny_list(2, PEER), new)
    assert not await followed.look()
    assert "none of the keys has signed" in followed.complaint
    # The keys changed, the list did not.
    world.files.key.write_bytes(world.signer.pem + new.pem)
    assert await followed.look()
    assert followed.denies(PEER)
    # The old one alone: what was taken stays, and is refused if it comes anew.
    world.files.key.write_bytes(world.signer.pem)
    assert not await followed.look()
    assert followed.denies(PEER)
    assert followed.refused == 2
    world.files.key.write_bytes(b"")
    assert not await followed.look()
    assert followed.denies(PEER)
    assert f"deny_list.key {world.files.key}: no public key, PEM" in followed.complaint


async def test_the_same_list_may_be_signed_anew_with_another_key(world: DenyWorld) -> None:
    new, taken = ListSigner(), deny_list(1, PEER)
    world.put(taken)
    followed = await world.life()
    world.files.key.write_bytes(new.pem)
    world.put(taken, new)
    assert not await followed.look()
    assert (followed.complaint, followed.refused) == ("", 0)
    world.files.file.unlink()
    # What was kept is what the new key has signed.
    assert (await world.life()).current == taken
    assert world.journal.events == ["deny list taken"]


async def test_a_kept_list_that_no_key_has_signed_counts_by_its_sequence_alone(
    world: DenyWorld,
) -> None:
    world.put(deny_list(5, PEER))
    await world.life()
    new = ListSigner()
    world.files.key.write_bytes(new.pem)
    world.put(deny_list(4), new)
    with capture_logs() as logged:
        followed = await world.life()
    assert followed.current is None
    assert "one of sequence 5 was taken already" in followed.complaint
    assert [e for e in logged if e["event"] == "kept deny list not used"]
    world.put(deny_list(6), new)
    assert await followed.look()


async def test_a_list_from_the_future_is_taken_when_its_time_has_come(world: DenyWorld) -> None:
    early = deny_list(2, PEER, issued_at=world.clock() + _HOUR, lasts=_HOUR)
    world.put(deny_list(1))
    followed = await world.life()
    world.put(early)
    for _ in range(3):
        assert not await followed.look()
    assert followed.refused == 1
    assert "issued in the future" in followed.complaint
    world.clock.advance(_HOUR)
    assert await followed.look()
    assert followed.current == early


async def test_what_has_not_changed_is_not_verified_again(
    world: DenyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(deny_list(1))
    verifications: list[Signed] = []
    real = DenyListFiles.verified

    def verified(self: DenyListFiles, signed: Signed) -> DenyList:
        verifications.append(signed)
        return real(self, signed)

    monkeypatch.setattr(DenyListFiles, "verified", verified)
    followed = await world.life()
    world.put_bytes(b"x")
    for _ in range(5):
        await followed.look()
    assert len(verifications) == 2


async def test_each_list_that_is_refused_counts(world: DenyWorld) -> None:
    followed = await world.life()
    for junk in (b"a", b"b", b"a"):
        world.put_bytes(junk)
        await followed.look()
    assert followed.refused == 3
    assert world.journal.events == ["deny list refused"] * 3


# Stale, or missing.


async def test_what_is_kept_when_stale_goes_on_with_an_alarm(world: DenyWorld) -> None:
    taken = deny_list(1, PEER, lasts=_HOUR)
    world.put(taken)
    followed = await world.life()
    assert followed.overdue == ""
    world.clock.advance(_HOUR)
    with capture_logs() as logged:
        for _ in range(3):
            await followed.look()
    (entry,) = logged
    assert (entry["event"], entry["log_level"]) == ("deny list overdue", "error")
    assert entry["when_stale"] == "keep"
    assert followed.overdue == "the deny list is stale since 2030-01-01T13:00:00Z"
    followed.require_signing(OTHER)
    assert followed.denies(PEER)
    world.put(deny_list(2, PEER, issued_at=world.clock()))
    with capture_logs() as logged:
        assert await followed.look()
    assert followed.overdue == ""
    assert [entry["event"] for entry in logged] == ["deny list taken", "deny list up to date"]


async def test_refuse_signs_nothing_from_the_second_on_without_a_look(world: DenyWorld) -> None:
    world.put(deny_list(1, PEER, lasts=_HOUR))
    followed = await world.life(WhenStale.REFUSE)
    world.clock.advance(_HOUR - timedelta(seconds=1))
    followed.require_signing(OTHER)
    world.clock.advance(timedelta(seconds=1))
    with pytest.raises(DenyListUnavailable, match="stale since 2030-01-01T13:00:00Z"):
        followed.require_signing(OTHER)
    world.put(deny_list(2, PEER, issued_at=world.clock()))
    await followed.look()
    followed.require_signing(OTHER)


@pytest.mark.parametrize("when_stale", WhenStale)
async def test_without_any_list_only_keep_signs(world: DenyWorld, when_stale: WhenStale) -> None:
    with capture_logs() as logged:
        followed = await world.life(when_stale)
    assert followed.current is None
    assert followed.overdue == "there is no deny list yet"
    assert [e["event"] for e in logged if e["event"] == "deny list overdue"]
    if when_stale is WhenStale.KEEP:
        followed.require_signing(OTHER)
    else:
        with pytest.raises(DenyListUnavailable, match="there is no deny list yet, and nothing"):
            followed.require_signing(OTHER)


async def test_a_stale_list_that_is_newer_is_taken_and_stays_stale(world: DenyWorld) -> None:
    world.put(deny_list(1))
    followed = await world.life(WhenStale.REFUSE)
    world.clock.advance(2 * _HOUR)
    world.put(deny_list(2, PEER))
    assert await followed.look()
    assert followed.denies(PEER)
    with pytest.raises(DenyListUnavailable):
        followed.require_signing(OTHER)


async def test_who_is_on_the_list_himself_gets_no_signature(world: DenyWorld) -> None:
    world.put(deny_list(3, PEER))
    followed = await world.life()
    with pytest.raises(SigningRefused, match="is on the deny list of sequence 3") as refused:
        followed.require_signing(PEER)
    assert refused.value.reason is RefusalReason.LEASE
    world.put(deny_list(4))
    await followed.look()
    followed.require_signing(PEER)


# What must not happen to the loop that follows it.


async def test_a_bug_takes_no_list_away(world: DenyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(deny_list(1, PEER))
    followed = await world.life()

    def broken(_self: DenyListFiles) -> Signed:
        raise RuntimeError("a bug")

    monkeypatch.setattr(DenyListFiles, "read", broken)
    assert not await followed.look()
    assert followed.denies(PEER)
    assert "a bug" in followed.complaint


async def test_a_disk_that_hangs_is_a_complaint(
    world: DenyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(deny_list(1, PEER))
    followed = await world.life()
    followed._disk = OneThread(timedelta(milliseconds=50))
    returned = threading.Event()

    def hang(_self: DenyListFiles) -> Signed:
        returned.wait()
        raise DenyListUnavailable("late")

    with monkeypatch.context() as patch:
        patch.setattr(DenyListFiles, "read", hang)
        for _ in range(2):
            assert not await followed.look()
            assert followed.complaint == "the deny list's disk does not answer"
    assert followed.denies(PEER)
    returned.set()
    await settle()


async def test_whoever_is_to_be_told_is_told_of_other_lists_alone(
    world: DenyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    world.put(deny_list(1))
    followed = await world.life()
    told: list[int] = []

    class _Enough(Exception):
        pass

    looks = 0
    look: Callable[[], Any] = followed.look

    async def counted() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            world.put(deny_list(2, PEER))
        if looks == 6:
            raise _Enough
        return bool(await look())

    monkeypatch.setattr(followed, "look", counted)

    def tell() -> None:
        assert followed.current
        told.append(followed.current.sequence)

    with pytest.raises(_Enough):
        await followed.run(tell)
    assert told == [2]


def test_keys_that_are_none_are_a_wrong_setting(world: DenyWorld) -> None:
    world.files.require_keys()
    world.files.key.write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"deny_list\.key .*no public key, PEM"):
        world.files.require_keys()
    world.files.key.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        world.files.require_keys()
