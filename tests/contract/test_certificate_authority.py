"""What every `CertificateAuthority` does, the fake one included."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import AuthorityError, AuthorityUnavailable, Retryable
from tests.contract.authorities.base import ID, KEY, LIFETIME, Authority, Kind, now
from tests.contract.authorities.fake import FAKE
from tests.contract.authorities.file import FILE
from tests.contract.authorities.istio import ISTIO_CSR, ISTIOD, ISTIOD_RA
from tests.contract.authorities.kubernetes import KUBERNETES
from tests.contract.authorities.local import LOCAL

KINDS: dict[str, Kind] = {
    "fake": FAKE,
    "file": FILE,
    "kubernetes": KUBERNETES,
    "local": LOCAL,
    "istiod": ISTIOD,
    "istiod-ra": ISTIOD_RA,
    "istio-csr": ISTIO_CSR,
}


@pytest.fixture(params=KINDS)
async def authority(request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
    """For tests that leave it as it was."""
    async with KINDS[request.param].lasting(request) as opened:
        yield opened


@pytest.fixture(params=KINDS)
async def mortal_authority(request: pytest.FixtureRequest) -> AsyncIterator[Authority]:
    """One that may go away."""
    async with KINDS[request.param].mortal(request) as opened:
        yield opened


async def test_its_answer_is_what_was_asked_for(authority: Authority) -> None:
    asked = now()
    chain = await authority.chain()
    assert chain.not_before <= now()
    assert asked < chain.not_after <= now() + LIFETIME


async def test_it_answers_again_and_again_with_new_certificates(authority: Authority) -> None:
    assert (await authority.chain()).serial != (await authority.chain()).serial


async def test_it_never_gives_more_than_was_wished(authority: Authority) -> None:
    chain = await authority.chain(authority.shortest)
    assert chain.not_after <= now() + authority.shortest


def _with_a_subject() -> bytes:
    return _plain(KEY, x509.NameAttribute(NameOID.COMMON_NAME, "admin"))


def _plain(key: ec.EllipticCurvePrivateKey, *subject: x509.NameAttribute[str]) -> bytes:
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(ID))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    request = builder.add_extension(uri, critical=True).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


BAD_REQUESTS = {
    "nothing": b"",
    "garbage": b"no request",
    "subject": _with_a_subject(),
    "domain": build_csr(SpiffeId.parse("spiffe://other.mesh/web"), KEY),
    "secp256k1": _plain(ec.generate_private_key(ec.SECP256K1())),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
async def test_a_refusal_is_no_reason_to_ask_again(authority: Authority, name: str) -> None:
    if name in authority.ignores:
        answer = await authority.client.sign(BAD_REQUESTS[name], LIFETIME)
        assert authority.verified(answer)  # it holds what the caller may have, all the same
        return
    with pytest.raises(AuthorityError) as refused:
        await authority.client.sign(BAD_REQUESTS[name], LIFETIME)
    assert not isinstance(refused.value, Retryable)
    assert await authority.chain()


async def test_an_authority_that_is_gone_is_a_reason_to_ask_again(
    mortal_authority: Authority,
) -> None:
    await mortal_authority.chain()
    await mortal_authority.go_away()
    with pytest.raises(AuthorityUnavailable):
        await mortal_authority.chain()
