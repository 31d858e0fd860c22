"""What the life of a key and a certificate leaves in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from sidecar.core.key_label import AUDIT, DENY, KeyLabel
from sidecar.core.schemes import KeyAlgorithm
from sidecar.errors import ConfigurationError, KeyChanged, NoSuchKey
from sidecar.identity.orphans import Orphans
from tests.fixtures import certificates
from tests.fixtures.enrolment import OWNER, SPIFFE_ID, TRUST_DOMAIN, World
from tests.fixtures.journal import RememberedJournal


@pytest.fixture
def journal() -> RememberedJournal:
    return RememberedJournal()


@pytest.fixture
async def world(tmp_path: Path, journal: RememberedJournal) -> AsyncIterator[World]:
    made = World(tmp_path, journal=journal)
    yield made
    made.executor.close()


async def test_a_key_leaves_a_record_of_its_birth_its_certificate_and_its_death(
    world: World, journal: RememberedJournal
) -> None:
    identity = world.identity()
    await identity.renew()
    assert journal.events == [
        *("key born", "certificate requested", "certificate published", "roots published")
    ]
    current = identity.store.current
    assert current
    key_id = str(current.key_id)
    assert journal.facts("key born") == {
        "key_id": key_id,
        "spiffe_id": str(SPIFFE_ID),
        "generation": 1,
        "algorithm": "ec-p256",
        "origin": "born",
    }
    published = journal.facts("certificate published")
    assert published["key_id"] == key_id
    assert published["certificate_sha256"] == sha256(current.chain.certificates[0]).hexdigest()
    root = world.authority.root.certificate.fingerprint(hashes.SHA256()).hex()
    assert journal.facts("roots published") == {
        "identity": "default",
        "generation": 1,
        "roots_sha256": {TRUST_DOMAIN: [root]},
    }
    await identity.close()
    assert journal.facts("key destroyed") == {"key_id": key_id}


async def test_a_key_that_would_not_go_leaves_a_record_too(
    world: World, journal: RememberedJournal
) -> None:
    identity = world.identity()
    await identity.renew()
    world.token.available = False
    await identity.close()
    assert "is not there" in journal.facts("key not destroyed")["error"]
    assert "key destroyed" not in journal.events


async def test_a_key_that_two_have_destroyed_at_the_same_time_leaves_one_record(
    world: World, journal: RememberedJournal
) -> None:
    key = await world.executor.run(lambda: world.token.generate(KeyAlgorithm.EC_P256, "ours"))
    await asyncio.gather(world.destruction.destroy(key.id), world.destruction.destroy(key.id))
    assert journal.facts("key destroyed") == {"key_id": str(key.id)}


async def test_of_a_key_that_is_found_no_more_what_is_left_is_destroyed_and_recorded_if_it_was_not(
    world: World, journal: RememberedJournal
) -> None:
    first, second = [
        await world.executor.run(lambda: world.token.generate(KeyAlgorithm.EC_P256, "ours"))
        for _ in range(2)
    ]
    world.token.available = False
    await world.destruction.destroy(first.id)
    world.token.available = True
    await world.destruction.destroy(first.id, second.id, gone=[first.id, second.id])
    assert world.token.held_keys == set()
    assert journal.facts("key destroyed") == {"key_id": str(first.id)}


@pytest.mark.parametrize(
    ("error", "event"), [(NoSuchKey("gone"), "key lost"), (KeyChanged("another"), "key changed")]
)
async def test_a_key_that_the_token_lost_or_exchanged_leaves_one_record(
    world: World, journal: RememberedJournal, error: NoSuchKey | KeyChanged, event: str
) -> None:
    identity = world.identity()
    await identity.renew()
    assert identity.store.current
    key_id = identity.store.current.key_id
    for _ in range(2):
        identity.replace(key_id, error)
    assert journal.facts(event) == {"identity": "default", "key_id": str(key_id)}


async def test_roots_leave_a_record_when_they_are_others(
    world: World, journal: RememberedJournal
) -> None:
    identity = world.identity()
    await identity.renew()
    await identity.renew()
    assert journal.events.count("roots published") == 1
    other = certificates.root(at=world.clock())
    world.trust_bundle.write_bytes(world.authority.root.pem + other.pem)
    await identity.renew()
    assert journal.events.count("roots published") == 2


@pytest.mark.parametrize(
    ("purpose", "told"), [(AUDIT, "seals an audit log"), (DENY, "signs deny lists")]
)
async def test_a_key_for_something_else_is_no_orphan_and_no_identitys_key(
    world: World, purpose: str, told: str
) -> None:
    label = str(KeyLabel(purpose, OWNER, 1, "it"))
    key = await world.executor.run(lambda: world.token.generate(KeyAlgorithm.EC_P256, label))
    orphans = Orphans(
        OWNER,
        timedelta(0),
        world.token,
        world.executor,
        world.destruction,
        lambda _: False,
        asyncio.Lock(),
    )
    await orphans.sweep()
    assert world.token.held_keys == {key.id}
    assert not world.keys().may_reuse(key)
    world.given = key.id
    with pytest.raises(ConfigurationError, match=told):
        await world.keys().obtain(1)
    assert not world.keys().may_reuse(key)
