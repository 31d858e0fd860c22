"""Roots out of a ClusterTrustBundle, in whichever version of the API there is one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.errors import CertificateRefused, TrustUnavailable
from sidecar.trust.base import TrustSource
from sidecar.trust.cluster_trust_bundle import ClusterTrustBundleSource
from tests.fakes.kubernetes_api import Fault
from tests.fixtures import certificates
from tests.fixtures.kubernetes import RunningCluster, running_cluster
from tests.fixtures.mesh import TRUST_DOMAIN

NAME = "istio.io:istiod-ca:root-cert"
ROOTS = [certificates.root("one"), certificates.root("two")]
PEM = b"".join(root.pem for root in ROOTS).decode()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningCluster]:
    with running_cluster(tmp_path) as started:
        yield started


@pytest.fixture
def source(running: RunningCluster) -> TrustSource:
    return ClusterTrustBundleSource(TRUST_DOMAIN, NAME, running.connection())


async def test_all_roots_come_in_their_order(source: TrustSource, running: RunningCluster) -> None:
    running.cluster.bundles["v1"][NAME] = PEM
    bundle = await source.load()
    assert bundle.trust_domain == TRUST_DOMAIN
    assert bundle.roots == tuple(root.certificate for root in ROOTS)
    assert running.api.calls == ["get"]


async def test_a_change_is_seen_by_the_next_load(
    source: TrustSource, running: RunningCluster
) -> None:
    running.cluster.bundles["v1"][NAME] = PEM
    await source.load()
    running.cluster.bundles["v1"][NAME] = ROOTS[1].pem.decode()
    assert (await source.load()).roots == (ROOTS[1].certificate,)


async def test_an_older_cluster_is_asked_in_its_version(
    source: TrustSource, running: RunningCluster
) -> None:
    running.cluster.bundles = {"v1beta1": {NAME: PEM}}
    assert len((await source.load()).roots) == 2


async def test_a_cluster_without_the_feature_says_what_it_lacks(
    source: TrustSource, running: RunningCluster
) -> None:
    running.cluster.bundles = {}
    text = rf"{NAME}: this cluster serves no .*feature gate ClusterTrustBundle .*v1beta1 enabled"
    with pytest.raises(TrustUnavailable, match=text):
        await source.load()


@pytest.mark.parametrize("bundles", [{"v1": {}, "v1beta1": {NAME: PEM}}, {"v1beta1": {}}])
async def test_an_object_that_is_not_there_is_no_missing_feature(
    source: TrustSource, running: RunningCluster, bundles: dict[str, dict[str, str]]
) -> None:
    running.cluster.bundles = bundles
    with pytest.raises(TrustUnavailable, match=f'there is no ClusterTrustBundle "{NAME}"; list'):
        await source.load()


async def test_a_missing_permission_is_named(source: TrustSource, running: RunningCluster) -> None:
    running.api.faults["get"] = [Fault(403, "Forbidden")]
    text = 'the verb "get" on clustertrustbundles.certificates.k8s.io'
    with pytest.raises(TrustUnavailable, match=text.replace(".", r"\.")):
        await source.load()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_api_server_in_trouble_is_no_news_about_roots(
    source: TrustSource, running: RunningCluster, status: int
) -> None:
    running.api.faults["get"] = [Fault(status, "Trouble")]
    with pytest.raises(TrustUnavailable, match=f"{status} Trouble"):
        await source.load()


async def test_an_api_server_that_is_gone_is_no_news_about_roots(
    source: TrustSource, running: RunningCluster
) -> None:
    running.api.stop()
    with pytest.raises(TrustUnavailable, match=f"ClusterTrustBundle {NAME}: get "):
        await source.load()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "has no spec.trustBundle"),
        (b'{"spec": []}', "has no spec.trustBundle"),
        (b'{"spec": {"trustBundle": 1}}', "has no spec.trustBundle"),
        (b'{"spec": {"trustBundle": "garbage"}}', "no readable PEM certificate"),
        (b'{"spec": {"trustBundle": "\\ud800"}}', "no readable PEM certificate"),
    ],
)
async def test_what_is_no_bundle_is_refused(
    source: TrustSource, running: RunningCluster, body: bytes, text: str
) -> None:
    running.api.faults["get"] = [Fault(200, body=body)]
    with pytest.raises(CertificateRefused, match=f"ClusterTrustBundle {NAME}.*{text}"):
        await source.load()


def test_it_is_looked_at_every_half_minute_unless_told_otherwise(
    source: TrustSource, running: RunningCluster
) -> None:
    assert source.interval == timedelta(seconds=30)
    often = ClusterTrustBundleSource("mesh", NAME, running.connection(), timedelta(seconds=5))
    assert often.interval == timedelta(seconds=5)
