"""What subscribers get to see of an identity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sidecar.core.chain import CertificateChain
from sidecar.core.deny_list import DenyList
from sidecar.core.purpose import SigningPurpose
from sidecar.core.schemes import SignatureScheme
from sidecar.core.spiffe import SpiffeId
from sidecar.core.trust import TrustBundle
from sidecar.token.base import KeyId, Origin


@dataclass(frozen=True)
class Snapshot:
    """One key, its chain and whom to trust: always used together, never changed."""

    generation: int
    spiffe_id: SpiffeId
    key_id: KeyId
    key_origin: Origin
    schemes: tuple[SignatureScheme, ...]
    chain: CertificateChain
    # Its own trust domain's first, then those that are federated with it.
    bundles: tuple[TrustBundle, ...]
    # The name of the CA that certified it.
    authority: str
    # Whom not to let in whoever certified them; `None` while there is no list.
    denied: DenyList | None = None
    # Its keys that were revoked and whose certificates have not expired.
    revoked: tuple[KeyId, ...] = ()


@dataclass(frozen=True)
class Withdrawal:
    """Instead of a snapshot: the identity is served no more."""

    generation: int


@dataclass(frozen=True)
class KeyGrant:
    """What the signer may do with a key, and until when."""

    key_id: KeyId
    # The name of the identity whose key it is.
    identity: str
    purposes: frozenset[SigningPurpose]
    schemes: frozenset[SignatureScheme]
    not_after: datetime
    # Its certificates, DER, newest first: a TLS 1.2 client must have shown one of them.
    leaves: tuple[bytes, ...]
