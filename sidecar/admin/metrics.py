"""The numbers of a running process, in Prometheus's format. Loaded only where configured.

Labels come from small closed sets: never a SPIFFE ID, a key or a token's label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.admin.observed import Observed
from sidecar.errors import StartFailed
from sidecar.token.base import Assurance


class Numbers(Collector):
    """Reads everything when it is asked; keeps nothing."""

    def __init__(self, seen: Observed) -> None:
        self._registry = seen.registry
        self._counts = seen.signing
        self._token = seen.token
        self._executor = seen.executor

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "meshkey_sign_requests", "What callers were answered.", labels=["result"]
        )
        answers.add_metric(["signed"], self._counts.signed)
        answers.add_metric(["refused"], self._counts.refused)
        answers.add_metric(["retry"], self._counts.told_to_retry)
        yield answers
        yield CounterMetricFamily(
            "meshkey_token_signatures",
            "Signatures made by the token, CSRs and certificates included.",
            value=self._token.signatures,
        )
        assurance = GaugeMetricFamily(
            "meshkey_token_assurance", "1 for what the token is.", labels=["assurance"]
        )
        for each in Assurance:
            assurance.add_metric([each.value], float(each is self._token.assurance))
        yield assurance
        yield GaugeMetricFamily(
            "meshkey_token_pending", "Operations not answered yet.", value=self._executor.pending
        )
        yield GaugeMetricFamily(
            "meshkey_token_hung",
            "Threads that the module has not returned from in time.",
            value=self._executor.hung,
        )
        expiry = GaugeMetricFamily(
            "meshkey_certificate_not_after_seconds",
            "When the certificate in use expires, in seconds since 1970.",
            labels=["identity"],
        )
        for identity in self._registry:
            if current := identity.store.current:
                expiry.add_metric([identity.name], current.chain.not_after.timestamp())
        yield expiry


def serve_metrics(place: tuple[str, int] | Path, seen: Observed) -> Callable[[], None]:
    """Serves on a thread of its own until what is returned is called.

    Raises:
        StartFailed: the address is taken, or not this machine's.
    """
    assert isinstance(place, tuple)
    host, port = place
    registry = CollectorRegistry()
    registry.register(Numbers(seen))
    try:
        server, _thread = start_http_server(port, host, registry)
    except OSError as error:
        raise StartFailed(f"metrics.address {host}:{port}: {error.strerror}") from error
    return server.shutdown
