"""Decides what may be signed. Everything is refused but a live TLS handshake of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.certificate_verify import CertificateVerifyContent, Side
from sidecar.core.client_handshake import ClientHandshake
from sidecar.core.permission import Permissions
from sidecar.core.purpose import SigningPurpose
from sidecar.core.schemes import SignatureScheme
from sidecar.core.server_key_exchange import ServerKeyExchangeContent
from sidecar.errors import RefusalReason, SigningRefused
from sidecar.identity.snapshot import KeyGrant
from sidecar.token.base import KeyId


@dataclass(frozen=True)
class ApprovedSignature:
    """A signature that may be made: nothing else in the signer reaches the token."""

    key_id: KeyId
    scheme: SignatureScheme
    purpose: SigningPurpose
    message: bytes

    @property
    def side(self) -> Side:
        return self.purpose.side


# What may be signed with a key of one of the identities that are named, and nothing of others'.
Grants = Callable[[KeyId, Iterable[str]], KeyGrant | None]


def approve(request: pb.SignRequest, grant: Grants, permissions: Permissions) -> ApprovedSignature:
    """Checks key, purpose, scheme and message, in this order, for a caller with `permissions`.

    A key of an identity that the caller may not have is an unknown key, in every respect.

    Raises:
        SigningRefused: with the reason and what to do about it.
    """
    key_id = KeyId(request.key_id)
    granted = grant(key_id, permissions)
    if granted is None:
        raise SigningRefused(
            RefusalReason.UNKNOWN_KEY,
            "no such key here, or it was replaced: use the key of the newest identity update",
        )
    purpose = _purpose(request, granted, permissions)
    scheme = _scheme(request, granted, purpose)
    try:
        content = _PARSERS[purpose](request.message, granted, scheme)
    except ValueError as error:
        raise SigningRefused(RefusalReason.MESSAGE, str(error)) from error
    # The grant's own name of the key: what is looked up with it later is the same object.
    return ApprovedSignature(granted.key_id, scheme, purpose, content.encode())


class _Content(Protocol):
    """A parsed message, which knows how it is written."""

    def encode(self) -> bytes: ...


# What a message is for each purpose. Only what was understood is signed: the token gets what
# the parsed content encodes to, never the caller's bytes.
_PARSERS: dict[SigningPurpose, Callable[[bytes, KeyGrant, SignatureScheme], _Content]] = {
    SigningPurpose.TLS13_SERVER_CERTIFICATE_VERIFY: lambda message, _granted, _scheme: (
        CertificateVerifyContent.parse(message, Side.SERVER)
    ),
    SigningPurpose.TLS13_CLIENT_CERTIFICATE_VERIFY: lambda message, _granted, _scheme: (
        CertificateVerifyContent.parse(message, Side.CLIENT)
    ),
    SigningPurpose.TLS12_SERVER_KEY_EXCHANGE: lambda message, _granted, _scheme: (
        ServerKeyExchangeContent.parse(message)
    ),
    SigningPurpose.TLS12_CLIENT_CERTIFICATE_VERIFY: lambda message, granted, scheme: (
        ClientHandshake.parse(message, granted.leaves, scheme)
    ),
}
_PURPOSES = {
    code: SigningPurpose[name.removeprefix("PURPOSE_")] for name, code in pb.Purpose.items() if code
}


def _purpose(
    request: pb.SignRequest, granted: KeyGrant, permissions: Permissions
) -> SigningPurpose:
    purpose = _PURPOSES.get(request.purpose)
    if purpose is None:
        raise SigningRefused(
            RefusalReason.PURPOSE,
            f"purpose {request.purpose} is not served; use one of Purpose in signer.proto",
        )
    if purpose in granted.purposes:
        if purpose in permissions[granted.identity]:
            return purpose
        raise SigningRefused(
            RefusalReason.PURPOSE,
            "this caller may not have that signed with this key: see purposes in [[caller]]",
        )
    if purpose.is_tls12 and any(purpose.side is other.side for other in granted.purposes):
        raise SigningRefused(
            RefusalReason.PURPOSE, "this key does not sign for TLS 1.2: speak TLS 1.3, or set tls12"
        )
    raise SigningRefused(
        RefusalReason.PURPOSE, f"this key does not sign as a TLS {purpose.side.name.lower()}"
    )


def _scheme(request: pb.SignRequest, granted: KeyGrant, purpose: SigningPurpose) -> SignatureScheme:
    # RFC 8446 section 4.2.3: PKCS#1 v1.5 signs no TLS 1.3 handshake.
    usable = [scheme for scheme in granted.schemes if purpose.is_tls12 or not scheme.is_pkcs1]
    for scheme in usable:
        if scheme == request.scheme:
            return scheme
    offered = ", ".join(sorted(f"0x{scheme:04x}" for scheme in usable))
    raise SigningRefused(
        RefusalReason.SCHEME, f"scheme 0x{request.scheme:04x} is not this key's; it has {offered}"
    )
