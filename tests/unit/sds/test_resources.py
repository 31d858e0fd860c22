"""The exact bytes of each kind of secret."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from sidecar._proto.meshkey.sds.v1 import private_key_pb2
from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.core.schemes import SignatureScheme
from sidecar.core.trust import TrustBundle
from sidecar.sds import resources
from tests.fixtures import certificates
from tests.fixtures.wire import octets, packed
from tests.unit.sds.conftest import Sds

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


@pytest.fixture
async def certified(sds: Sds) -> Sds:
    await sds.identity.renew()
    return sds


def bundle(trust_domain: str, *roots: certificates.Signed) -> TrustBundle:
    return TrustBundle.parse(trust_domain, b"".join(root.pem for root in roots))


async def test_a_certificate_is_its_chain_and_where_its_key_is(certified: Sds) -> None:
    snapshot = certified.snapshot
    (leaf,) = snapshot.chain.certificates
    pem = load_der_x509_certificate(leaf).public_bytes(Encoding.PEM)
    key = octets(1, snapshot.key_id.value) + packed(2, SignatureScheme.ECDSA_SECP256R1_SHA256)
    provider = octets(1, "meshkey") + octets(
        3, octets(1, "type.googleapis.com/google.protobuf.BytesValue") + octets(2, octets(1, key))
    )
    certificate = octets(1, octets(2, pem)) + octets(6, provider)
    expected = octets(1, "default") + octets(2, certificate)
    assert resources.tls_certificate("default", snapshot) == expected


def test_roots_of_one_domain_are_a_trusted_ca() -> None:
    first, second = certificates.root("first"), certificates.root("second")
    expected = octets(1, "ROOTCA") + octets(4, octets(1, octets(2, first.pem + second.pem)))
    assert resources.trusted_ca("ROOTCA", bundle("a.mesh", first, second)) == expected


def test_roots_of_several_domains_are_kept_apart() -> None:
    ours, theirs = certificates.root("ours"), certificates.root("theirs")
    config = octets(1, octets(1, "a.mesh") + octets(2, octets(2, ours.pem))) + octets(
        1, octets(1, "b.mesh") + octets(2, octets(2, theirs.pem))
    )
    validator = octets(1, "envoy.tls.cert_validator.spiffe") + octets(
        2, octets(1, TLS + "SPIFFECertValidatorConfig") + octets(2, config)
    )
    expected = octets(1, "ALL") + octets(4, octets(12, validator))
    made = resources.spiffe_validator("ALL", [bundle("a.mesh", ours), bundle("b.mesh", theirs)])
    assert made == expected


def test_responses_carry_a_secret_under_envoys_type() -> None:
    carried = resources.as_any(b"secret").SerializeToString()
    assert carried == octets(1, TLS + "Secret") + octets(2, b"secret")


def test_a_version_is_the_hash_of_the_content() -> None:
    assert resources.version([b"one"]) == hashlib.sha256(b"one").hexdigest()[:16]
    assert resources.version([b"one", b"two"]) == hashlib.sha256(b"onetwo").hexdigest()[:16]


def test_the_messages_have_no_place_for_a_private_key() -> None:
    certificate = [field.name for field in pb.TlsCertificate.DESCRIPTOR.fields]
    assert certificate == ["certificate_chain", "private_key_provider"]
    key = [field.name for field in private_key_pb2.PrivateKey.DESCRIPTOR.fields]
    assert key == ["key_id", "schemes"]
