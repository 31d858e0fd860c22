"""The process, the kernel and the clock: what the doctor makes of what it finds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sidecar.callers.kernel import PidIdentity
from sidecar.config.load import parse
from sidecar.config.settings import Settings
from sidecar.doctor.clock import ClockFacts, examine_clock
from sidecar.doctor.finding import Finding, Verdict
from sidecar.doctor.kernel import KernelFacts, examine_kernel
from sidecar.doctor.process import ProcessFacts, examine_process
from sidecar.separation.checks import Process
from tests.fixtures.clock import START

_OURS = 3_999_999_990
_GOOD = ProcessFacts(
    Process(_OURS, {_OURS}), capabilities=0, dumpable=False, unlocked=None, inherited={}
)
_KERNEL = KernelFacts(PidIdentity.PEER_PIDFD, None, own_proc=True, sees_programs=False)


def _settings(**process: object) -> Settings:
    return parse({"token": {"label": "mesh"}, "process": process}, {})


def _by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in findings}


def test_a_process_as_it_must_be() -> None:
    found = _by_check(examine_process(_settings(), _GOOD))
    assert list(found) == ["user", "privileges", "core dumps", "memory", "umask", "descriptors"]
    assert {each.verdict for each in found.values()} == {Verdict.OK}
    assert found["user"].detail == f"user {_OURS}; groups: group {_OURS}"


def test_root_is_warned_of_and_told_the_way_out() -> None:
    as_root = replace(_GOOD, process=Process(0, {0}), capabilities=2**40)
    found = _by_check(examine_process(_settings(), as_root))
    assert found["user"].verdict is found["privileges"].verdict is Verdict.WARNING
    assert "set process.user" in found["user"].detail
    meant = _by_check(examine_process(_settings(user=0), as_root))
    assert meant["user"].verdict is Verdict.WARNING
    assert "set process.user" not in meant["user"].detail


@pytest.mark.parametrize(
    ("facts", "check", "verdict", "said"),
    [
        (replace(_GOOD, capabilities=1 << 19), "privileges", Verdict.WARNING, "--decode=80000"),
        (replace(_GOOD, dumpable=True), "core dumps", Verdict.FAILURE, "dumpable"),
        (replace(_GOOD, unlocked="its limit is 8 KiB"), "memory", Verdict.WARNING, "8 KiB"),
    ],
)
def test_what_a_process_lacks_is_named(
    facts: ProcessFacts, check: str, verdict: Verdict, said: str
) -> None:
    found = _by_check(examine_process(_settings(), facts))[check]
    assert found.verdict is verdict
    assert said in found.detail


def test_descriptors_that_it_was_started_with_are_named() -> None:
    read, write = os.pipe()
    try:
        assert not {read, write} & ProcessFacts.read().inherited.keys()
        os.set_inheritable(write, True)
        inherited = ProcessFacts.read().inherited
    finally:
        os.close(read)
        os.close(write)
    assert inherited[write].startswith("pipe:")
    told = _by_check(examine_process(_settings(), replace(_GOOD, inherited={9: "/dev/kvm"})))
    assert told["descriptors"].detail.startswith("inherited 9 (/dev/kvm); a process that serves")


def test_a_kernel_says_how_callers_are_told_apart() -> None:
    assert list(examine_kernel(_KERNEL)) == [
        Finding("callers' processes", Verdict.OK, "told apart by SO_PEERPIDFD")
    ]
    older = replace(_KERNEL, pid_identity=PidIdentity.START_TIME)
    assert "start-time" in _by_check(examine_kernel(older))["callers' processes"].detail
    oldest = replace(_KERNEL, pid_identity=PidIdentity.NONE)
    assert _by_check(examine_kernel(oldest))["callers' processes"].verdict is Verdict.FAILURE


def test_namespaces_that_hide_callers_are_named() -> None:
    found = _by_check(examine_kernel(replace(_KERNEL, unknown_user=65534, own_proc=False)))
    assert found["user namespace"].verdict is Verdict.WARNING
    assert "65534" in found["user namespace"].detail
    assert found["/proc"].verdict is Verdict.FAILURE


_CLOCK = ClockFacts(state=0, since_boot=timedelta(days=3, hours=2))


@pytest.mark.parametrize(
    ("now", "state", "verdict", "said"),
    [
        (START, 0, Verdict.OK, "synchronised"),
        (START, 5, Verdict.WARNING, "nothing synchronises it"),
        (START, -1, Verdict.WARNING, "cannot be told here"),
        (datetime(1970, 1, 2, tzinfo=UTC), 0, Verdict.FAILURE, "it is not 1970-01-02"),
        (datetime(2106, 2, 7, tzinfo=UTC), 0, Verdict.FAILURE, "it is not 2106-02-07"),
    ],
)
def test_a_clock_is_right_kept_right_or_neither(
    now: datetime, state: int, verdict: Verdict, said: str
) -> None:
    found = _by_check(examine_clock(now, replace(_CLOCK, state=state)))
    assert found["clock"].verdict is verdict
    assert said in found["clock"].detail
    assert found["boot clock"].detail == "3 days since the boot"


def test_the_kernel_is_asked_for_the_clock_and_leaves_it_alone() -> None:
    facts = ClockFacts.read()
    assert -1 <= facts.state <= 5
    assert facts.since_boot > timedelta()
