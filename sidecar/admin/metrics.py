"""The numbers of a running process, in Prometheus's format. Loaded only where configured.

Labels come from small closed sets: never a SPIFFE ID, a key or a token's label.
"""

from __future__ import annotations

from collections.abc import Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.errors import StartFailed
from sidecar.identity.registry import IdentityRegistry
from sidecar.telemetry import SigningCounts
from sidecar.token.base import Assurance, Token
from sidecar.token.executor import TokenExecutor


class Numbers(Collector):
    """Reads everything when it is asked; keeps nothing."""

    def __init__(
        self,
        registry: IdentityRegistry,
        counts: SigningCounts,
        token: Token,
        executor: TokenExecutor,
    ) -> None:
        self._registry = registry
        self._counts = counts
        self._token = token
        self._executor = executor

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


def serve_metrics(host: str, port: int, numbers: Numbers) -> WSGIServer:
    """Serves on a thread of its own until the server is shut down.

    Raises:
        StartFailed: the address is taken, or not this machine's.
    """
    registry = CollectorRegistry()
    registry.register(numbers)
    try:
        server, _thread = start_http_server(port, host, registry)
    except OSError as error:
        raise StartFailed(f"metrics.address {host}:{port}: {error.strerror}") from error
    return server
