"""Roots over time: a change of roots breaks nobody's handshakes, and ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.roots import RootHistory
from sidecar.core.trust import TrustBundle
from tests.fixtures import certificates
from tests.fixtures.certificates import Signed
from tests.fixtures.clock import START

DOMAIN = "demo.mesh"
LEAF = timedelta(hours=24)
SECOND = timedelta(seconds=1)
OLD, NEW, THIRD = (certificates.root(name) for name in ("old", "new", "third"))
SHORT = certificates.root("short", days=2)
ROOTS = (OLD, NEW, THIRD, SHORT)


def _bundle(*roots: Signed) -> TrustBundle:
    return TrustBundle(DOMAIN, tuple(root.certificate for root in roots))


def _history(*steps: tuple[Sequence[Signed], datetime]) -> RootHistory:
    history = RootHistory(DOMAIN)
    for roots, now in steps:
        history = history.observe(_bundle(*roots), now, LEAF)
    return history


def test_what_is_configured_is_trusted_in_its_order() -> None:
    history = _history(([NEW, OLD], START))
    assert history.trusted(START) == history.configured == _bundle(NEW, OLD)


def test_the_roots_of_the_first_look_are_settled() -> None:
    assert _history(([OLD, NEW], START)).settled_at(LEAF) is None


def test_a_new_root_is_trusted_at_once_and_settles_later() -> None:
    history = _history(([OLD], START), ([OLD, NEW], START + SECOND))
    assert history.trusted(START + SECOND) == _bundle(OLD, NEW)
    assert history.settled_at(10 * SECOND) == START + 11 * SECOND


def test_looking_again_does_not_put_off_when_a_root_settles() -> None:
    later = START + timedelta(hours=1)
    history = _history(([OLD], START), ([NEW], START + SECOND), ([NEW], later))
    assert history.settled_at(10 * SECOND) == START + 11 * SECOND


def test_the_newest_root_decides_when_all_are_settled() -> None:
    history = _history(
        ([OLD], START), ([OLD, NEW], START + SECOND), ([THIRD, NEW], START + 5 * SECOND)
    )
    assert history.settled_at(10 * SECOND) == START + 15 * SECOND


def test_a_root_that_left_is_trusted_until_its_longest_leaf_has_expired() -> None:
    left = START + timedelta(hours=1)
    history = _history(([OLD], START), ([NEW], left))
    assert history.trusted(left + LEAF - SECOND) == _bundle(NEW, OLD)
    assert history.trusted(left + LEAF) == _bundle(NEW)
    assert history.configured == _bundle(NEW)


def test_looking_again_does_not_prolong_the_trust_in_a_root_that_left() -> None:
    left = START + timedelta(hours=1)
    history = _history(([OLD], START), ([NEW], left), ([NEW, THIRD], left + LEAF / 2))
    assert history.trusted(left + LEAF - SECOND) == _bundle(NEW, THIRD, OLD)
    assert history.trusted(left + LEAF) == _bundle(NEW, THIRD)
    assert _history(([OLD], START), ([NEW], left), ([NEW], left + LEAF)).leaving == ()


def test_a_later_shorter_lifetime_does_not_cut_short_what_was_promised_before() -> None:
    history = _history(([OLD], START), ([NEW], START)).observe(_bundle(NEW), START, SECOND)
    assert history.trusted(START + LEAF - SECOND) == _bundle(NEW, OLD)


def test_a_root_that_comes_back_is_configured_again_and_was_published_all_along() -> None:
    history = _history(([OLD], START), ([NEW], START + SECOND), ([OLD, NEW], START + 2 * SECOND))
    assert history.trusted(START + 2 * LEAF) == _bundle(OLD, NEW)
    assert history.settled_at(SECOND) == START + 2 * SECOND


def test_a_root_that_comes_back_after_nobody_trusted_it_is_new() -> None:
    back = START + LEAF + SECOND
    history = _history(([OLD, NEW], START), ([NEW], START), ([NEW, OLD], back))
    assert history.settled_at(SECOND) == back + SECOND


def test_an_expired_root_is_not_trusted_and_still_known_as_configured() -> None:
    end = SHORT.certificate.not_valid_after_utc
    history = _history(([SHORT, OLD], START))
    assert history.trusted(end - SECOND) == _bundle(SHORT, OLD)
    assert history.trusted(end) == _bundle(OLD)
    assert history.configured == _bundle(SHORT, OLD)


def test_a_root_that_left_is_not_trusted_after_its_own_end() -> None:
    end = SHORT.certificate.not_valid_after_utc
    history = _history(([SHORT], START), ([OLD], end - SECOND))
    assert history.trusted(end - SECOND) == _bundle(OLD, SHORT)
    assert history.trusted(end) == _bundle(OLD)
    assert history.observe(_bundle(OLD), end, LEAF).leaving == ()


def test_a_root_that_is_named_twice_is_there_once() -> None:
    assert _history(([OLD, NEW, OLD], START)).configured == _bundle(OLD, NEW)


def test_another_root_of_the_same_name_is_another_root() -> None:
    impostor = certificates.root("old")
    history = _history(([OLD], START), ([impostor], START + SECOND))
    assert history.trusted(START + SECOND) == _bundle(impostor, OLD)


def test_a_clock_that_was_ahead_holds_nothing_up_once_it_is_right() -> None:
    ahead = START + timedelta(days=100)
    history = _history(([OLD], START), ([NEW], ahead), ([NEW], START))
    assert history.settled_at(SECOND) == START + SECOND
    assert history.trusted(START + LEAF) == _bundle(NEW)


def test_roots_of_another_trust_domain_are_refused() -> None:
    other = TrustBundle("other.mesh", _bundle(OLD).roots)
    with pytest.raises(ValueError, match=r"roots of 'other\.mesh'"):
        RootHistory(DOMAIN).observe(other, START, LEAF)


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(ROOTS), min_size=1), st.integers(0, 3 * 86_400)),
        min_size=1,
        max_size=12,
    )
)
def test_at_any_time_all_of_now_and_of_the_last_leafs_lifetime_is_trusted_and_no_more(
    looks: list[tuple[list[Signed], int]],
) -> None:
    history, now, seen = RootHistory(DOMAIN), START, dict[Signed, datetime]()
    for roots, pause in looks:
        now += timedelta(seconds=pause)
        # What was configured until this look counts as in use until this look.
        seen |= {root: now for root in seen if root.certificate in history.configured.roots}
        history = history.observe(_bundle(*roots), now, LEAF)
        seen |= dict.fromkeys(roots, now)
        wanted = {
            root.certificate
            for root, last in seen.items()
            if (root in roots or now < last + LEAF) and now < root.certificate.not_valid_after_utc
        }
        trusted = history.trusted(now).roots
        assert len(trusted) == len(set(trusted))
        assert set(trusted) == wanted
        assert history.configured.roots == tuple(dict.fromkeys(_bundle(*roots).roots))
