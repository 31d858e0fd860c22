"""The one shape of CSR: what we build is accepted, every widening is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.csr import build_csr, parse_csr
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.spiffe import SpiffeId
from sidecar.core.token_key import TokenEcKey, token_private_key
from sidecar.errors import CsrRefused
from tests.fakes.token import FakeToken
from tests.fixtures import certificates
from tests.unit.core.test_spiffe import spiffe_ids

ID = "spiffe://demo.mesh/ns/demo/sa/web"
KEY = certificates.new_key()
URI = x509.UniformResourceIdentifier(ID)


def _token_key(key: ec.EllipticCurvePrivateKey) -> TokenEcKey:
    return TokenEcKey(
        key.public_key(), lambda _, message: key.sign(message, ec.ECDSA(hashes.SHA256()))
    )


_BUILT = build_csr(SpiffeId.parse(ID), _token_key(KEY))


def _csr(
    *names: x509.GeneralName,
    critical: bool = True,
    subject: x509.Name | None = None,
    key: CertificateIssuerPrivateKeyTypes = KEY,
    extend: Callable[
        [x509.CertificateSigningRequestBuilder], x509.CertificateSigningRequestBuilder
    ] = lambda builder: builder,
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)
    return extend(builder).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@settings(max_examples=50)
@given(spiffe_ids)
def test_what_is_built_asks_for_exactly_that_identity_and_key(spiffe_id: SpiffeId) -> None:
    parsed = parse_csr(build_csr(spiffe_id, _token_key(KEY)))
    assert parsed.spiffe_id == spiffe_id
    assert parsed.public_key == KEY.public_key()


def test_the_shape_that_the_other_tests_widen_is_accepted() -> None:
    assert str(parse_csr(_csr(URI)).spiffe_id) == ID


_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")])
_CA = x509.BasicConstraints(ca=True, path_length=None)


@pytest.mark.parametrize(
    ("der", "rule"),
    [
        pytest.param(_csr(URI, subject=_SUBJECT), "subject is not empty", id="subject"),
        pytest.param(_csr(), "exactly one extension", id="no name"),
        pytest.param(
            _csr(URI, extend=lambda b: b.add_extension(_CA, critical=True)),
            "exactly one extension",
            id="second extension",
        ),
        pytest.param(
            _csr(extend=lambda b: b.add_extension(_CA, critical=True)),
            "exactly one extension",
            id="another extension",
        ),
        pytest.param(_csr(URI, critical=False), "not critical", id="not critical"),
        pytest.param(
            _csr(URI, x509.UniformResourceIdentifier(ID + "2")), "exactly one name", id="two URIs"
        ),
        pytest.param(_csr(URI, x509.DNSName("web.demo")), "exactly one name", id="also DNS"),
        pytest.param(_csr(x509.DNSName("web.demo")), "exactly one name", id="DNS only"),
        pytest.param(_csr(x509.RFC822Name("a@b.c")), "exactly one name", id="mail"),
        pytest.param(
            _csr(x509.UniformResourceIdentifier("https://demo.mesh/a")),
            "not a SPIFFE ID",
            id="another URI",
        ),
        pytest.param(
            _csr(x509.UniformResourceIdentifier("spiffe://demo.mesh")), "path", id="trust domain"
        ),
        pytest.param(
            _csr(URI, key=ec.generate_private_key(ec.SECP256K1())), "of no kind", id="secp256k1"
        ),
        pytest.param(
            _csr(URI, key=rsa.generate_private_key(65537, 1024)), "of no kind", id="RSA-1024"
        ),
        pytest.param(_BUILT[:-1], "cannot be read", id="cut"),
        pytest.param(_BUILT + b"\0", "cannot be read", id="trailing byte"),
        pytest.param(b"", "cannot be read", id="nothing"),
        pytest.param(b"no request", "cannot be read", id="garbage"),
    ],
)
def test_a_request_for_anything_more_is_refused(der: bytes, rule: str) -> None:
    with pytest.raises(CsrRefused, match=rule):
        parse_csr(der)


def test_a_request_that_another_key_signed_is_refused() -> None:
    other = certificates.new_key()
    forged = TokenEcKey(
        KEY.public_key(), lambda _, message: other.sign(message, ec.ECDSA(hashes.SHA256()))
    )
    with pytest.raises(CsrRefused, match="not signed by the key"):
        parse_csr(build_csr(SpiffeId.parse(ID), forged))


def test_an_attribute_beside_the_extensions_changes_nothing_that_is_granted() -> None:
    with_challenge = _csr(
        URI, extend=lambda b: b.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"x")
    )
    assert str(parse_csr(with_challenge).spiffe_id) == ID


@settings(max_examples=300)
@given(st.integers(0, len(_BUILT) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_and_raises_nothing_else(place: int, value: int) -> None:
    changed = bytearray(_BUILT)
    changed[place] = value
    try:
        accepted = parse_csr(bytes(changed))
    except CsrRefused:
        return
    # The signature's encoding has spare bits; what was signed has none.
    assert accepted == parse_csr(_BUILT)


@given(st.binary(max_size=600))
def test_arbitrary_bytes_are_refused(der: bytes) -> None:
    with pytest.raises(CsrRefused):
        parse_csr(der)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_every_kind_of_key_asks_in_the_same_shape(algorithm: KeyAlgorithm) -> None:
    token = FakeToken()
    key = token.generate(algorithm, "k")
    private = token_private_key(key.public_key, lambda s, m: token.sign(key.id, s, m))
    request = parse_csr(build_csr(SpiffeId.parse(ID), private))
    assert request.public_key == key.public_key
    assert str(request.spiffe_id) == ID
