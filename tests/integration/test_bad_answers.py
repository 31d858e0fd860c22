"""A CA that has issued, and then misbehaves: the identity in use stays, and the error says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from structlog.testing import capture_logs

from sidecar.ca.pem import request_pem
from sidecar.core.csr import build_csr
from sidecar.errors import AuthorityError, AuthorityUnavailable, CertificateRefused, MeshkeyError
from sidecar.token.base import KeyId
from tests.fakes.istio_ca import running as running_ca
from tests.fakes.istio_pki import now
from tests.fakes.istio_rules import Istiod
from tests.fakes.service_account_tokens import TokenIssuer
from tests.fixtures import certificates
from tests.fixtures.enrolment import LIFETIME, SPIFFE_ID, TRUST_DOMAIN
from tests.fixtures.istio_scene import NEW_ROOT, Scene, Used, first
from tests.fixtures.waiting import settle, soon

_ID = str(SPIFFE_ID)
_HOUR = timedelta(hours=1)
_OLD_ROOT = certificates.root("old root", at=now() - timedelta(days=400))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with running_ca(Istiod(), TRUST_DOMAIN) as ca:
        made = Scene(tmp_path, ca)
        yield made
        await made.close()


@dataclass(frozen=True)
class Bad:
    """Something that goes wrong. The user is told the thing, and the way out."""

    happens: Callable[[Scene], object]
    kind: type[MeshkeyError]
    thing: str
    way_out: str


_ADDRESS = "ca.address must be that of istiod or istio-csr"
_CLOCKS = "compare the clocks"
_TEMPLATE = "see by which template or profile the CA signs"
_ROOTS = "put that root where the roots are read from"


def _clock_ahead(scene: Scene) -> None:
    scene.world.clock.jump(timedelta(minutes=10))
    scene.mishear(lifetime=timedelta(minutes=9))


def _expired_root(scene: Scene) -> None:
    scene.trust(NEW_ROOT, scene.pki.root, _OLD_ROOT)
    scene.sign_under(_OLD_ROOT)


def _leaf(
    *uris: str, valid: tuple[timedelta, timedelta] = (-_HOUR, _HOUR), **ways: Any
) -> Callable[[Scene], object]:
    return lambda scene: scene.answer_with_leaf(*uris, valid=valid, **ways)


_OTHER_KEY = request_pem(build_csr(SPIFFE_ID, certificates.new_key())).decode()

BAD = {
    # What is no answer.
    "a garbage certificate": Bad(
        lambda s: s.answer(lambda chain: ["garbage", *chain[1:]]),
        AuthorityError,
        "its answer holds something that is no PEM certificate",
        _ADDRESS,
    ),
    "a garbage message": Bad(
        lambda s: s.garble(b"garbage"), AuthorityError, "its answer cannot be decoded", _ADDRESS
    ),
    "an empty answer": Bad(
        lambda s: s.garble(b""), AuthorityError, "its answer has 0 elements", _ADDRESS
    ),
    "one element": Bad(
        lambda s: s.answer(lambda chain: chain[:1]),
        AuthorityError,
        "its answer has 1 elements, and a leaf and a root are expected",
        _ADDRESS,
    ),
    "10 MB": Bad(
        lambda s: s.garble(bytes(10_000_000)),
        AuthorityError,
        "its answer is larger than 1048576 bytes",
        _ADDRESS,
    ),
    "33 certificates": Bad(
        lambda s: s.answer(lambda chain: chain + chain[-1:] * 29),
        AuthorityError,
        "its answer has 33 certificates",
        "let it have fewer roots",
    ),
    "11 certificates": Bad(
        lambda s: s.answer(lambda chain: chain + chain[-1:] * 7),
        CertificateRefused,
        "the CA answered with 11 certificates",
        "let it send fewer roots",
    ),
    "silence": Bad(
        Scene.hang, AuthorityUnavailable, "DEADLINE_EXCEEDED", "or set a longer ca.deadline"
    ),
    "a refusal": Bad(
        lambda s: setattr(s.ca, "tokens", TokenIssuer()),
        AuthorityError,
        "UNAUTHENTICATED: request authenticate failure",
        "compare the token's audience, the cluster ID, and the SPIFFE ID",
    ),
    "an outage": Bad(
        lambda s: s.ca.failures.extend([(grpc.StatusCode.UNAVAILABLE, "stopping")] * 6),
        AuthorityUnavailable,
        "UNAVAILABLE: stopping",
        "see whether it runs, and compare ca.address",
    ),
    # What is on our side.
    "no token file": Bad(
        lambda s: s.files.token.unlink(),
        AuthorityUnavailable,
        "istio-token cannot be read: No such file",
        "mount the projected service account token there",
    ),
    "no root file": Bad(
        lambda s: s.files.root.unlink(),
        AuthorityUnavailable,
        "root-cert.pem cannot be read: No such file",
        "it must have the root of the CA's own TLS certificate",
    ),
    "a clock 10 minutes behind": Bad(
        lambda s: s.world.clock.jump(-timedelta(minutes=10)),
        CertificateRefused,
        "the certificate is valid from",
        _CLOCKS,
    ),
    "a clock 10 minutes ahead": Bad(
        _clock_ahead, CertificateRefused, "the certificate expired", _CLOCKS
    ),
    # What is not what was asked for.
    "another key": Bad(
        lambda s: s.mishear(csr=_OTHER_KEY),
        CertificateRefused,
        "is for another key than the one in the request",
        "see the CA's log",
    ),
    "another SPIFFE ID": Bad(
        lambda s: s.mishear(caller=f"{_ID}2"),
        CertificateRefused,
        f"names ['{_ID}2'], expected exactly {_ID}",
        "compare spiffe_id with the trust domain and the workload",
    ),
    "a second SPIFFE ID": Bad(
        _leaf(_ID, f"{_ID}2"), CertificateRefused, f"expected exactly {_ID}", "compare spiffe_id"
    ),
    "an expired leaf": Bad(
        _leaf(valid=(-_HOUR, timedelta(minutes=-1))),
        CertificateRefused,
        "the certificate expired",
        _CLOCKS,
    ),
    "a leaf that is about to expire": Bad(
        _leaf(valid=(-_HOUR, timedelta(seconds=50))),
        CertificateRefused,
        "at least 0:01:00 is needed",
        "let the CA give longer lifetimes",
    ),
    "a leaf of tomorrow": Bad(
        _leaf(valid=(24 * _HOUR, 25 * _HOUR)),
        CertificateRefused,
        "the certificate is valid from",
        _CLOCKS,
    ),
    "a leaf for ten years": Bad(
        _leaf(valid=(-_HOUR, timedelta(days=3650))),
        CertificateRefused,
        "at most 90 days, 0:00:00 is allowed",
        "let the CA give shorter lifetimes",
    ),
    "a CA certificate": Bad(
        _leaf(ca=True), CertificateRefused, "is a CA certificate, which a workload's", _TEMPLATE
    ),
    "a leaf that may sign certificates": Bad(
        _leaf(usages=["digital_signature", "key_cert_sign"]),
        CertificateRefused,
        "may sign certificates",
        _TEMPLATE,
    ),
    "a leaf that may not sign handshakes": Bad(
        _leaf(usages=["key_encipherment"]),
        CertificateRefused,
        "key usage lacks digitalSignature",
        _TEMPLATE,
    ),
    "a leaf for clients only": Bad(
        _leaf(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]),
        CertificateRefused,
        "extended key usage that lacks server auth",
        _TEMPLATE,
    ),
    # What leads nowhere.
    "a strange root": Bad(
        Scene.sign_under, CertificateRefused, "it ends below 'CN=mesh root', whose key", _ROOTS
    ),
    "a root that has left": Bad(
        lambda s: s.trust(NEW_ROOT), CertificateRefused, "it ends below 'CN=mesh root'", _ROOTS
    ),
    "an expired root": Bad(
        _expired_root,
        CertificateRefused,
        "the root 'CN=old root' is valid from",
        "or let the CA sign under its successor",
    ),
    "no intermediate": Bad(
        lambda s: s.answer(lambda chain: [chain[0], *chain[2:]]),
        CertificateRefused,
        "it ends below 'CN=mesh intermediate'",
        "let the CA send what is missing",
    ),
}


@pytest.mark.parametrize("bad", [pytest.param(bad, id=name) for name, bad in BAD.items()])
async def test_the_identity_in_use_stays_and_the_error_names_the_thing_and_the_way_out(
    scene: Scene, bad: Bad
) -> None:
    used = await first(scene)
    bad.happens(scene)
    with pytest.raises(bad.kind) as raised:
        await scene.identity.renew()
    message = str(raised.value)
    assert raised.type is bad.kind
    name = f"Istio CA 127.0.0.1:{scene.ca.port}: "
    assert message.startswith((name, "mesh-ca: ", "token file ", "root file "))
    assert message.index(bad.way_out) > message.index(bad.thing)
    used.require_untouched(message)
    scene.repair()
    await _renewed(scene, used)


async def test_an_answer_after_the_deadline_changes_nothing(scene: Scene) -> None:
    used = await first(scene)
    scene.hang()
    with pytest.raises(AuthorityUnavailable, match="DEADLINE_EXCEEDED") as raised:
        await scene.identity.renew()
    scene.ca.open.set()
    await settle()
    used.require_untouched(str(raised.value))
    await _renewed(scene, used)


async def test_a_running_identity_goes_on_until_the_ca_is_right_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.identity.identity._TICK_S", 0.01)
    used = await first(scene)
    scene.mishear(csr=_OTHER_KEY)
    running = asyncio.create_task(scene.identity.run())
    scene.world.clock.advance(LIFETIME / 2)
    with capture_logs() as logs:
        await soon(lambda: scene.identity.last_error, "the failure")
        used.require_untouched(scene.identity.last_error)
        await soon(lambda: [entry for entry in logs if entry["event"] == "renewal failed"])
    (entry, *_) = [entry for entry in logs if entry["event"] == "renewal failed"]
    assert entry["error"].startswith("mesh-ca: the certificate is for another key")
    assert "exc_info" not in entry or entry["exc_info"] is None
    scene.repair()
    scene.world.clock.advance(timedelta(minutes=1))
    await soon(lambda: scene.identity.store.generation == 2, "a renewal of its own accord")
    running.cancel()
    await asyncio.wait([running])


async def _renewed(scene: Scene, used: Used) -> None:
    assert await scene.identity.renew() == 2
    told = scene.status()
    assert (told.generation, told.last_error, told.authority) == (2, "", "mesh-ca")
    assert told.serial != used.status.serial
    await soon(lambda: scene.world.token.held_keys == {KeyId(told.key_id)}, "one key is left")
