"""What a server signs in TLS 1.2, and nothing that only looks like it."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import public_key
from sidecar.core.ecdh_parameters import NamedCurve
from sidecar.core.server_key_exchange import TLS12_SENTINEL, ServerKeyExchangeContent
from tests.fixtures import certificates, foreign, tls12
from tests.unit.core.test_ecdh_parameters import parameters, public

HANDSHAKES = [
    ("ec-p256", "prime256v1"),
    ("ec-p256", None),
    ("ec-p384", "secp384r1"),
    ("rsa", "secp384r1"),
    ("rsa", None),
    ("ed25519", "prime256v1"),
]
_REFUSAL = r"is ASN\.1|sentinel|curve|the public key|a list of|cut short|follow"
LENGTHS = {NamedCurve.X25519: 100, NamedCurve.SECP256R1: 133, NamedCurve.SECP384R1: 165}
curves = st.sampled_from(NamedCurve)
randoms = st.binary(min_size=32, max_size=32).filter(lambda random: random[:1] not in {b"0", b"1"})
nonces = st.binary(min_size=24, max_size=24)


def message(curve: NamedCurve, client_random: bytes = b"c" * 32, nonce: bytes = b"s" * 24) -> bytes:
    key = parameters(public(curve), curve.value)
    return client_random + nonce + TLS12_SENTINEL + key


@pytest.mark.parametrize(("kind", "curve"), HANDSHAKES)
def test_what_openssl_signed_is_what_is_understood(kind: str, curve: str | None) -> None:
    shaken = tls12.handshake(kind, curve)
    content = ServerKeyExchangeContent.parse(shaken.server_content)
    scheme, signature = shaken.server_signature
    public_key.verify(shaken.server_key, scheme, signature, content.encode())


@given(curves, randoms, nonces)
def test_what_is_parsed_is_written_back(
    curve: NamedCurve, client_random: bytes, nonce: bytes
) -> None:
    wire = message(curve, client_random, nonce)
    content = ServerKeyExchangeContent.parse(wire)
    assert (content.client_random, content.server_random) == (client_random, wire[32:64])
    assert content.parameters.public.curve is curve
    assert content.encode() == wire
    assert len(wire) == LENGTHS[curve]


@pytest.mark.parametrize("curve", NamedCurve)
def test_a_message_cut_anywhere_is_refused(curve: NamedCurve) -> None:
    wire = message(curve)
    for length in range(len(wire)):
        with pytest.raises(ValueError, match=r"cut short|sentinel"):
            ServerKeyExchangeContent.parse(wire[:length])


@pytest.mark.parametrize("curve", NamedCurve)
@pytest.mark.parametrize("more", [b"\0", bytes(2), bytes(100)])
def test_trailing_bytes_are_refused(curve: NamedCurve, more: bytes) -> None:
    with pytest.raises(ValueError, match=f"^{len(more)} bytes follow the ServerKeyExchange$"):
        ServerKeyExchangeContent.parse(message(curve) + more)


@pytest.mark.parametrize("curve", [NamedCurve.SECP256R1, NamedCurve.SECP384R1])
def test_every_bit_changed_after_the_randoms_is_refused(curve: NamedCurve) -> None:
    wire = message(curve)
    for bit in range((32 + 24) * 8, len(wire) * 8):
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=_REFUSAL):
            ServerKeyExchangeContent.parse(bytes(changed))


def test_every_bit_changed_before_an_x25519_key_is_refused() -> None:
    wire = message(NamedCurve.X25519)
    for bit in range((32 + 24) * 8, 68 * 8):
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=_REFUSAL):
            ServerKeyExchangeContent.parse(bytes(changed))


@pytest.mark.parametrize("end", [b"DOWNGRD\x00", b"DOWNGRD\x02", b"downgrd\x01", bytes(8)])
def test_a_server_random_without_the_sentinel_for_tls12_is_refused(end: bytes) -> None:
    wire = message(NamedCurve.X25519)
    with pytest.raises(ValueError, match=r"sentinel for TLS 1\.2"):
        ServerKeyExchangeContent.parse(wire[:56] + end + wire[64:])


def test_openssl_without_tls13_sends_no_sentinel_and_is_refused() -> None:
    shaken = tls12.handshake(server_offers_tls13=False)
    with pytest.raises(ValueError, match=r"let the server offer TLS 1\.3 too"):
        ServerKeyExchangeContent.parse(shaken.server_content)


def test_the_sentinel_at_another_place_is_none() -> None:
    wire = message(NamedCurve.X25519)
    moved = TLS12_SENTINEL + wire[8:56] + bytes(8) + wire[64:]
    with pytest.raises(ValueError, match="sentinel"):
        ServerKeyExchangeContent.parse(moved)


@pytest.mark.parametrize("wire", [foreign.REQUEST_ON_THE_CURVE, foreign.REQUEST_OFF_THE_CURVE])
def test_a_well_formed_request_with_every_length_right_is_refused(wire: bytes) -> None:
    # It passes for a ServerKeyExchange wherever only lengths are looked at.
    assert wire[56:69] == TLS12_SENTINEL + b"\x03\x00\x17\x41\x04"
    assert len(wire) == 64 + 4 + wire[67]
    # And it is a request: with the signature it would be a whole one.
    signature = certificates.new_key().sign(wire, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
    whole = b"\x30\x81" + bytes([len(wire + algorithm + bits)]) + wire + algorithm + bits
    assert x509.load_der_x509_csr(whole).tbs_certrequest_bytes == wire
    with pytest.raises(ValueError, match=r"is ASN\.1"):
        ServerKeyExchangeContent.parse(wire)


def test_of_the_two_requests_one_is_on_the_curve_so_that_is_not_enough() -> None:
    for wire, on_curve in (
        (foreign.REQUEST_ON_THE_CURVE, True),
        (foreign.REQUEST_OFF_THE_CURVE, False),
    ):
        other = b"\xff" + wire[1:]  # the same, but for being ASN.1
        if on_curve:
            assert ServerKeyExchangeContent.parse(other).encode() == other
            continue
        with pytest.raises(ValueError, match="is not on secp256r1"):
            ServerKeyExchangeContent.parse(other)


def test_a_sequence_around_an_x25519_key_is_refused() -> None:
    # Every 32 bytes are such a key, so nothing but the sequence gives it away.
    wire = message(NamedCurve.X25519, b"\x30\x62\x04\x60" + bytes(28))
    with pytest.raises(ValueError, match=r"is ASN\.1"):
        ServerKeyExchangeContent.parse(wire)


def test_a_random_that_only_begins_like_a_sequence_is_accepted() -> None:
    wire = message(NamedCurve.X25519, b"\x30\x62\x04\x61" + bytes(28))
    assert ServerKeyExchangeContent.parse(wire).encode() == wire


@pytest.mark.parametrize("name", foreign.MESSAGES)
def test_other_things_that_keys_sign_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=_REFUSAL):
        ServerKeyExchangeContent.parse(foreign.MESSAGES[name])


def test_the_refusal_holds_no_bytes_of_the_message() -> None:
    secret = b"payload-of-the-caller-which-is-32"
    for wire in (secret * 4, message(NamedCurve.X25519, secret[:32]) + secret):
        with pytest.raises(ValueError, match=r"sentinel|follow") as refused:
            ServerKeyExchangeContent.parse(wire)
        assert "payload" not in str(refused.value)
