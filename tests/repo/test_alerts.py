"""prometheus/alerts.yaml is what Prometheus takes for rules.

Whether its expressions speak of metrics that there are: tests/integration/test_metrics.py.
"""

from __future__ import annotations

import re

import pytest

from tests.fixtures.alerts import ALERTS, Alert, alerts
from tests.fixtures.promql import Expression, Selector

_KEYS = {"alert", "expr", "for", "labels", "annotations"}
_DURATION = re.compile(r"[1-9]\d*[smhd]")


def test_each_alert_has_a_name_of_its_own() -> None:
    names = [alert.name for alert in alerts()]
    assert len(set(names)) == len(names) > 10


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_has_what_prometheus_and_a_reader_need(alert: Alert) -> None:
    assert alert.rule.keys() <= _KEYS
    assert re.fullmatch(r"Meshkey[A-Za-z]+", alert.name)
    assert _DURATION.fullmatch(str(alert.rule.get("for", "1m")))
    assert alert.rule["labels"] in [{"severity": "warning"}, {"severity": "critical"}]
    assert alert.rule["annotations"].keys() == {"summary", "description"}
    assert all(isinstance(text, str) and text for text in alert.rule["annotations"].values())


def test_the_file_says_where_its_metrics_are_listed() -> None:
    assert "docs/metrics.md" in ALERTS.read_text(encoding="utf-8")


def test_an_expression_is_read_whole() -> None:
    read = Expression('sum by (job) (rate(a{b="c",d=~"e|f"}[5m])) > 0 unless g == 1')
    assert read.selectors == [Selector("a", (("b", "=", "c"), ("d", "=~", "e|f"))), Selector("g")]
    assert read.groupings == ["job"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "a >",
        "a > 0)",
        "(a > 0",
        "a{b=c}",
        'a{b=="c"}',
        'a{b="c"',
        'a{b="c",}',
        "a[5m]",
        "a[5] > 0",
        "rate(a) > 0",
        "rate(a[5m], 1)",
        "sum(a[5m])",
        "sum by job (a)",
        "sum by () (a)",
        "histogram_quantile(a)",
        "a unless 1",
        "1 > a",
        "a 0",
        "a > 5m",
        "a; b",
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        Expression(text)
