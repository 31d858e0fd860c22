"""Makes the sources of roots that an identity trusts."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.config.identities import CertifiedSettings
from sidecar.config.settings import TrustSettings
from sidecar.trust.anchors import TrustAnchors
from sidecar.trust.base import TrustSource
from sidecar.trust.pem_file import PemFile
from sidecar.trust.spiffe_bundle_file import SpiffeBundleFile


def anchors_of(identity: CertifiedSettings, trust: Sequence[TrustSettings]) -> TrustAnchors:
    """Its own trust domain's source first, then every domain that is federated with it."""
    own = identity.spiffe_id.trust_domain
    sources = {each.trust_domain: _source(each) for each in trust}
    if identity.trust_bundle:
        sources[own] = PemFile(own, identity.trust_bundle)
    return TrustAnchors(own, sources.pop(own), sources, identity.root_keep)


def _source(settings: TrustSettings) -> TrustSource:
    if settings.file:
        return PemFile(settings.trust_domain, settings.file)
    assert settings.spiffe_bundle
    return SpiffeBundleFile(settings.trust_domain, settings.spiffe_bundle)
