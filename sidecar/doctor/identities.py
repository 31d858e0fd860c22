"""The roots that identities trust, and the directories of their certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sidecar.config.identities import CertifiedSettings
from sidecar.config.settings import Settings, TrustSettings
from sidecar.doctor.directories import require_there_or_makeable
from sidecar.doctor.finding import Finding, Verdict, tried
from sidecar.doctor.sections import sections
from sidecar.errors import CertificateRefused
from sidecar.identity.saved import SavedCertificates
from sidecar.trust.base import TrustSource
from sidecar.trust.pem_file import PemFile
from sidecar.trust.spiffe_bundle_file import SpiffeBundleFile


def examine_identity(section: str, identity: CertifiedSettings, now: datetime) -> Iterator[Finding]:
    if identity.trust_bundle:
        source = PemFile(identity.spiffe_id.trust_domain, identity.trust_bundle)
        yield tried(f"{section}: trust_bundle", lambda: _roots(source, now))
    if directory := identity.state:
        yield tried(f"{section}: state", lambda: _private(directory))


def examine_trust(settings: Settings, trust: TrustSettings, now: datetime) -> Finding:
    check = f"trust {trust.trust_domain}"
    if trust.cluster_trust_bundle:
        return Finding(
            check, Verdict.OK, f"{trust.cluster_trust_bundle}: in the cluster, not asked"
        )
    own = {identity.spiffe_id.trust_domain for _, identity in sections(settings)}
    # Of another domain: its peers are refused, and everything else goes on.
    bad = Verdict.FAILURE if trust.trust_domain in own else Verdict.WARNING
    source: TrustSource
    if trust.spiffe_bundle:
        source = SpiffeBundleFile(trust.trust_domain, trust.spiffe_bundle)
    else:
        assert trust.file
        source = PemFile(trust.trust_domain, trust.file)
    return tried(check, lambda: _roots(source, now), bad)


def _roots(source: TrustSource, now: datetime) -> str:
    roots = asyncio.run(source.load()).roots
    end = max(root.not_valid_after_utc for root in roots)
    if end <= now:
        raise CertificateRefused(f"every root has expired, the last one {end:%Y-%m-%d}")
    return f"roots: {len(roots)}, the last one until {end:%Y-%m-%d}"


def _private(directory: Path) -> str:
    if to_come := require_there_or_makeable(directory, 0o700):
        return to_come
    SavedCertificates(directory)
    return f"{directory}: private"
