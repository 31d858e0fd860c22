"""Decides what may be signed. Everything is refused but a live TLS handshake of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.certificate_verify import CertificateVerifyContent, Side
from sidecar.core.schemes import SignatureScheme
from sidecar.errors import RefusalReason, SigningRefused
from sidecar.identity.snapshot import KeyGrant
from sidecar.token.base import KeyId

_SIDES = {
    pb.PURPOSE_TLS13_SERVER_CERTIFICATE_VERIFY: Side.SERVER,
    pb.PURPOSE_TLS13_CLIENT_CERTIFICATE_VERIFY: Side.CLIENT,
}


@dataclass(frozen=True)
class ApprovedSignature:
    """A signature that may be made: nothing else in the signer reaches the token."""

    key_id: KeyId
    scheme: SignatureScheme
    side: Side
    message: bytes


def approve(
    request: pb.SignRequest, grant: Callable[[KeyId], KeyGrant | None]
) -> ApprovedSignature:
    """Checks key, side, scheme and message, in this order.

    Raises:
        SigningRefused: with the reason and what to do about it.
    """
    key_id = KeyId(request.key_id)
    granted = grant(key_id)
    if granted is None:
        raise SigningRefused(
            RefusalReason.UNKNOWN_KEY,
            "no such key here, or it was replaced: use the key of the newest identity update",
        )
    side = _side(request, granted)
    scheme = _scheme(request, granted)
    try:
        content = CertificateVerifyContent.parse(request.message, side)
    except ValueError as error:
        raise SigningRefused(RefusalReason.MESSAGE, str(error)) from error
    return ApprovedSignature(key_id, scheme, side, content.encode())


def _side(request: pb.SignRequest, granted: KeyGrant) -> Side:
    side = _SIDES.get(request.purpose)
    if side is None:
        raise SigningRefused(
            RefusalReason.PURPOSE,
            f"purpose {request.purpose} is not served; use one of Purpose in signer.proto",
        )
    if side not in granted.sides:
        raise SigningRefused(
            RefusalReason.PURPOSE, f"this key does not sign as a TLS {side.name.lower()}"
        )
    return side


def _scheme(request: pb.SignRequest, granted: KeyGrant) -> SignatureScheme:
    # RFC 8446 section 4.2.3: PKCS#1 v1.5 signs no TLS 1.3 handshake.
    usable = [scheme for scheme in granted.schemes if not scheme.is_pkcs1]
    for scheme in usable:
        if scheme == request.scheme:
            return scheme
    offered = ", ".join(sorted(f"0x{scheme:04x}" for scheme in usable))
    raise SigningRefused(
        RefusalReason.SCHEME, f"scheme 0x{request.scheme:04x} is not this key's; it has {offered}"
    )
