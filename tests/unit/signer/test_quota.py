"""Who may have how much signed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from sidecar.core.process import UNKNOWN, CallingProcess
from sidecar.errors import OverRate
from sidecar.signer.quota import Quota
from sidecar.token.base import KeyId
from sidecar.token.executor import Caller

STARTED = datetime(2026, 1, 2, tzinfo=UTC)
PROXY = CallingProcess(uid=1337, pid=42, started=STARTED, executable="0a1f")
KEY = KeyId(b"key")


def _admitted(quota: Quota, caller: Caller, asked: int = 100) -> int:
    admitted = 0
    for _ in range(asked):
        try:
            quota.admit_caller(caller)
        except OverRate:
            continue
        admitted += 1
    return admitted


def test_all_connections_of_a_process_share_its_rate_and_its_turns() -> None:
    quota = Quota(caller_rate=10, clock=lambda: 0.0)
    with quota.caller(PROXY) as first, quota.caller(PROXY) as second:
        assert first is not second
        assert first.bucket is second.bucket
        assert _admitted(quota, first, 6) == 6
        assert _admitted(quota, second) == 4


def test_to_connect_anew_helps_nobody() -> None:
    quota = Quota(caller_rate=10, clock=lambda: 0.0)
    admitted = 0
    for _ in range(20):
        with quota.caller(PROXY) as caller:
            admitted += _admitted(quota, caller)
    assert admitted == 10


@pytest.mark.parametrize(
    "other",
    [
        replace(PROXY, uid=1338),
        replace(PROXY, pid=43),
        replace(PROXY, started=STARTED + timedelta(seconds=1)),
    ],
    ids=["user", "process", "process with the same pid"],
)
def test_another_process_has_a_rate_of_its_own(other: CallingProcess) -> None:
    quota = Quota(caller_rate=10, clock=lambda: 0.0)
    with quota.caller(PROXY) as one, quota.caller(other) as another:
        assert _admitted(quota, one) == 10
        assert _admitted(quota, another) == 10


def test_a_process_that_runs_another_file_now_is_the_same_process() -> None:
    quota = Quota(caller_rate=10, clock=lambda: 0.0)
    with quota.caller(PROXY) as one, quota.caller(replace(PROXY, executable="beef")) as same:
        assert one.bucket is same.bucket


def test_processes_that_nobody_can_tell_apart_are_one() -> None:
    quota = Quota(caller_rate=10, clock=lambda: 0.0)
    with ExitStack() as stack:
        unknown = [stack.enter_context(quota.caller(UNKNOWN)) for _ in range(5)]
        assert sum(_admitted(quota, caller) for caller in unknown) == 10


def test_a_caller_whose_connection_ended_is_gone() -> None:
    quota = Quota()
    with quota.caller(PROXY) as caller:
        assert not caller.gone
    assert caller.gone


def test_a_key_has_a_rate_that_all_callers_share() -> None:
    quota = Quota(key_rate=3, clock=lambda: 0.0)
    for _ in range(3):
        quota.admit_key(KEY)
    with pytest.raises(OverRate, match=r"raise signer\.key_rate"):
        quota.admit_key(KEY)
    quota.admit_key(KeyId(b"another"))


def test_the_rates_may_be_changed_while_it_runs() -> None:
    now = 0.0
    quota = Quota(caller_rate=10, key_rate=10, clock=lambda: now)
    with quota.caller(PROXY) as caller:
        assert _admitted(quota, caller) == 10
        quota.change(caller_rate=2, key_rate=1)
        now = 1.0
        assert _admitted(quota, caller) == 2
        quota.admit_key(KEY)
        with pytest.raises(OverRate, match="more than 1 signatures"):
            quota.admit_key(KEY)
        quota.change(caller_rate=50, key_rate=50)
        now = 2.0
        assert _admitted(quota, caller) == 50


def test_the_log_says_who_it_is_and_once() -> None:
    quota = Quota(caller_rate=1, key_rate=1, clock=lambda: 0.0)
    with capture_logs() as logs, quota.caller(PROXY) as caller:
        _admitted(quota, caller)
        for _ in range(3):
            try:
                quota.admit_key(KEY)
            except OverRate:
                continue
    assert [(line["event"], line.get("pid"), line.get("key_id")) for line in logs] == [
        ("caller over its rate", 42, None),
        ("key over its rate", None, str(KEY)),
    ]
