"""A saved certificate goes on being used, if everything about it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from sidecar.core.certificate_verify import Side
from sidecar.core.chain import LONGEST_LEAF, CertificateChain, verified_chain
from sidecar.core.spiffe import SpiffeId
from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused
from sidecar.identity.saved import SavedIdentity
from sidecar.token.base import TokenKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TakenUp:
    """A key with its chain, verified now. It may be due for renewal at once."""

    key: TokenKey
    chain: CertificateChain
    # From here half the lifetime counts; never in the future.
    obtained: datetime


def take_up(
    name: str,
    saved: SavedIdentity,
    *,
    keys: Sequence[TokenKey],
    spiffe_id: SpiffeId,
    sides: frozenset[Side],
    bundle: TrustBundle,
    longest: timedelta = LONGEST_LEAF,
    now: datetime,
) -> TakenUp | None:
    """What was saved for identity `name`, checked as a CA's answer is; no I/O.

    `keys` are those on the token that the identity may use, `bundle` the configured roots of
    its trust domain. `None`, with the reason in the log, if any check fails: then a new
    certificate is needed. An expired one is such a case; one that is past half of its
    lifetime is not, it is due.
    """
    try:
        key = _key(saved, keys)
        chain = verified_chain(
            saved.chain,
            public_key=key.public_key,
            spiffe_id=spiffe_id,
            roots=bundle.roots,
            now=now,
            sides=sides,
            longest=longest,
        )
    except CertificateRefused as error:
        log.warning(
            "saved certificate not used",
            identity=name,
            key_id=str(saved.key_id),
            reason=str(error),
        )
        return None
    # The file is not to be believed: a later moment would put the renewal off.
    obtained = max(chain.not_before, min(saved.obtained, now))
    return TakenUp(key, chain, obtained)


def _key(saved: SavedIdentity, keys: Sequence[TokenKey]) -> TokenKey:
    found = [key for key in keys if key.id == saved.key_id]
    if not found:
        raise CertificateRefused(
            "the token does not hold its key any more, or holds it as no key of ours"
        )
    if len(found) > 1:
        raise CertificateRefused(f"the token holds {len(found)} keys under its key's identifier")
    (key,) = found
    return key
