"""What a workload's key may sign: the handshakes of TLS, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from sidecar.core.certificate_verify import Side


class SigningPurpose(Enum):
    """One signed structure of one version of TLS, made on one side."""

    # RFC 8446 section 4.4.3.
    TLS13_SERVER_CERTIFICATE_VERIFY = (Side.SERVER, "1.3")
    TLS13_CLIENT_CERTIFICATE_VERIFY = (Side.CLIENT, "1.3")
    # RFC 5246 section 7.4.3 and RFC 8422 section 5.4.
    TLS12_SERVER_KEY_EXCHANGE = (Side.SERVER, "1.2")
    # RFC 5246 section 7.4.8.
    TLS12_CLIENT_CERTIFICATE_VERIFY = (Side.CLIENT, "1.2")

    def __init__(self, side: Side, version: str) -> None:
        self.side = side
        self.is_tls12 = version == "1.2"


# As configurations and records spell them.
PURPOSE_NAMES = {
    "tls13-server": SigningPurpose.TLS13_SERVER_CERTIFICATE_VERIFY,
    "tls13-client": SigningPurpose.TLS13_CLIENT_CERTIFICATE_VERIFY,
    "tls12-server": SigningPurpose.TLS12_SERVER_KEY_EXCHANGE,
    "tls12-client": SigningPurpose.TLS12_CLIENT_CERTIFICATE_VERIFY,
}


def purposes_of(sides: Collection[Side], *, tls12: bool) -> frozenset[SigningPurpose]:
    """What an identity's settings allow its keys."""
    return frozenset(
        purpose
        for purpose in SigningPurpose
        if purpose.side in sides and (tls12 or not purpose.is_tls12)
    )
