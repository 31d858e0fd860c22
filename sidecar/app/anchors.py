"""Makes the sources of roots that an identity trusts."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.config.identities import CertifiedSettings
from sidecar.config.settings import TrustSettings
from sidecar.trust.anchors import TrustAnchors
from sidecar.trust.base import TrustSource
from sidecar.trust.pem_file import PemFile


def anchors_of(identity: CertifiedSettings, trust: Sequence[TrustSettings]) -> TrustAnchors:
    """Its own trust domain's source first, then every domain that is federated with it."""
    own = identity.spiffe_id.trust_domain
    sources = {each.trust_domain: _source(each) for each in trust}
    if identity.trust_bundle:
        sources[own] = PemFile(own, identity.trust_bundle)
    return TrustAnchors(
        [sources[own], *(source for domain, source in sources.items() if domain != own)]
    )


def _source(settings: TrustSettings) -> TrustSource:
    if settings.file:
        return PemFile(settings.trust_domain, settings.file)
    raise NotImplementedError
