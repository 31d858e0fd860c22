"""How long a key may sign, over whatever may happen to clocks, processes and machines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.core.chain import CertificateChain
from sidecar.core.lease import NOTED_EVERY, Lease, LeaseNote, LeaseTerms, Reading, Standing
from sidecar.errors import CertificateRefused
from tests.fixtures.clock import START

ZERO, SECOND = timedelta(0), timedelta(seconds=1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIFETIME, LENGTH, GRACE = HOUR, timedelta(minutes=20), timedelta(minutes=10)
TERMS = LeaseTerms(LENGTH, GRACE)
BOOT, OTHER_BOOT = "first boot", "second boot"


def at(wall: timedelta, boot: timedelta | None = None) -> Reading:
    return Reading(START + wall, wall if boot is None else boot)


def chain(leaf: bytes = b"leaf", lifetime: timedelta = LIFETIME) -> CertificateChain:
    return CertificateChain((leaf,), "0a", START, START + lifetime)


def begun(terms: LeaseTerms = TERMS) -> Lease:
    return Lease.begin(terms, at(ZERO), chain())


def noted(at_time: timedelta, lease: Lease | None = None) -> LeaseNote:
    return LeaseNote.take(lease or begun(), BOOT, at(at_time), None)


def test_a_lease_ends_so_long_after_the_answer() -> None:
    lease = begun()
    assert not lease.is_over(LENGTH - timedelta(microseconds=1))
    assert lease.is_over(LENGTH)
    assert lease.end(at(MINUTE)) == lease.renew_before(at(MINUTE)) == START + LENGTH


def test_without_terms_it_is_as_long_as_the_certificate() -> None:
    lease = begun(LeaseTerms(grace=GRACE))
    assert lease.deadline == lease.unreachable().deadline == LIFETIME


def test_an_unreachable_ca_adds_the_grace_once() -> None:
    lease = begun().unreachable()
    assert lease == lease.unreachable()
    assert lease.deadline == LENGTH + GRACE
    # Renewals are planned as before.
    assert lease.renew_before(at(ZERO)) == START + LENGTH
    assert lease.end(at(ZERO)) == START + LENGTH + GRACE


def test_a_refusal_takes_the_grace_back_and_for_good() -> None:
    for lease in (begun().refused(), begun().unreachable().refused()):
        assert lease.deadline == LENGTH
        assert lease.unreachable().deadline == LENGTH


@given(st.timedeltas(SECOND, 2 * DAY), st.timedeltas(ZERO, 2 * DAY))
def test_neither_lease_nor_grace_reach_beyond_the_certificate(
    length: timedelta, grace: timedelta
) -> None:
    lease = begun(LeaseTerms(length, grace)).unreachable()
    assert lease.deadline == min(length + grace, LIFETIME)


@pytest.mark.parametrize("step", [-DAY, -MINUTE, MINUTE, DAY])
def test_a_wall_clock_that_is_set_moves_no_deadline(step: timedelta) -> None:
    lease = begun()
    assert lease.end(at(MINUTE + step, boot=MINUTE)) == START + step + LENGTH
    assert lease.is_over(LENGTH)


def test_a_lease_that_begins_after_its_certificates_end_is_over() -> None:
    lease = Lease.begin(TERMS, at(2 * LIFETIME, boot=MINUTE), chain())
    assert lease.is_over(MINUTE)
    assert lease.unreachable().is_over(MINUTE)


# Restarts


def test_after_a_restart_in_the_same_boot_the_deadline_is_the_same() -> None:
    note = noted(5 * MINUTE)
    lease = note.resume(TERMS, BOOT, at(7 * MINUTE), chain())
    assert lease == begun()
    # A clock that was set forward in between takes nothing away, and adds nothing.
    assert note.resume(TERMS, BOOT, at(DAY, boot=7 * MINUTE), chain()) == begun()


def test_after_a_reboot_there_is_what_was_left_by_the_wall_clock() -> None:
    lease = noted(5 * MINUTE).resume(TERMS, OTHER_BOOT, at(12 * MINUTE, boot=SECOND), chain())
    assert lease.deadline == SECOND + LENGTH - 12 * MINUTE
    assert lease.answered == START


@pytest.mark.parametrize("boots", [(BOOT, ""), ("", BOOT), ("", "")])
def test_where_the_boot_cannot_be_told_every_start_is_a_reboot(boots: tuple[str, str]) -> None:
    before, now = boots
    note = LeaseNote.take(begun(), before, at(5 * MINUTE), None)
    # As if the boot clock of the same machine went on.
    lease = note.resume(TERMS, now, at(8 * MINUTE, boot=5 * MINUTE), chain())
    assert lease.deadline == 5 * MINUTE + LENGTH - 8 * MINUTE


@pytest.mark.parametrize("after", [ZERO, SECOND, NOTED_EVERY])
def test_a_reboot_counts_what_no_note_had_time_to_say(after: timedelta) -> None:
    now = at(5 * MINUTE + after, boot=ZERO)
    lease = noted(5 * MINUTE).resume(TERMS, OTHER_BOOT, now, chain())
    assert lease.deadline == LENGTH - 5 * MINUTE - NOTED_EVERY


@pytest.mark.parametrize("boot_id", [BOOT, OTHER_BOOT, ""])
def test_a_wall_clock_below_the_mark_leaves_nothing(boot_id: str) -> None:
    note = noted(5 * MINUTE)
    late = at(5 * MINUTE - timedelta(microseconds=1), boot=6 * MINUTE)
    with pytest.raises(CertificateRefused, match=r"clock says .* and was at .* before"):
        note.resume(TERMS, boot_id, late, chain())


def test_the_mark_is_the_highest_date_since_the_answer_also_over_restarts() -> None:
    note = noted(5 * MINUTE)
    note = LeaseNote.take(note.lease, BOOT, at(DAY, boot=6 * MINUTE), note)
    note = LeaseNote.take(note.lease.unreachable(), BOOT, at(7 * MINUTE), note)
    assert (note.seen, note.mark) == (at(7 * MINUTE), START + DAY)
    with pytest.raises(CertificateRefused, match="was at 2030-01-02T12:00:00"):
        note.resume(TERMS, BOOT, at(8 * MINUTE), chain())
    # A CA has answered: what the clock was before is of no interest.
    other = Lease.begin(TERMS, at(9 * MINUTE), chain(b"other"))
    assert LeaseNote.take(other, BOOT, at(9 * MINUTE), note).mark == START + 9 * MINUTE


def test_a_lease_that_ended_while_nothing_ran_is_over() -> None:
    for boot_id, now in [(BOOT, at(LENGTH)), (OTHER_BOOT, at(LENGTH, boot=SECOND))]:
        with pytest.raises(CertificateRefused, match="no CA has issued a certificate since 2030"):
            noted(5 * MINUTE).resume(TERMS, boot_id, now, chain())


def test_the_lease_of_another_certificate_counts_for_nothing() -> None:
    with pytest.raises(CertificateRefused, match="another certificate's"):
        noted(MINUTE).resume(TERMS, BOOT, at(2 * MINUTE), chain(b"other"))


def test_a_boot_clock_that_went_back_in_the_same_boot_is_not_believed() -> None:
    with pytest.raises(CertificateRefused, match="another boot"):
        noted(5 * MINUTE).resume(TERMS, BOOT, at(6 * MINUTE, boot=4 * MINUTE), chain())


def test_terms_that_became_longer_are_for_the_next_lease_and_shorter_ones_count_at_once() -> None:
    note, now = noted(5 * MINUTE), at(6 * MINUTE)
    assert note.resume(LeaseTerms(None, DAY), BOOT, now, chain()) == begun()
    assert note.resume(LeaseTerms(DAY, DAY), BOOT, now, chain()) == begun()
    shorter = note.resume(LeaseTerms(10 * MINUTE, MINUTE), BOOT, now, chain())
    assert (shorter.deadline, shorter.unreachable().deadline) == (10 * MINUTE, 11 * MINUTE)


@pytest.mark.parametrize(
    ("standing", "left"), [(Standing.EXTENDED, GRACE), (Standing.REFUSED, ZERO)]
)
def test_what_became_of_renewals_outlives_the_process(standing: Standing, left: timedelta) -> None:
    lease = replace(begun(), standing=standing)
    resumed = noted(MINUTE, lease).resume(TERMS, OTHER_BOOT, at(2 * MINUTE, SECOND), chain())
    assert resumed.standing is standing
    assert resumed.unreachable().deadline == SECOND + LENGTH - 2 * MINUTE + left


class AnyLife(RuleBasedStateMachine):
    """Whatever happens in whatever order. True time is ours alone: nobody in there can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.booted, self.boots = ZERO, ZERO, 1
        self.wrong_by, self.was_wrong, self.was_refused = ZERO, False, False
        self.running = True
        self.lease: Lease | None = None
        self.note: LeaseNote | None = None
        # For which it ran after that.
        self.unnoted = ZERO
        self.answers = 0
        self.signed = self.most = ZERO

    @property
    def now(self) -> Reading:
        return Reading(START + self.time + self.wrong_by, self.time - self.booted)

    @property
    def signs(self) -> timedelta:
        """How much longer it would sign."""
        if self.lease is None:
            return ZERO
        now = self.now
        left = min(self.lease.deadline - now.boot, self.chain.not_after - now.wall)
        return max(left, ZERO)

    def take_note(self) -> None:
        self.unnoted = ZERO
        if self.lease:
            self.note = LeaseNote.take(self.lease, str(self.boots), self.now, self.note)

    @precondition(lambda self: self.running)
    @rule(
        length=st.none() | st.timedeltas(SECOND, HOUR),
        grace=st.timedeltas(ZERO, HOUR),
        lifetime=st.timedeltas(MINUTE, 2 * HOUR),
    )
    def a_ca_answers(self, length: timedelta | None, grace: timedelta, lifetime: timedelta) -> None:
        self.answers += 1
        self.terms = LeaseTerms(length, grace)
        not_after = self.now.wall + lifetime
        self.chain = CertificateChain((bytes([self.answers]),), "0a", START, not_after)
        self.lease = Lease.begin(self.terms, self.now, self.chain)
        self.most = lifetime if length is None else min(length + grace, lifetime)
        self.without_grace = lifetime if length is None else min(length, lifetime)
        self.answered, self.signed = self.time, ZERO
        self.was_wrong, self.was_refused = False, False
        self.take_note()

    @precondition(lambda self: self.running and self.lease)
    @rule(refused=st.booleans())
    def a_renewal_fails(self, refused: bool) -> None:
        assert self.lease
        self.lease = self.lease.refused() if refused else self.lease.unreachable()
        self.was_refused |= refused
        self.take_note()

    @precondition(lambda self: self.running)
    @rule(by=st.timedeltas(ZERO, 30 * MINUTE))
    def it_runs(self, by: timedelta) -> None:
        while by:
            part = min(by, NOTED_EVERY - self.unnoted)
            self.signed += min(self.signs, part)
            self.time, self.unnoted, by = self.time + part, self.unnoted + part, by - part
            if self.unnoted == NOTED_EVERY:
                self.take_note()

    @rule(by=st.timedeltas(ZERO, HOUR))
    def the_machine_sleeps_or_nothing_runs(self, by: timedelta) -> None:
        self.time += by

    @rule(by=st.timedeltas(-DAY, DAY))
    def the_clock_is_set(self, by: timedelta) -> None:
        before = self.signs
        self.wrong_by += by
        self.was_wrong = True
        if self.lease and before:
            # Never longer than the certificate or the boot clock had it.
            assert self.signs <= self.lease.deadline - self.now.boot

    @precondition(lambda self: self.running)
    @rule(orderly=st.booleans())
    def it_ends(self, orderly: bool) -> None:
        if orderly:
            self.take_note()
        self.running, self.lease = False, None

    @rule(off=st.timedeltas(ZERO, HOUR))
    def the_machine_boots(self, off: timedelta) -> None:
        self.running, self.lease = False, None
        self.time += off
        self.booted, self.boots = self.time, self.boots + 1

    @precondition(lambda self: not self.running)
    @rule(back_at_the_mark=st.booleans())
    def it_starts(self, back_at_the_mark: bool) -> None:
        self.running = True
        if self.note is None:
            return
        if back_at_the_mark:
            # The most that somebody who sets the clock can win.
            self.wrong_by, self.was_wrong = self.note.mark - START - self.time, True
        try:
            self.lease = self.note.resume(self.terms, str(self.boots), self.now, self.chain)
        except CertificateRefused:
            return
        self.take_note()

    @rule(times=st.integers(1, 100), ran=st.timedeltas(SECOND, NOTED_EVERY - SECOND))
    def it_crashes_again_and_again_before_a_note(self, times: int, ran: timedelta) -> None:
        for _ in range(times):
            self.the_machine_boots(off=ZERO)
            self.it_starts(back_at_the_mark=True)
            self.it_runs(ran)

    @invariant()
    def it_never_signs_for_longer_than_lease_and_grace(self) -> None:
        assert self.signed + self.signs <= self.most

    @invariant()
    def with_a_clock_that_is_right_it_ends_in_time_whatever_was_asleep_or_off(self) -> None:
        if self.signs and not self.was_wrong:
            assert self.time + self.signs <= self.answered + self.most
            if self.was_refused:
                assert self.time + self.signs <= self.answered + self.without_grace


TestAnyLife = AnyLife.TestCase
