"""What the numbers say of a process, and what they must not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sidecar.admin.metrics import Numbers
from sidecar.admin.observed import Observed
from sidecar.core.rotation import Health
from sidecar.core.schemes import SignatureScheme
from sidecar.errors import AuthorityUnavailable
from sidecar.identity.identity import Identity
from sidecar.identity.registry import IdentityRegistry
from tests.fixtures.enrolment import LIFETIME, World
from tests.fixtures.scraping import Scraped


@pytest.fixture
def seen(world: World, identity: Identity) -> Observed:
    registry = IdentityRegistry([identity, world.identity(name="gateway")])
    return Observed(world.token, world.executor, registry, {"fake": world.guarded})


def _collected(seen: Observed, world: World) -> Scraped:
    return Scraped.of(Numbers(seen, world.clock).collect())


@pytest.mark.parametrize(
    ("after", "health"),
    [
        (timedelta(0), Health.VALID),
        (LIFETIME * 0.8, Health.LATE),
        (LIFETIME * 0.95, Health.CRITICAL),
        (LIFETIME * 1.5, Health.EXPIRED),
    ],
)
async def test_identities_are_counted_by_how_they_do(
    seen: Observed, world: World, identity: Identity, after: timedelta, health: Health
) -> None:
    await identity.renew()
    current = identity.store.current
    assert current
    world.clock.advance(after)
    numbers = _collected(seen, world)
    expected = {state.value: 0 for state in Health} | {health.value: 1, "waiting": 1}
    assert numbers.by("meshkey_identities", "state") == expected
    # The other one has no certificate: there is nothing that could expire.
    left = (LIFETIME - after).total_seconds()
    assert numbers.by("meshkey_certificate_expiry_seconds", "identity") == {"default": left}
    assert numbers.by("meshkey_certificate_not_after_seconds", "identity") == {
        "default": current.chain.not_after.timestamp()
    }


async def test_the_end_of_a_lease_is_told_and_that_it_is_over(
    seen: Observed, world: World, identity: Identity
) -> None:
    await identity.renew()
    assert identity.lease_end
    name = "meshkey_lease_end_seconds"
    numbers = _collected(seen, world)
    assert numbers.by(name, "identity") == {"default": identity.lease_end.timestamp()}
    world.clock.suspend(LIFETIME)
    world.clock.jump(-LIFETIME)
    numbers = _collected(seen, world)
    assert numbers.by(name, "identity") == {"default": world.clock().timestamp()}
    assert numbers.by("meshkey_identities", "state")["lapsed"] == 1


async def test_renewals_and_requests_to_cas_are_counted_by_what_became_of_them(
    seen: Observed, world: World, identity: Identity
) -> None:
    await identity.renew()
    for _ in range(2):
        world.authority.failures.append(AuthorityUnavailable("gone"))
        with pytest.raises(AuthorityUnavailable):
            await identity.renew()
    numbers = _collected(seen, world)
    assert numbers.value("meshkey_renewals_total", identity="default", result="renewed") == 1
    assert numbers.value("meshkey_renewals_total", identity="default", result="failed") == 2
    assert numbers.value("meshkey_renewals_total", identity="gateway", result="renewed") == 0
    assert numbers.by("meshkey_ca_requests_total", "result") == {
        "issued": 1,
        "unavailable": 2,
        "refused": 0,
        "unacceptable": 0,
    }
    assert numbers.value("meshkey_ca_request_seconds_count", ca="fake") == 3


async def test_followers_are_counted_by_kind_and_secrets_by_verdict(
    seen: Observed, world: World, identity: Identity
) -> None:
    seen.sds.streams, seen.sds.acks, seen.sds.nacks = 2, 7, 3
    seen.sds.expected_nacks = 2
    with identity.store.subscribe("sds", "ROOTCA"), identity.store.subscribe("sds", "default"):
        numbers = _collected(seen, world)
    assert numbers.by("meshkey_subscribers", "kind") == {"module": 0, "sds": 2}
    assert numbers.value("meshkey_sds_streams") == 2
    assert numbers.by("meshkey_sds_responses_total", "result") == {
        "ack": 7,
        "nack": 3,
        "expected_nack": 2,
    }


async def test_callers_that_were_refused_are_counted_by_service(
    seen: Observed, world: World
) -> None:
    seen.signing.callers.refused, seen.sds.callers.refused = 4, 1
    refused = _collected(seen, world).by("meshkey_callers_refused_total", "service")
    assert refused == {"signer": 4, "sds": 1}


async def test_what_is_for_evaluation_only_can_be_alarmed_on(seen: Observed, world: World) -> None:
    assert _collected(seen, world).value("meshkey_own_user_allowed") == 0
    allowed = replace(seen, own_user_allowed=True)
    assert _collected(allowed, world).value("meshkey_own_user_allowed") == 1


async def test_no_number_is_told_twice(seen: Observed, world: World) -> None:
    names = [metric.name for metric in Numbers(seen, world.clock).collect()]
    assert len(names) == len(set(names))


async def test_answers_are_told_by_scheme_and_result(seen: Observed, world: World) -> None:
    counts = seen.signing
    counts.of(SignatureScheme.ED25519).signed = 5
    counts.of(SignatureScheme.ED25519).told_to_retry = 4
    counts.of(0x9999).refused = 2
    counts.busy = 1
    counts.over_rate = 1
    counts.times.observe(0.0015)
    numbers = _collected(seen, world)
    name = "meshkey_signatures_total"
    assert numbers.value(name, scheme="ed25519", result="signed") == 5
    assert numbers.value(name, scheme="ed25519", result="retry") == 4
    assert numbers.value(name, scheme="other", result="refused") == 2
    assert len(numbers.samples(name)) == 3 * (len(SignatureScheme) + 1)
    retries = numbers.by("meshkey_signature_retries_total", "reason")
    assert retries == {"busy": 1, "rate": 1, "unavailable": 2}
    buckets = numbers.by("meshkey_signature_seconds_bucket", "le")
    assert (buckets["0.001"], buckets["0.002"], buckets["+Inf"]) == (0, 1, 1)


async def test_the_token_is_told_of_without_its_name(
    seen: Observed, world: World, identity: Identity
) -> None:
    await identity.renew()
    numbers = _collected(seen, world)
    assert numbers.value("meshkey_token_up") == 1
    assert numbers.value("meshkey_token_hung") == numbers.value("meshkey_token_pending") == 0
    assert numbers.by("meshkey_token_assurance", "assurance") == {"software": 1, "hardware": 0}
    assert numbers.value("meshkey_token_signatures_total") == world.token.signatures == 1
    lanes = {"upkeep", "audit", "client", "client-slow", "server", "server-slow"}
    assert numbers.by("meshkey_token_queue_depth", "lane").keys() == lanes
    assert numbers.value("meshkey_token_operation_seconds_count", lane="upkeep") == 3
    world.token.available = False
    with pytest.raises(Exception, match="is not there"):
        await world.executor.run(world.token.keys)
    assert _collected(seen, world).value("meshkey_token_up") == 0


async def test_labels_are_names_of_ours_and_of_the_configuration(
    seen: Observed, world: World, identity: Identity
) -> None:
    await identity.renew()
    labels = _collected(seen, world).labels
    named = {(name, label) for name, found in labels.items() for label in found}
    assert {label for _, label in named} == {
        *("state", "identity", "result", "ca", "kind", "scheme", "reason", "assurance", "lane"),
        *("service", "le"),
    }
    values = {value for found in labels.values() for each in found.values() for value in each}
    assert not [value for value in values if "/" in value or len(value) > 22]
    assert world.token.label == "fake" == world.guarded.name
    assert {name for name, found in labels.items() if "fake" in found.get("ca", ())} == {
        "meshkey_ca_requests_total",
        "meshkey_ca_request_seconds_bucket",
        "meshkey_ca_request_seconds_count",
        "meshkey_ca_request_seconds_sum",
    }


async def test_a_process_without_identities_has_numbers_too(world: World) -> None:
    numbers = _collected(Observed(world.token, world.executor), world)
    assert set(numbers.by("meshkey_identities", "state").values()) == {0}
    assert numbers.samples("meshkey_renewals_total") == {}
