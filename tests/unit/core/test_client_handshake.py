"""What a client signs in TLS 1.2: one whole handshake, in which it showed our certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.core import public_key
from sidecar.core.client_handshake import ClientHandshake
from sidecar.core.schemes import SignatureScheme
from tests.fixtures import foreign, tls12
from tests.fixtures.tls12 import Handshake, Message
from tests.unit.core.test_server_key_exchange import HANDSHAKES

SCHEME = SignatureScheme.ECDSA_SECP256R1_SHA256
KINDS = (1, 2, 11, 12, 13, 14, 11, 16)
STATUS = (tls12.CERTIFICATE_STATUS, b"\x01\0\0\x05reply")
_REFUSAL = (
    r"^(the|extension|curve|both|cipher|\d+ bytes follow the) .*"
    r"(handshake|Hello|Certificate|KeyExchange|list|key|curve|TLS|suite|served|secp)"
)


def shaken() -> Handshake:
    return tls12.handshake("ec-p256", "prime256v1")


def parse(wire: bytes, scheme: SignatureScheme = SCHEME) -> ClientHandshake:
    return ClientHandshake.parse(wire, (shaken().leaf,), scheme)


def _messages() -> list[Message]:
    return list(shaken().before_verify)


@pytest.mark.parametrize(("kind", "curve"), HANDSHAKES)
def test_what_openssl_signed_is_what_is_understood(kind: str, curve: str | None) -> None:
    real = tls12.handshake(kind, curve)
    scheme, signature = real.client_signature
    parsed = ClientHandshake.parse(real.client_content, (real.leaf,), scheme)
    public_key.verify(real.client_key, scheme, signature, parsed.encode())
    assert parsed.client_certificates == (real.leaf,)


def test_a_client_that_speaks_tls13_signs_for_a_server_that_does_not() -> None:
    real = tls12.handshake(client_offers_tls13=True, server_offers_tls13=False)
    parsed = ClientHandshake.parse(real.client_content, (real.leaf,), SCHEME)
    assert parsed.client_hello.offers_tls13
    assert parsed.encode() == real.client_content


def test_a_stapled_ocsp_answer_has_its_place() -> None:
    messages = _messages()
    messages.insert(3, STATUS)
    parsed = parse(tls12.written(messages))
    assert parsed.ocsp_response == b"reply"
    assert parsed.encode() == tls12.written(messages)
    for place in (0, 1, 2, 4, 5, 6, 7, 8):
        messages = _messages()
        messages.insert(place, STATUS)
        with pytest.raises(ValueError, match=r"where it belongs|follow the handshake"):
            parse(tls12.written(messages))


@pytest.mark.parametrize("body", [b"", b"\x02\0\0\1x", b"\x01\0\0\0", b"\x01\0\0\1xy", b"\x01\0\0"])
def test_a_status_that_holds_no_ocsp_answer_is_refused(body: bytes) -> None:
    messages = _messages()
    messages.insert(3, (tls12.CERTIFICATE_STATUS, body))
    with pytest.raises(ValueError, match="CertificateStatus"):
        parse(tls12.written(messages))


@pytest.mark.parametrize("place", range(len(KINDS)))
def test_every_message_is_needed_once_and_in_its_place(place: int) -> None:
    assert tuple(kind for kind, _ in _messages()) == KINDS
    without, twice, swapped, late = _messages(), _messages(), _messages(), _messages()
    del without[place]
    twice.insert(place, twice[place])
    swapped[place - 1], swapped[place] = swapped[place], swapped[place - 1]
    late.append(late.pop(place))
    for messages in (without, twice, swapped, *([late] if place < 7 else [])):
        with pytest.raises(ValueError, match=r"where it belongs|follow the handshake"):
            parse(tls12.written(messages))


@pytest.mark.parametrize("kind", sorted({*range(26), 67, 254, 255}))
def test_no_message_of_any_kind_fits_in_elsewhere(kind: int) -> None:
    for place in range(len(KINDS) + 1):
        messages = _messages()
        messages.insert(place, (kind, b""))
        with pytest.raises(ValueError, match=_REFUSAL):
            parse(tls12.written(messages))


@pytest.mark.parametrize(
    ("kind", "name"), [(tls12.FINISHED, "Finished"), (tls12.CERTIFICATE_VERIFY, "verify")]
)
def test_nothing_may_follow_the_client_key_exchange(kind: int, name: str) -> None:
    body = bytes(12) if name == "Finished" else shaken().body(tls12.CERTIFICATE_VERIFY)
    with pytest.raises(ValueError, match=f"^{len(body) + 4} bytes follow the handshake$"):
        parse(tls12.written([*_messages(), (kind, body)]))


def test_a_handshake_cut_anywhere_is_refused() -> None:
    wire = shaken().client_content
    for length in range(len(wire)):
        with pytest.raises(ValueError, match=r"cut short|where it belongs"):
            parse(wire[:length])


def test_a_bit_changes_nothing_but_what_others_may_choose_freely() -> None:
    wire = shaken().client_content
    original = parse(wire)
    refused = 0
    for bit in range(len(wire) * 8):
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            parsed = parse(bytes(changed))
        except ValueError:
            refused += 1
            continue
        assert parsed.encode() == bytes(changed)
        assert _with_the_free_parts_of(original, parsed) == original
    # Every length, type, version, key, our certificate: most of what there is.
    assert refused > len(shaken().leaf) * 8 + 2 * 65 * 8


def _with_the_free_parts_of(original: ClientHandshake, parsed: ClientHandshake) -> ClientHandshake:
    """`parsed`, with whatever its peers choose put back: all the rest must be unchanged."""
    client, server = original.client_hello, original.server_hello
    exchange, request = original.server_key_exchange, original.certificate_request
    assert SCHEME in parsed.certificate_request.schemes
    return replace(
        parsed,
        client_hello=replace(
            parsed.client_hello,
            random=client.random,
            session_id=client.session_id,
            cipher_suites=client.cipher_suites,
            extensions=client.extensions,
        ),
        server_hello=replace(
            parsed.server_hello,
            random=server.random,
            session_id=server.session_id,
            # Bits of what an extension holds, and of which it is if the client named both.
            extensions=server.extensions,
            cipher_suite=server.cipher_suite,
        ),
        server_certificates=original.server_certificates,
        server_key_exchange=replace(
            parsed.server_key_exchange, scheme=exchange.scheme, signature=exchange.signature
        ),
        certificate_request=replace(
            parsed.certificate_request,
            certificate_types=request.certificate_types,
            schemes=request.schemes,
            authorities=request.authorities,
        ),
    )


def _certificates(*certificates: bytes) -> bytes:
    listed = b"".join(len(each).to_bytes(3) + each for each in certificates)
    return len(listed).to_bytes(3) + listed


@pytest.mark.parametrize(
    ("certificates", "refusal"),
    [
        (lambda _: (), "at least 1"),
        (lambda _: (b"another",), "none of this key's"),
        (lambda leaf: (b"another", leaf), "none of this key's"),
        (lambda leaf: (leaf[:-1] + b"\0",), "none of this key's"),
        (lambda leaf: (leaf + b"\0",), "none of this key's"),
        (lambda _: (shaken().body(tls12.CERTIFICATE)[6:],), "none of this key's"),
        (lambda leaf: (leaf, b""), "at least 1"),
    ],
)
def test_the_first_certificate_must_be_ours(
    certificates: Callable[[bytes], tuple[bytes, ...]], refusal: str
) -> None:
    messages = _messages()
    messages[6] = (tls12.CERTIFICATE, _certificates(*certificates(shaken().leaf)))
    with pytest.raises(ValueError, match=refusal):
        parse(tls12.written(messages))


def test_an_older_certificate_and_a_chain_are_ours_too() -> None:
    messages = _messages()
    messages[6] = (tls12.CERTIFICATE, _certificates(shaken().leaf, b"intermediate"))
    wire = tls12.written(messages)
    parsed = ClientHandshake.parse(wire, (b"newer", shaken().leaf), SCHEME)
    assert parsed.client_certificates == (shaken().leaf, b"intermediate")
    assert parsed.encode() == wire
    with pytest.raises(ValueError, match="none of this key's"):
        ClientHandshake.parse(wire, (), SCHEME)


def _request(schemes: bytes, authorities: bytes = b"") -> bytes:
    listed = len(schemes).to_bytes(2) + schemes
    return b"\x01\x40" + listed + len(authorities).to_bytes(2) + authorities


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (_request(b"\x08\x07"), "does not list scheme 0x0403"),
        (_request(b"\x08\x04\x03\x08"), "does not list scheme 0x0403"),
        (_request(b"\x04\x03\x04"), "list of schemes is cut short"),
        (_request(b""), "at least 2"),
        (b"\x00" + _request(b"\x04\x03")[2:], "at least 1"),
        (_request(b"\x04\x03", b"\0\0"), "at least 1"),
        (_request(b"\x04\x03", b"\0\x05name"), "cut short"),
        (_request(b"\x04\x03") + b"\0", "1 bytes follow the CertificateRequest"),
    ],
)
def test_a_request_must_ask_for_the_scheme(body: bytes, refusal: str) -> None:
    with pytest.raises(ValueError, match=refusal):
        parse(shaken().changed(tls12.CERTIFICATE_REQUEST, body).client_content)


def test_a_request_may_name_authorities() -> None:
    body = _request(b"\x08\x07\x04\x03", b"\0\x04name\0\1x")
    wire = shaken().changed(tls12.CERTIFICATE_REQUEST, body).client_content
    parsed = parse(wire)
    assert parsed.certificate_request.authorities == (b"name", b"x")
    assert parsed.encode() == wire
    with pytest.raises(ValueError, match="does not list scheme 0x0503"):
        parse(wire, SignatureScheme.ECDSA_SECP384R1_SHA384)


@pytest.mark.parametrize(
    ("kind", "change", "refusal"),
    [
        (tls12.SERVER_KEY_EXCHANGE, lambda body: body + b"\0", "1 bytes follow the ServerKeyEx"),
        (tls12.SERVER_KEY_EXCHANGE, lambda body: b"\x01" + body[1:], "not a named one"),
        (tls12.SERVER_KEY_EXCHANGE, lambda body: body[:71] + b"\0\0", "at least 1"),
        (tls12.SERVER_HELLO_DONE, lambda _: b"\0", "1 bytes follow the ServerHelloDone"),
        (tls12.CERTIFICATE, lambda _: b"\0\0\0", "at least 1"),
        (tls12.CERTIFICATE, lambda body: body + b"\0", "1 bytes follow the Certificate"),
        (tls12.CLIENT_KEY_EXCHANGE, lambda body: body + b"\0", "1 bytes follow the ClientKeyEx"),
        (tls12.CLIENT_KEY_EXCHANGE, lambda _: b"\x01\x00", "no uncompressed point"),
        (tls12.CLIENT_KEY_EXCHANGE, lambda _: b"\x20" + b"\x09" * 32, "no uncompressed point"),
        (tls12.CLIENT_KEY_EXCHANGE, lambda body: body[:-1] + bytes([body[-1] ^ 1]), "not on secp"),
        # RSA key exchange: a length and an encrypted secret.
        (tls12.CLIENT_KEY_EXCHANGE, lambda _: b"\x01\x00" + bytes(256), "no uncompressed point"),
    ],
)
def test_a_message_with_another_body_is_refused(
    kind: int, change: Callable[[bytes], bytes], refusal: str
) -> None:
    changed = shaken().changed(kind, change(shaken().body(kind)))
    with pytest.raises(ValueError, match=refusal):
        parse(changed.client_content)


def test_a_real_handshake_without_the_extended_master_secret_is_refused() -> None:
    real = tls12.handshake(extended_master_secret=False)
    with pytest.raises(ValueError, match="the ClientHello has no extended_master_secret"):
        ClientHandshake.parse(real.client_content, (real.leaf,), SCHEME)


def test_64_kib_are_read_and_not_a_byte_more() -> None:
    wire = shaken().client_content
    room = 64 * 1024 - len(wire)
    body = shaken().body(tls12.CERTIFICATE_REQUEST)
    for over in (0, 1):
        name = b"n" * (room - 2 + over)
        authorities = len(name).to_bytes(2) + name
        longer = body[:-2] + len(authorities).to_bytes(2) + authorities
        padded = shaken().changed(tls12.CERTIFICATE_REQUEST, longer).client_content
        assert len(padded) == 64 * 1024 + over
        if not over:
            assert parse(padded).encode() == padded
            continue
        with pytest.raises(ValueError, match="has 65537 bytes, at most 65536"):
            parse(padded)


@pytest.mark.parametrize("name", foreign.MESSAGES)
def test_other_things_that_keys_sign_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no ClientHello where it belongs"):
        parse(foreign.MESSAGES[name])


def test_what_a_server_signs_is_refused() -> None:
    for wire in (shaken().server_content, b"\x01" + shaken().server_content[1:]):
        with pytest.raises(ValueError, match=r"no ClientHello|cut short"):
            parse(wire)


def test_the_refusal_holds_no_bytes_of_the_message() -> None:
    secret = b"payload-of-the-caller"
    for kind in (1, 2, 11, 12, 13, 14, 16):
        with pytest.raises(ValueError, match=_REFUSAL) as refused:
            parse(shaken().changed(kind, secret).client_content)
        assert "payload" not in str(refused.value)
        assert secret.hex() not in str(refused.value)
