"""docs/performance.md can be filled in by benchmarks/report.py."""

from __future__ import annotations

import re

from benchmarks.report import _TABLES, PAGE, render

RESULTS = {
    "commit": "0a1f",
    "date": "2026-01-02T03:04:05+00:00",
    "cpus": 2,
    "processor": "some",
    "kernel": "6.1",
    "python": "3.11",
    "sign_ratio_c64": 0.4242,
    "token_tpm2_recovery_ms": 12345.6,
}


def test_every_table_of_the_page_is_one_that_the_report_makes_and_the_other_way_round() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"<!-- table: (\w+) -->\n", page) == [
        *("machine", "signing", "flood", "handshakes", "footprint", "tokens", "recovery", "pool")
    ]
    assert page.count("<!-- end -->") == len(_TABLES)


def test_results_go_between_the_markers_and_may_go_there_again() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rendered = render(page, RESULTS)
    assert "| Ratio | 0.42 | 0.35 |" in rendered
    assert "| tpm2 | 12,346 |" in rendered
    assert "To be measured" not in rendered
    assert render(rendered, RESULTS) == rendered
