"""Whom an identity trusts, whatever its sources do."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from sidecar.core.chain import verified_chain
from sidecar.core.spiffe import SpiffeId
from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused, MeshkeyError, TrustUnavailable
from sidecar.trust import anchors as module
from sidecar.trust.anchors import TrustAnchors
from sidecar.trust.base import TrustSource
from tests.fixtures import certificates
from tests.fixtures.certificates import Signed
from tests.fixtures.clock import START

OWN, OTHER = "own.mesh", "other.mesh"
SECOND = timedelta(seconds=1)
LEAF = timedelta(hours=24)
OLD, NEW, FOREIGN = (certificates.root(name) for name in ("old", "new", "foreign"))
SHORT = certificates.root("short", days=1)


class Source:
    """`TrustSource` whose next answer a test sets."""

    def __init__(self, trust_domain: str, *roots: Signed, interval: timedelta = SECOND) -> None:
        self.interval = interval
        self.answer: TrustBundle | Exception = _bundle(trust_domain, *roots)
        self.loads = 0
        # Clear it and loads wait until it is set.
        self.open = asyncio.Event()
        self.open.set()

    async def load(self) -> TrustBundle:
        self.loads += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def _bundle(trust_domain: str, *roots: Signed) -> TrustBundle:
    return TrustBundle(trust_domain, tuple(root.certificate for root in roots))


def _anchors(own: TrustSource, **federated: TrustSource) -> TrustAnchors:
    others = {f"{name}.mesh": source for name, source in federated.items()}
    return TrustAnchors(OWN, own, others, LEAF)


async def test_the_own_domain_comes_first_then_the_others_in_their_order() -> None:
    anchors = _anchors(
        Source(OWN, OLD), zeta=Source("zeta.mesh", NEW), other=Source(OTHER, FOREIGN)
    )
    assert await anchors.refresh(START)
    assert anchors.own == _bundle(OWN, OLD)
    assert anchors.bundles(START) == (
        _bundle(OWN, OLD),
        _bundle("zeta.mesh", NEW),
        _bundle(OTHER, FOREIGN),
    )
    assert not anchors.errors


async def test_a_refresh_says_whether_anything_has_changed() -> None:
    source = Source(OWN, OLD)
    anchors = _anchors(source)
    assert await anchors.refresh(START)
    assert not await anchors.refresh(START + SECOND)
    source.answer = _bundle(OWN, OLD, NEW)
    assert await anchors.refresh(START + 2 * SECOND)
    assert anchors.settled_at(5 * SECOND) == START + 7 * SECOND


async def test_a_root_that_left_vouches_for_peers_until_its_time_and_not_for_us() -> None:
    source = Source(OWN, OLD)
    anchors = _anchors(source)
    await anchors.refresh(START)
    source.answer = _bundle(OWN, NEW)
    left = START + SECOND
    assert await anchors.refresh(left)
    assert anchors.own == _bundle(OWN, NEW)
    assert anchors.bundles(left) == (_bundle(OWN, NEW, OLD),)
    assert not await anchors.refresh(left + LEAF - SECOND)
    assert await anchors.refresh(left + LEAF)
    assert anchors.bundles(left + LEAF) == (_bundle(OWN, NEW),)


async def test_a_source_is_asked_no_sooner_than_its_interval() -> None:
    fast, slow = Source(OWN, OLD), Source(OTHER, FOREIGN, interval=10 * SECOND)
    anchors = _anchors(fast, other=slow)
    for second in range(11):
        await anchors.refresh(START + second * SECOND)
        await anchors.refresh(START + second * SECOND + SECOND / 2)
    assert (fast.loads, slow.loads) == (11, 2)


async def test_a_source_is_asked_again_when_the_clock_went_back() -> None:
    source = Source(OWN, OLD)
    anchors = _anchors(source)
    await anchors.refresh(START)
    await anchors.refresh(START - timedelta(days=1))
    assert source.loads == 2


@pytest.mark.parametrize("error", [TrustUnavailable("gone"), CertificateRefused("garbage")])
async def test_without_any_root_of_its_own_domain_there_is_no_start(error: MeshkeyError) -> None:
    source = Source(OWN)
    source.answer = error
    anchors = _anchors(source, other=Source(OTHER, FOREIGN))
    for moment in (START, START + SECOND / 2, START + SECOND):
        with pytest.raises(type(error), match=str(error)):
            await anchors.refresh(moment)


@pytest.mark.parametrize("error", [TrustUnavailable("gone"), CertificateRefused("garbage")])
async def test_a_source_that_fails_later_keeps_what_it_gave(error: MeshkeyError) -> None:
    own, other = Source(OWN, OLD), Source(OTHER, FOREIGN)
    anchors = _anchors(own, other=other)
    await anchors.refresh(START)
    before = anchors.bundles(START)
    own.answer = other.answer = error
    assert not await anchors.refresh(START + SECOND)
    assert anchors.bundles(START + 2 * LEAF) == before
    assert anchors.errors == {OWN: str(error), OTHER: str(error)}
    own.answer = _bundle(OWN, OLD)
    await anchors.refresh(START + 2 * SECOND)
    assert anchors.errors == {OTHER: str(error)}


async def test_a_federated_domain_that_was_never_read_is_left_out_and_reported() -> None:
    other = Source(OTHER)
    other.answer = TrustUnavailable("gone")
    anchors = _anchors(Source(OWN, OLD), other=other)
    assert await anchors.refresh(START)
    assert anchors.bundles(START) == (_bundle(OWN, OLD),)
    assert anchors.errors == {OTHER: "gone"}
    other.answer = _bundle(OTHER, FOREIGN)
    assert await anchors.refresh(START + SECOND)
    assert anchors.bundles(START) == (_bundle(OWN, OLD), _bundle(OTHER, FOREIGN))


async def test_an_error_is_logged_when_it_changes_and_when_it_ends() -> None:
    source = Source(OWN, OLD)
    anchors = _anchors(source)
    await anchors.refresh(START)
    answers = [TrustUnavailable("gone")] * 3 + [CertificateRefused("garbage")]
    with capture_logs() as logs:
        for second, answer in enumerate([*answers, _bundle(OWN, OLD), _bundle(OWN, OLD)], start=1):
            source.answer = answer
            await anchors.refresh(START + second * SECOND)
    assert [(line["event"], line.get("error")) for line in logs] == [
        ("trust source failed", "gone"),
        ("trust source failed", "garbage"),
        ("trust source works again", None),
    ]


async def test_roots_that_a_source_gives_for_another_domain_are_refused() -> None:
    other = Source(OWN, FOREIGN)
    anchors = _anchors(Source(OWN, OLD), other=other)
    await anchors.refresh(START)
    assert anchors.bundles(START) == (_bundle(OWN, OLD),)
    assert anchors.errors == {OTHER: "a source of other.mesh gave roots of own.mesh"}
    with pytest.raises(CertificateRefused, match=r"a source of own\.mesh gave roots of other"):
        await _anchors(Source(OTHER, FOREIGN)).refresh(START)


async def test_a_root_of_a_federated_domain_does_not_vouch_for_our_own_leaf() -> None:
    key, spiffe_id = certificates.new_key().public_key(), SpiffeId(OWN, "/ns/a/sa/b")
    anchors = _anchors(Source(OWN, OLD), other=Source(OTHER, FOREIGN))
    await anchors.refresh(START)

    def verify(issuer: Signed) -> None:
        verified_chain(
            [certificates.der(certificates.leaf(issuer, key, str(spiffe_id)))],
            public_key=key,
            spiffe_id=spiffe_id,
            roots=anchors.own.roots,
            now=START,
        )

    verify(OLD)
    with pytest.raises(CertificateRefused, match="does not lead to a trusted root"):
        verify(FOREIGN)


async def test_roots_that_have_all_expired_are_an_error_and_trusted_by_nobody() -> None:
    anchors = _anchors(Source(OWN, SHORT))
    end = SHORT.certificate.not_valid_after_utc
    await anchors.refresh(end - SECOND)
    assert not anchors.errors
    assert await anchors.refresh(end)
    assert anchors.bundles(end) == (TrustBundle("own.mesh", ()),)
    assert anchors.own == _bundle(OWN, SHORT)
    assert "every root of own.mesh has expired, the last one 2030-01-02" in anchors.errors[OWN]


def test_a_domain_is_not_federated_with_itself() -> None:
    with pytest.raises(ValueError, match=r"'own\.mesh' is federated with itself"):
        TrustAnchors(OWN, Source(OWN, OLD), {OWN: Source(OWN, NEW)}, LEAF)


async def test_a_source_that_hangs_is_given_up_on_and_not_asked_a_second_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(OWN, OLD)
    anchors = _anchors(source)
    await anchors.refresh(START)
    monkeypatch.setattr(module, "_PATIENCE", timedelta(0))
    source.open.clear()
    loads = source.loads
    for _ in range(3):
        await anchors.refresh(START, force=True)
    assert source.loads == loads + 1
    assert "has not answered within" in anchors.errors[OWN]
    assert anchors.own == _bundle(OWN, OLD)
    source.open.set()
    monkeypatch.setattr(module, "_PATIENCE", timedelta(seconds=60))
    await anchors.refresh(START, force=True)
    assert not anchors.errors


async def test_a_bug_in_one_domains_source_keeps_the_others_going_and_is_not_hidden() -> None:
    own, other = Source(OWN, OLD), Source(OTHER, FOREIGN)
    anchors = _anchors(own, other=other)
    await anchors.refresh(START)
    own.answer, other.answer = _bundle(OWN, OLD, NEW), RuntimeError("can't start new thread")
    with capture_logs() as logs:
        await anchors.refresh(START, force=True)
        await anchors.refresh(START, force=True)
    assert anchors.bundles(START) == (_bundle(OWN, OLD, NEW), _bundle(OTHER, FOREIGN))
    assert "can't start new thread" in anchors.errors[OTHER]
    (failed,) = (entry for entry in logs if entry["event"] == "trust source failed")
    assert failed["exc_info"] is other.answer
