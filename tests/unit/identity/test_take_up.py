"""A saved certificate is used again only if everything about it still holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.core.certificate_verify import Side
from sidecar.core.spiffe import SpiffeId
from sidecar.core.trust import TrustBundle
from sidecar.identity.saved import SavedIdentity
from sidecar.identity.take_up import TakenUp, take_up
from sidecar.token.base import KeyId, Origin, TokenKey
from tests.fixtures import certificates
from tests.fixtures.certificates import der, intermediate, leaf, root
from tests.fixtures.clock import START

ID = SpiffeId("demo.mesh", "/ns/demo/sa/web")
ROOT, OTHER_ROOT = root(), root("other")
MIDDLE = intermediate(ROOT)
BUNDLE = TrustBundle("demo.mesh", (ROOT.certificate,))
PUBLIC = certificates.new_key().public_key()
KEY = TokenKey(KeyId(b"\x0a"), "label", PUBLIC, Origin.BORN)
OTHER_KEY = replace(KEY, id=KeyId(b"\x0b"), public_key=certificates.new_key().public_key())
# From two minutes before START to twenty after it.
LEAF = leaf(MIDDLE, PUBLIC, str(ID))
SAVED = SavedIdentity(KEY.id, (der(LEAF), MIDDLE.der), START)
LATER = START + timedelta(minutes=5)


def _take_up(saved: SavedIdentity = SAVED, **different: Any) -> TakenUp | None:
    arguments: dict[str, Any] = {
        "keys": [OTHER_KEY, KEY],
        "spiffe_id": ID,
        "sides": frozenset(Side),
        "bundle": BUNDLE,
        "now": LATER,
    }
    return take_up("web", saved, **(arguments | different))


def test_what_still_holds_is_taken_up_with_the_moment_it_was_obtained() -> None:
    taken = _take_up()
    assert taken is not None
    assert taken.key == KEY
    assert taken.chain.certificates == SAVED.chain
    assert taken.chain.not_after == START + timedelta(minutes=20)
    assert taken.obtained == START


def test_past_half_of_its_lifetime_it_is_taken_up_and_due() -> None:
    now = START + timedelta(minutes=15)
    taken = _take_up(now=now)
    assert taken is not None
    assert (taken.obtained, taken.chain.not_after) == (
        SAVED.obtained,
        START + timedelta(minutes=20),
    )


_GATEWAY = SavedIdentity(
    KEY.id,
    (der(leaf(ROOT, PUBLIC, str(ID), purposes=[certificates.BOTH_PURPOSES[0]])),),
    START,
)


@pytest.mark.parametrize(
    ("saved", "different", "reason"),
    [
        (SAVED, {"keys": []}, "the token does not hold its key any more"),
        (SAVED, {"keys": [OTHER_KEY]}, "the token does not hold its key any more"),
        (SAVED, {"keys": [KEY, KEY]}, "the token holds 2 keys under its key's identifier"),
        (SAVED, {"keys": [replace(OTHER_KEY, id=KEY.id)]}, "for another key"),
        (SAVED, {"spiffe_id": replace(ID, path="/ns/demo/sa/api")}, "expected exactly spiffe://"),
        (SAVED, {"now": START + timedelta(minutes=20)}, "the certificate expired"),
        (SAVED, {"now": START - timedelta(minutes=3)}, "the certificate is valid from"),
        (
            SAVED,
            {"bundle": TrustBundle("demo.mesh", (OTHER_ROOT.certificate,))},
            "does not lead to a trusted root",
        ),
        (SAVED, {"longest": timedelta(minutes=5)}, "at most 0:05:00 is allowed"),
        (_GATEWAY, {}, "lacks client auth"),
        (replace(SAVED, chain=()), {}, "without a certificate"),
        (replace(SAVED, chain=(b"garbage",)), {}, "no certificate"),
        (replace(SAVED, chain=SAVED.chain[:1]), {}, "does not lead to a trusted root"),
    ],
)
def test_what_does_not_hold_any_more_is_not_used_and_the_reason_logged(
    saved: SavedIdentity, different: dict[str, Any], reason: str
) -> None:
    with capture_logs() as logs:
        assert _take_up(saved, **different) is None
    (line,) = logs
    assert line["event"] == "saved certificate not used"
    assert line["identity"] == "web"
    assert reason in line["reason"]


def test_a_certificate_for_the_one_side_that_is_used_is_taken_up() -> None:
    assert _take_up(_GATEWAY, sides=frozenset({Side.SERVER})) is not None


@pytest.mark.parametrize(
    ("obtained", "clamped"),
    [
        (LATER + timedelta(days=1000), LATER),
        (LATER + timedelta(seconds=1), LATER),
        (START - timedelta(minutes=3), START - timedelta(minutes=2)),
    ],
)
def test_a_moment_that_cannot_be_is_not_believed(obtained: datetime, clamped: datetime) -> None:
    taken = _take_up(replace(SAVED, obtained=obtained))
    assert taken is not None
    assert taken.obtained == clamped


def test_a_root_that_the_saved_chain_brings_along_is_not_trusted_for_it() -> None:
    foreign = leaf(OTHER_ROOT, PUBLIC, str(ID))
    assert _take_up(replace(SAVED, chain=(der(foreign), OTHER_ROOT.der))) is None
