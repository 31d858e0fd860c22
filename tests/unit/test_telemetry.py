"""What gets into the log, and what must not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sidecar.telemetry import configure_logging, use_level


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def _fail_with_a_secret() -> None:
    pin = "".join(["correct", "-horse"])
    raise ValueError(f"the PIN of {len(pin)} characters was refused")


def _log_a_failure() -> None:
    log: Any = structlog.get_logger()
    try:
        _fail_with_a_secret()
    except ValueError:
        log.exception("operation failed", key_id="0a1f")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_does_not_show_local_variables(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(form, "info")
    _log_a_failure()
    logged = capsys.readouterr().err
    assert "operation failed" in logged
    assert "_fail_with_a_secret" in logged
    assert "correct-horse" not in logged


def test_a_json_event_is_one_line_with_its_facts_as_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("json", "info")
    _log_a_failure()
    out, err = capsys.readouterr()
    assert not out
    event = json.loads(err)
    assert len(err.splitlines()) == 1
    assert (event["event"], event["level"], event["key_id"]) == (
        "operation failed",
        "error",
        "0a1f",
    )
    assert event["timestamp"].endswith("Z")


def test_a_line_break_in_a_field_does_not_make_a_second_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("json", "info")
    structlog.get_logger().error("generation refused by subscriber", error='x"}\n{"event":"ready"}')
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("level", "seen"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_events_below_the_level_are_not_written(
    level: str, seen: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("json", level)
    log: Any = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")
    assert len(capsys.readouterr().err.splitlines()) == seen


def test_another_level_counts_for_loggers_that_have_been_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("json", "warning")
    log: Any = structlog.get_logger()
    log.warning("first")
    log.info("not seen")
    use_level("info")
    log.info("seen")
    use_level("error")
    log.warning("not seen")
    logged = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert logged == ["first", "seen"]
    use_level("info")
