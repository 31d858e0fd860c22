"""What identity asks of a certificate authority."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol


class CertificateAuthority(Protocol):
    """Signs CSRs. Its answer is not trusted: the caller checks it."""

    async def sign(self, csr: bytes, lifetime: timedelta) -> Sequence[bytes]:
        """Sends a DER `csr`; returns DER certificates, leaf first.

        The authority may give less than the wished `lifetime`.

        Raises:
            AuthorityUnavailable: no answer within the client's deadline; ask again later.
            AuthorityError: the authority refused.
        """
        ...
