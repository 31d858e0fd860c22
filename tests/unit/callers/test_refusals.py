"""What is told of callers that are refused."""

from __future__ import annotations

from sidecar.callers.refusals import Refusals
from sidecar.core.process import CallingProcess
from tests.fixtures.called import RememberingJournal


def test_a_process_that_is_another_user_each_time_fills_neither_log_nor_memory() -> None:
    journal = RememberingJournal()
    refusals = Refusals(journal, lambda: 0.0)
    for uid in range(10_000):
        refusals.tell(CallingProcess(uid=uid), "no rule is for that user")
    # 64 of them, and one of all the others.
    assert len(journal.records) == 65
    assert len(refusals._quiet._states) == 65
    assert len(refusals._users) == 64


def test_known_users_are_told_apart_from_the_others() -> None:
    now = 0.0
    journal = RememberingJournal()
    refusals = Refusals(journal, lambda: now)
    refusals.tell(CallingProcess(uid=101), "first")
    for uid in range(1000, 2000):
        refusals.tell(CallingProcess(uid=uid), "flood")
    now = 2.0
    refusals.tell(CallingProcess(uid=101), "second")
    assert [each["reason"] for each in journal.records if each["uid"] == 101] == ["first", "second"]
