"""A CertificateSigningRequest of the Kubernetes API, as meshkey asks for it and reads it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.ca.pem import MAX_CHAIN, parse_chain
from sidecar.errors import AuthorityError

USAGES = ("digital signature", "client auth", "server auth")
# The API refuses less ("may not specify a duration less than 600 seconds"); it is an int32.
_SHORTEST = timedelta(minutes=10)
_LONGEST = timedelta(seconds=2**31 - 1)


@dataclass(frozen=True)
class Verdict:
    """A condition that is true: Approved, Denied or Failed."""

    kind: str
    reason: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.reason, self.message))) or "without a reason"


@dataclass(frozen=True)
class SigningRequest:
    """A request as the API server held it at one time."""

    uid: str
    version: str
    verdicts: Mapping[str, Verdict]
    certificate: bytes

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> SigningRequest:
        """Reads an object of the API.

        Raises:
            AuthorityError: it is no CertificateSigningRequest.
        """
        try:
            metadata, status = document["metadata"], document.get("status") or {}
            uid, version = metadata["uid"], metadata["resourceVersion"]
            verdicts = [_verdict(item) for item in status.get("conditions") or []]
            certificate = base64.b64decode(status.get("certificate") or "", validate=True)
        except (KeyError, TypeError, AttributeError, binascii.Error, ValueError) as error:
            raise AuthorityError(
                "kubernetes: the API server's answer is no CertificateSigningRequest"
            ) from error
        return cls(str(uid), str(version), {v.kind: v for v in verdicts if v}, certificate)

    def chain(self, name: str, signer_name: str) -> Sequence[bytes]:
        """DER certificates, leaf first; empty while there are none.

        Raises:
            AuthorityError: denied, failed, or not a chain.
        """
        if denied := self.verdicts.get("Denied"):
            raise AuthorityError(f"kubernetes: {name} was denied: {denied}")
        if failed := self.verdicts.get("Failed"):
            raise AuthorityError(f'kubernetes: signer "{signer_name}" failed {name}: {failed}')
        if not self.certificate:
            return []
        if len(self.certificate) > MAX_CHAIN:
            raise AuthorityError(f"kubernetes: {name}: its chain is larger than 1 MiB")
        chain = parse_chain(self.certificate)
        if not chain:
            raise AuthorityError(f"kubernetes: {name}: its certificate is no PEM chain")
        return [certificate.public_bytes(Encoding.DER) for certificate in chain]


def expiration_seconds(lifetime: timedelta) -> int:
    """What to ask for. A `lifetime` below ten minutes becomes ten."""
    return int(min(max(lifetime, _SHORTEST), _LONGEST).total_seconds())


def _verdict(condition: Mapping[str, Any]) -> Verdict | None:
    if condition.get("status") != "True":
        return None
    return Verdict(
        str(condition["type"]),
        _printable(condition.get("reason")),
        _printable(condition.get("message")),
    )


def _printable(text: object) -> str:
    """What a person wrote, fit for one line of a log."""
    return "".join(c if c.isprintable() else " " for c in str(text or ""))[:300]
