"""What every `CertificateAuthority` does, the fake one included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sidecar.ca.base import CertificateAuthority
from sidecar.ca.local import LocalAuthority
from sidecar.core.chain import CertificateChain, verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import AuthorityError, AuthorityUnavailable, Retryable
from tests.fakes.authority import FakeAuthority
from tests.fixtures import certificates
from tests.fixtures.mesh import TRUST_DOMAIN, Mesh, spiffe_id

ID = SpiffeId.parse(spiffe_id())
KEY = certificates.new_key()
LIFETIME = timedelta(minutes=20)


@dataclass
class _Authority:
    client: CertificateAuthority
    root: x509.Certificate
    go_away: Callable[[], object]

    async def chain(self, lifetime: timedelta = LIFETIME) -> CertificateChain:
        return verified_chain(
            await self.client.sign(build_csr(ID, KEY), lifetime),
            public_key=KEY.public_key(),
            spiffe_id=ID,
            roots=[self.root],
            now=_now(),
        )


def _now() -> datetime:
    return datetime.now(UTC)


def _fake() -> _Authority:
    fake = FakeAuthority(TRUST_DOMAIN, _now)
    return _Authority(fake, fake.root.certificate, lambda: setattr(fake, "available", False))


@asynccontextmanager
async def _local(mesh: Mesh, go_away: Callable[[], object]) -> AsyncIterator[_Authority]:
    root = x509.load_pem_x509_certificate(mesh.root_file.read_bytes())
    async with mesh.channel("ca") as channel:
        yield _Authority(LocalAuthority(channel), root, go_away)


@pytest.fixture(params=["local", "fake"])
async def authority(
    request: pytest.FixtureRequest, running_mesh: Mesh
) -> AsyncIterator[_Authority]:
    """For tests that leave it as it was: the local CA is one process for all of them."""
    if request.param == "fake":
        yield _fake()
        return
    async with _local(running_mesh, lambda: None) as local:
        yield local


@pytest.fixture(params=["local", "fake"])
async def mortal_authority(request: pytest.FixtureRequest, mesh: Mesh) -> AsyncIterator[_Authority]:
    """One that may go away."""
    if request.param == "fake":
        yield _fake()
        return
    async with _local(mesh, mesh.start_issuer().stop) as local:
        yield local


async def test_its_answer_is_what_was_asked_for(authority: _Authority) -> None:
    asked = _now()
    chain = await authority.chain()
    assert chain.not_before <= asked
    assert asked < chain.not_after <= _now() + LIFETIME


async def test_it_answers_again_and_again_with_new_certificates(authority: _Authority) -> None:
    assert (await authority.chain()).serial != (await authority.chain()).serial


async def test_it_never_gives_more_than_was_wished(authority: _Authority) -> None:
    chain = await authority.chain(timedelta(minutes=1))
    assert chain.not_after <= _now() + timedelta(minutes=1)


def _with_a_subject() -> bytes:
    return _plain(KEY, x509.NameAttribute(NameOID.COMMON_NAME, "admin"))


def _plain(key: ec.EllipticCurvePrivateKey, *subject: x509.NameAttribute[str]) -> bytes:
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(ID))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    request = builder.add_extension(uri, critical=True).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "csr",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no request", id="garbage"),
        pytest.param(_with_a_subject(), id="subject"),
        pytest.param(build_csr(SpiffeId.parse("spiffe://other.mesh/web"), KEY), id="domain"),
        pytest.param(_plain(ec.generate_private_key(ec.SECP256K1())), id="secp256k1"),
    ],
)
async def test_a_refusal_is_no_reason_to_ask_again(authority: _Authority, csr: bytes) -> None:
    with pytest.raises(AuthorityError) as refused:
        await authority.client.sign(csr, LIFETIME)
    assert not isinstance(refused.value, Retryable)
    assert await authority.chain()


async def test_an_authority_that_is_gone_is_a_reason_to_ask_again(
    mortal_authority: _Authority,
) -> None:
    await mortal_authority.chain()
    mortal_authority.go_away()
    with pytest.raises(AuthorityUnavailable):
        await mortal_authority.chain()
