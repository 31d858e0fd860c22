"""What may be signed: one thing, for one side, with one key; and every refusal."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.certificate_verify import CertificateVerifyContent, Side
from sidecar.core.permission import Permissions
from sidecar.core.purpose import SigningPurpose, purposes_of
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.errors import RefusalReason, SigningRefused
from sidecar.identity.snapshot import KeyGrant
from sidecar.signer import policy
from sidecar.signer.policy import ApprovedSignature, Grants
from sidecar.token.base import KeyId
from tests.fakes.callers import everything_of
from tests.fixtures import foreign, tls12
from tests.fixtures.clock import START
from tests.fixtures.requests import PURPOSES, SCHEME, handshake, sign_request

KEY = KeyId(b"our key")
BOTH = frozenset(Side)
EVERYTHING = everything_of("default")


def _grants(
    sides: frozenset[Side] = BOTH,
    schemes: Collection[SignatureScheme] = (SCHEME,),
    *,
    tls12: bool = False,
    leaves: tuple[bytes, ...] = (b"our leaf",),
) -> Grants:
    until = START + timedelta(minutes=20)
    purposes = purposes_of(sides, tls12=tls12)
    granted = KeyGrant(KEY, "default", purposes, frozenset(schemes), until, leaves)

    def grant(key_id: KeyId, among: Iterable[str]) -> KeyGrant | None:
        return granted if key_id == KEY and "default" in among else None

    return grant


def approve(
    request: pb.SignRequest, grants: Grants, permissions: Permissions = EVERYTHING
) -> ApprovedSignature:
    return policy.approve(request, grants, permissions)


def _changed(**fields: object) -> pb.SignRequest:
    request = sign_request(KEY)
    for name, value in fields.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize("side", Side)
def test_a_handshake_of_either_side_is_approved_as_it_is(side: Side) -> None:
    request = sign_request(KEY, side=side)
    approved = approve(request, _grants())
    assert (approved.key_id, approved.scheme) == (KEY, SCHEME)
    assert approved.message == request.message


def test_an_rsa_key_signs_a_tls13_handshake_with_pss_and_never_with_pkcs1() -> None:
    schemes = KeyAlgorithm.RSA_2048.schemes
    grants = _grants(schemes=schemes, tls12=True)
    for scheme in schemes:
        request = _changed(scheme=int(scheme))
        if not scheme.is_pkcs1:
            assert approve(request, grants).scheme is scheme
            continue
        with pytest.raises(SigningRefused, match=r"it has 0x0804, 0x0805, 0x0806$") as refused:
            approve(request, grants)
        assert refused.value.reason is RefusalReason.SCHEME


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
@pytest.mark.parametrize("side", Side)
def test_the_transcript_hash_is_the_cipher_suites_whatever_the_scheme(
    algorithm: KeyAlgorithm, side: Side
) -> None:
    # RFC 8446 section 4.4.3: a P-256 key signs after TLS_AES_256_GCM_SHA384, and so on.
    for scheme in (each for each in algorithm.schemes if not each.is_pkcs1):
        for hash_bytes, length in ((32, 130), (48, 146)):
            message = CertificateVerifyContent(side, bytes(hash_bytes)).encode()
            request = _changed(purpose=PURPOSES[side], scheme=int(scheme), message=message)
            approved = approve(request, _grants(schemes=algorithm.schemes))
            assert approved.message == message
            assert len(message) == length
        for hash_bytes in (0, 20, 28, 31, 33, 47, 49, 64):
            message = CertificateVerifyContent(side, bytes(hash_bytes)).encode()
            request = _changed(purpose=PURPOSES[side], scheme=int(scheme), message=message)
            with pytest.raises(SigningRefused, match=f"hash has {hash_bytes} bytes"):
                approve(request, _grants(schemes=algorithm.schemes))


def _digest() -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(handshake())
    return digest.finalize()


@pytest.mark.parametrize(
    ("request_", "reason", "detail"),
    [
        (_changed(key_id=b"another"), RefusalReason.UNKNOWN_KEY, "no such key here"),
        (_changed(key_id=b""), RefusalReason.UNKNOWN_KEY, "no such key here"),
        (_changed(scheme=0x0804), RefusalReason.SCHEME, "0x0804 is not this key's; it has 0x0403"),
        (_changed(scheme=0), RefusalReason.SCHEME, "0x0000"),
        (_changed(scheme=2**32 - 1), RefusalReason.SCHEME, "0xffffffff"),
        (_changed(purpose=0), RefusalReason.PURPOSE, "purpose 0 is not served"),
        (_changed(purpose=3), RefusalReason.PURPOSE, "does not sign for TLS 1.2: .* set tls12$"),
        (_changed(purpose=4), RefusalReason.PURPOSE, "does not sign for TLS 1.2: .* set tls12$"),
        (_changed(purpose=5), RefusalReason.PURPOSE, "purpose 5 is not served"),
        (_changed(purpose=-1), RefusalReason.PURPOSE, "purpose -1 is not served"),
        (_changed(purpose=PURPOSES[Side.CLIENT]), RefusalReason.MESSAGE, "the other side's"),
        (_changed(message=handshake(Side.CLIENT)), RefusalReason.MESSAGE, "the other side's"),
        (_changed(message=b""), RefusalReason.MESSAGE, "64 spaces"),
        (_changed(message=_digest()), RefusalReason.MESSAGE, "64 spaces"),
        (_changed(message=handshake() + b"\0"), RefusalReason.MESSAGE, "49 bytes"),
        (_changed(message=handshake()[:-1]), RefusalReason.MESSAGE, "47 bytes"),
        (_changed(message=b"\0" + handshake()), RefusalReason.MESSAGE, "64 spaces"),
    ],
)
def test_everything_else_is_refused_with_its_reason(
    request_: pb.SignRequest, reason: RefusalReason, detail: str
) -> None:
    with pytest.raises(SigningRefused, match=detail) as refused:
        approve(request_, _grants())
    assert refused.value.reason is reason


@pytest.mark.parametrize("side", Side)
def test_a_key_for_one_side_does_not_sign_for_the_other(side: Side) -> None:
    (other,) = BOTH - {side}
    grants = _grants(frozenset([side]))
    assert approve(sign_request(KEY, side=side), grants)
    with pytest.raises(SigningRefused, match=f"not sign as a TLS {other.name.lower()}") as refused:
        approve(sign_request(KEY, side=other), grants)
    assert refused.value.reason is RefusalReason.PURPOSE


def test_an_unknown_key_hides_what_else_is_wrong() -> None:
    # Who has no key learns nothing about schemes and sides.
    with pytest.raises(SigningRefused) as refused:
        approve(pb.SignRequest(key_id=b"another", scheme=1, purpose=9), _grants())  # type: ignore[arg-type]
    assert refused.value.reason is RefusalReason.UNKNOWN_KEY


@pytest.mark.parametrize("permissions", [{}, everything_of("another")])
def test_a_key_that_a_caller_may_not_have_is_an_unknown_key(permissions: Permissions) -> None:
    texts = set()
    for key_id in (KEY.value, b"another"):
        # Whatever else is wrong with it.
        for request in (_changed(key_id=key_id), pb.SignRequest(key_id=key_id, scheme=1)):
            with pytest.raises(SigningRefused) as refused:
                approve(request, _grants(), permissions)
            texts.add((refused.value.reason, str(refused.value)))
    ((reason, _text),) = texts
    assert reason is RefusalReason.UNKNOWN_KEY


@pytest.mark.parametrize("side", Side)
def test_a_purpose_that_a_caller_may_not_have_is_refused(side: Side) -> None:
    (other,) = BOTH - {side}
    only = {"default": purposes_of([side], tls12=True), "another": purposes_of(BOTH, tls12=True)}
    assert approve(sign_request(KEY, side=side), _grants(), only)
    with pytest.raises(SigningRefused, match=r"see purposes in \[\[caller") as refused:
        approve(sign_request(KEY, side=other), _grants(), only)
    assert refused.value.reason is RefusalReason.PURPOSE


def test_a_caller_may_have_no_more_than_the_key_does() -> None:
    with pytest.raises(SigningRefused, match="not sign as a TLS client"):
        approve(sign_request(KEY, side=Side.CLIENT), _grants(frozenset([Side.SERVER])), EVERYTHING)


def test_no_refusal_repeats_bytes_of_the_message_or_the_key_id() -> None:
    secret = "SECRETSECRET"
    for request in (_changed(message=secret.encode()), _changed(key_id=secret.encode())):
        with pytest.raises(SigningRefused) as refused:
            approve(request, _grants())
        assert secret not in str(refused.value)
        assert secret.encode().hex() not in str(refused.value)


def test_every_reason_has_its_name_in_the_api() -> None:
    ours = {f"REASON_{reason.name}": reason.value for reason in RefusalReason}
    assert ours == {k: v for k, v in pb.Refusal.Reason.items() if v}


@given(
    st.builds(
        pb.SignRequest,
        request_id=st.integers(0, 2**64 - 1),
        key_id=st.just(KEY.value) | st.binary(max_size=40),
        scheme=st.just(int(SCHEME)) | st.integers(0, 2**32 - 1),
        purpose=st.sampled_from([0, 1, 2, 3, 4]) | st.integers(-(2**31), 2**31 - 1),
        message=st.binary(max_size=200) | st.sampled_from([handshake(s) for s in Side]),
    )
)
def test_whatever_is_approved_is_a_handshake_of_a_granted_key(request_: pb.SignRequest) -> None:
    try:
        approved = approve(request_, _grants())
    except SigningRefused:
        return
    assert approved.key_id == KEY
    assert approved.scheme is SCHEME
    assert approved.message.startswith(b" " * 64 + b"TLS 1.3, ")
    assert len(approved.message) in {130, 146}


SHAKEN = tls12.handshake("rsa", "prime256v1")
RSA = KeyAlgorithm.RSA_2048.schemes
# What real handshakes of TLS 1.2, and the fixtures of TLS 1.3, have signed for each purpose.
CONTENTS = {
    SigningPurpose.TLS13_SERVER_CERTIFICATE_VERIFY: handshake(Side.SERVER),
    SigningPurpose.TLS13_CLIENT_CERTIFICATE_VERIFY: handshake(Side.CLIENT),
    SigningPurpose.TLS12_SERVER_KEY_EXCHANGE: SHAKEN.server_content,
    SigningPurpose.TLS12_CLIENT_CERTIFICATE_VERIFY: SHAKEN.client_content,
}


def _request(purpose: SigningPurpose, message: bytes, scheme: int = RSA[0]) -> pb.SignRequest:
    code = pb.Purpose.Value(f"PURPOSE_{purpose.name}")
    return _changed(purpose=code, message=message, scheme=scheme)


def test_every_purpose_of_the_api_is_a_purpose_of_the_policy() -> None:
    assert {name.removeprefix("PURPOSE_") for name, _ in pb.Purpose.items()} - {"UNSPECIFIED"} == {
        purpose.name for purpose in SigningPurpose
    }


@pytest.mark.parametrize("purpose", SigningPurpose)
@pytest.mark.parametrize("content", SigningPurpose)
def test_each_purpose_signs_its_own_messages_and_no_others(
    purpose: SigningPurpose, content: SigningPurpose
) -> None:
    grants = _grants(schemes=RSA, tls12=True, leaves=(SHAKEN.leaf,))
    request = _request(purpose, CONTENTS[content])
    if purpose is content:
        approved = approve(request, grants)
        assert (approved.purpose, approved.message) == (purpose, CONTENTS[purpose])
        return
    with pytest.raises(SigningRefused) as refused:
        approve(request, grants)
    assert refused.value.reason is RefusalReason.MESSAGE


@pytest.mark.parametrize("purpose", SigningPurpose)
@pytest.mark.parametrize("name", foreign.MESSAGES)
def test_no_purpose_signs_what_other_protocols_sign(purpose: SigningPurpose, name: str) -> None:
    grants = _grants(schemes=RSA, tls12=True, leaves=(SHAKEN.leaf,))
    with pytest.raises(SigningRefused) as refused:
        approve(_request(purpose, foreign.MESSAGES[name]), grants)
    assert refused.value.reason is RefusalReason.MESSAGE


@pytest.mark.parametrize("purpose", [each for each in SigningPurpose if each.is_tls12])
def test_tls12_is_signed_only_where_the_identity_allows_it(purpose: SigningPurpose) -> None:
    request = _request(purpose, CONTENTS[purpose])
    leaves = (SHAKEN.leaf,)
    assert approve(request, _grants(schemes=RSA, tls12=True, leaves=leaves))
    with pytest.raises(SigningRefused, match=r"TLS 1\.2: speak TLS 1\.3, or set tls12") as refused:
        approve(request, _grants(schemes=RSA, tls12=False, leaves=leaves))
    assert refused.value.reason is RefusalReason.PURPOSE
    # The setting opens no side that the identity does not have.
    other = BOTH - {purpose.side}
    with pytest.raises(SigningRefused, match="does not sign as a TLS") as refused:
        approve(request, _grants(other, RSA, tls12=True, leaves=leaves))
    assert refused.value.reason is RefusalReason.PURPOSE


def test_an_rsa_key_signs_tls12_with_pkcs1_too() -> None:
    grants = _grants(schemes=RSA, tls12=True, leaves=(SHAKEN.leaf,))
    for purpose in (each for each in SigningPurpose if each.is_tls12):
        for scheme in RSA:
            request = _request(purpose, CONTENTS[purpose], scheme)
            assert approve(request, grants).scheme is scheme
    request = _request(SigningPurpose.TLS12_SERVER_KEY_EXCHANGE, SHAKEN.server_content, SCHEME)
    with pytest.raises(SigningRefused, match="0x0403 is not this key's") as refused:
        approve(request, grants)
    assert refused.value.reason is RefusalReason.SCHEME


def test_a_tls12_client_must_have_shown_a_certificate_of_this_key() -> None:
    purpose = SigningPurpose.TLS12_CLIENT_CERTIFICATE_VERIFY
    request = _request(purpose, CONTENTS[purpose])
    assert approve(request, _grants(schemes=RSA, tls12=True, leaves=(b"newer", SHAKEN.leaf)))
    with pytest.raises(SigningRefused, match="none of this key's") as refused:
        approve(request, _grants(schemes=RSA, tls12=True))
    assert refused.value.reason is RefusalReason.MESSAGE


def test_a_tls12_client_signs_with_a_scheme_that_the_server_asked_for() -> None:
    asked = (8).to_bytes(2) + b"".join(scheme.to_bytes(2) for scheme in RSA[:4])
    request = SHAKEN.changed(tls12.CERTIFICATE_REQUEST, b"\x01\x01" + asked + b"\0\0")
    grants = _grants(schemes=RSA, tls12=True, leaves=(SHAKEN.leaf,))
    purpose = SigningPurpose.TLS12_CLIENT_CERTIFICATE_VERIFY
    for scheme in RSA[:4]:
        assert approve(_request(purpose, request.client_content, scheme), grants)
    for scheme in RSA[4:]:
        with pytest.raises(SigningRefused, match=f"does not list scheme 0x{scheme:04x}"):
            approve(_request(purpose, request.client_content, scheme), grants)
