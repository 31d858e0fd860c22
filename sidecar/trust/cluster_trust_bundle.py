"""Roots that a Kubernetes cluster distributes: a ClusterTrustBundle."""

from __future__ import annotations

from datetime import timedelta

from sidecar.core.trust import TrustBundle
from sidecar.errors import CertificateRefused, TrustUnavailable
from sidecar.kubernetes.answers import ApiRefusal, ApiUnavailable
from sidecar.kubernetes.connection import KubernetesConnection

INTERVAL = timedelta(seconds=30)


class ClusterTrustBundleSource:
    """`TrustSource` over the object `name`, such as `istio.io:istiod-ca:root-cert`."""

    def __init__(
        self,
        trust_domain: str,
        name: str,
        connection: KubernetesConnection,
        interval: timedelta = INTERVAL,
    ) -> None:
        self._trust_domain = trust_domain
        self._name = name
        self._connection = connection
        self._interval = interval

    @property
    def interval(self) -> timedelta:
        return self._interval

    async def load(self) -> TrustBundle:
        try:
            async with self._connection.session() as api:
                document = await api.read_trust_bundle(self._name)
        except (ApiUnavailable, ApiRefusal) as error:
            # A refusal too: what was read before stays in use while somebody mends permissions.
            raise TrustUnavailable(f"ClusterTrustBundle {self._name}: {error}") from error
        specification = document.get("spec")
        pem = specification.get("trustBundle") if isinstance(specification, dict) else None
        if not isinstance(pem, str):
            raise CertificateRefused(f"ClusterTrustBundle {self._name} has no spec.trustBundle")
        try:
            return TrustBundle.parse(self._trust_domain, pem.encode(errors="replace"))
        except CertificateRefused as error:
            raise CertificateRefused(f"ClusterTrustBundle {self._name}: {error}") from error
