"""The numbers of a running process, in Prometheus's terms. Loaded only where configured.

Labels come from small closed sets: what the configuration names identities and CAs, and our
own enumerations. Never a SPIFFE ID, a key, a path or a token's label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sidecar.admin.observed import Observed
from sidecar.ca.failover import Result
from sidecar.core.histogram import Histogram
from sidecar.core.rotation import Health
from sidecar.identity.store import SubscriberKind
from sidecar.telemetry import Answers
from sidecar.token.base import Assurance


class Numbers(Collector):
    """Reads everything when it is asked; keeps nothing. Ask it on the event loop only.

    Every value of a closed set is always there, if need be as 0: the first increase is seen.
    """

    def __init__(self, seen: Observed, now: Callable[[], datetime]) -> None:
        self._seen = seen
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._identities()
        yield from self._authorities()
        yield from self._callers()
        yield from self._sds()
        yield from self._signatures()
        yield from self._audit()
        yield from self._deny_list()
        yield from self._token()

    def _identities(self) -> Iterator[Metric]:
        identities = list(self._seen.registry)
        health = Counter(identity.health for identity in identities)
        yield _gauge(
            "meshkey_identities",
            "Identities by how their certificate is doing.",
            "state",
            {state.value: health[state] for state in Health},
        )
        not_after = {
            identity.name: current.chain.not_after
            for identity in identities
            if (current := identity.in_use)
        }
        yield _gauge(
            "meshkey_certificate_not_after_seconds",
            "When the certificate in use expires, in seconds since 1970.",
            "identity",
            {name: end.timestamp() for name, end in not_after.items()},
        )
        now = self._now()
        yield _gauge(
            "meshkey_certificate_expiry_seconds",
            "Seconds until the certificate in use expires; negative: since it did.",
            "identity",
            {name: (end - now).total_seconds() for name, end in not_after.items()},
        )
        yield _gauge(
            "meshkey_lease_end_seconds",
            "When nothing is signed any more unless a CA answers, in seconds since 1970.",
            "identity",
            {each.name: end.timestamp() for each in identities if (end := each.lease_end)},
        )
        renewals = CounterMetricFamily(
            "meshkey_renewals", "Attempts to renew.", labels=["identity", "result"]
        )
        for identity in identities:
            renewals.add_metric([identity.name, "renewed"], identity.renewals.succeeded)
            renewals.add_metric([identity.name, "failed"], identity.renewals.failed)
        yield renewals
        kinds = Counter(
            subscription.kind
            for identity in identities
            for subscription in identity.store.subscriptions
        )
        yield _gauge(
            "meshkey_subscribers",
            "Who follows an identity now, by the service that tells them.",
            "kind",
            {kind: kinds[kind] for kind in get_args(SubscriberKind)},
        )

    def _authorities(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "meshkey_ca_requests", "What became of requests to CAs.", labels=["ca", "result"]
        )
        for name, authority in self._seen.authorities.items():
            for result in Result:
                requests.add_metric([name, result.value], authority.results[result])
        yield requests
        yield _histogram(
            "meshkey_ca_request_seconds",
            "How long a CA took to answer, or not to.",
            "ca",
            ((name, authority.times) for name, authority in self._seen.authorities.items()),
        )

    def _callers(self) -> Iterator[Metric]:
        yield _counter(
            "meshkey_callers_refused",
            "Calls that were not let in, or were ended, because of who called.",
            "service",
            {
                "signer": self._seen.signing.callers.refused,
                "sds": self._seen.sds.callers.refused,
            },
        )
        yield GaugeMetricFamily(
            "meshkey_own_user_allowed",
            "1 if callers may be the sidecar's own user, which is for evaluation.",
            value=self._seen.own_user_allowed,
        )

    def _sds(self) -> Iterator[Metric]:
        counts = self._seen.sds
        yield GaugeMetricFamily(
            "meshkey_sds_streams", "Open streams of secret discovery.", value=counts.streams
        )
        yield _counter(
            "meshkey_sds_responses",
            "Secrets that a client has taken (ack) or refused (nack; expected_nack).",
            "result",
            {"ack": counts.acks, "nack": counts.nacks, "expected_nack": counts.expected_nacks},
        )

    def _signatures(self) -> Iterator[Metric]:
        counts = self._seen.signing
        answers = CounterMetricFamily(
            "meshkey_signatures", "What callers were answered.", labels=["scheme", "result"]
        )
        for scheme, each in counts.by_scheme.items():
            _add(answers, scheme.name.lower(), each)
        _add(answers, "other", counts.other)
        yield answers
        yield _counter(
            "meshkey_signature_retries",
            "Why callers were told to retry: a full queue, their rate, or no answer of the token.",
            "reason",
            {
                "busy": counts.busy,
                "rate": counts.over_rate,
                "unavailable": counts.told_to_retry - counts.busy - counts.over_rate,
            },
        )
        times = HistogramMetricFamily(
            "meshkey_signature_seconds",
            "From the request to its answer, for requests that went to the token.",
        )
        times.add_metric([], _buckets(counts.times), counts.times.sum)
        yield times

    def _audit(self) -> Iterator[Metric]:
        counts = self._seen.audit
        yield _counter(
            "meshkey_audit_records",
            "Records of the audit log that were written, or could not be.",
            "result",
            {"written": counts.written, "lost": counts.lost},
        )
        yield _counter(
            "meshkey_audit_seals",
            "Seals of the audit log that were made, could not be, or are not durable or anchored.",
            "result",
            {
                "made": counts.seals,
                "failed": counts.seals_failed,
                "not_durable": counts.not_durable,
            },
        )

    def _deny_list(self) -> Iterator[Metric]:
        followed = self._seen.deny_list
        current = followed.current if followed else None
        yield GaugeMetricFamily(
            "meshkey_deny_list_sequence",
            "Of the deny list that counts; 0: there is none.",
            value=current.sequence if current else 0,
        )
        yield GaugeMetricFamily(
            "meshkey_deny_list_next_update_seconds",
            "When its successor is due, in seconds since 1970; 0: there is none.",
            value=current.next_update.timestamp() if current else 0,
        )
        yield GaugeMetricFamily(
            "meshkey_deny_list_stale",
            "1 if one is configured, and the one that counts is stale or there is none.",
            value=float(bool(followed and followed.overdue)),
        )
        yield CounterMetricFamily(
            "meshkey_deny_list_refused",
            "Deny lists that were there and could not be taken.",
            value=followed.refused if followed else 0,
        )

    def _token(self) -> Iterator[Metric]:
        token, executor = self._seen.token, self._seen.executor
        yield GaugeMetricFamily(
            "meshkey_token_up",
            "1 if the token answered when it was last asked.",
            value=float(executor.reachable),
        )
        yield GaugeMetricFamily(
            "meshkey_token_hung",
            "Threads that the module has not returned from in time.",
            value=executor.hung,
        )
        yield _gauge(
            "meshkey_token_assurance",
            "1 for what the token is.",
            "assurance",
            {each.value: float(each is token.assurance) for each in Assurance},
        )
        yield CounterMetricFamily(
            "meshkey_token_signatures",
            "Signatures made by the token, CSRs and certificates included.",
            value=token.signatures,
        )
        yield GaugeMetricFamily(
            "meshkey_token_pending", "Operations not answered yet.", value=executor.pending
        )
        lanes = executor.lanes()
        yield _gauge(
            "meshkey_token_queue_depth",
            "Operations that wait for the token, by lane.",
            "lane",
            {lane.name: state.waiting for lane, state in lanes.items()},
        )
        yield _histogram(
            "meshkey_token_operation_seconds",
            "How long an operation had the token, without its wait, by lane.",
            "lane",
            ((lane.name, state.times) for lane, state in lanes.items()),
        )


def _add(answers: CounterMetricFamily, scheme: str, counted: Answers) -> None:
    answers.add_metric([scheme, "signed"], counted.signed)
    answers.add_metric([scheme, "refused"], counted.refused)
    answers.add_metric([scheme, "retry"], counted.told_to_retry)


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family


def _histogram(name: str, text: str, label: str, values: Iterable[tuple[str, Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for each, histogram in values:
        family.add_metric([each], _buckets(histogram), histogram.sum)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [(floatToGoString(bound), count) for bound, count in histogram.cumulative()]
