"""The document of a deny list: read whole or not at all."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.deny_list import MOST_ENTRIES, DenyList
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import DenyListRefused
from tests.fixtures.clock import START
from tests.fixtures.deny_lists import OTHER, PEER, deny_list

_GOOD: dict[str, Any] = {
    "sequence": 7,
    "issued_at": 1_893_499_200,
    "next_update": 1_893_502_800,
    "spiffe_ids": [str(PEER), str(OTHER)],
}
_SEGMENT = st.text("abcXYZ019._-", min_size=1, max_size=12).filter(lambda s: s not in (".", ".."))
_SPIFFE_IDS = st.builds(
    lambda domain, path: SpiffeId.parse(f"spiffe://{domain}/{'/'.join(path)}"),
    st.text("abc019._-", min_size=1, max_size=12),
    st.lists(_SEGMENT, min_size=1, max_size=4),
)
_SECONDS = st.integers(0, 4_000_000_000)


@st.composite
def _lists(draw: st.DrawFn) -> DenyList:
    issued, lasts = draw(_SECONDS), draw(st.integers(1, 10**9))
    return DenyList(
        draw(st.integers(1, 2**53 - 1)),
        datetime.fromtimestamp(issued, UTC),
        datetime.fromtimestamp(issued + lasts, UTC),
        tuple(draw(st.lists(_SPIFFE_IDS, max_size=5, unique=True))),
    )


def _document(**changed: Any) -> bytes:
    return json.dumps({**_GOOD, **changed}).encode()


def test_a_list_is_read_with_times_of_whole_seconds() -> None:
    read = DenyList.parse(_document())
    assert read == DenyList(7, START, START + timedelta(hours=1), (PEER, OTHER))
    assert read.denied == {PEER, OTHER}


def test_nobody_may_be_denied() -> None:
    assert DenyList.parse(_document(spiffe_ids=[])).denied == frozenset()


@given(_lists())
def test_what_is_written_is_read_as_it_was(written: DenyList) -> None:
    read = DenyList.parse(written.encode())
    assert read == written
    assert read.encode() == written.encode()
    assert read.digest == written.digest


@given(_lists(), st.data())
def test_with_any_byte_changed_it_is_another_list_or_none(
    written: DenyList, data: st.DataObject
) -> None:
    document = bytearray(written.encode())
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] ^= data.draw(st.integers(1, 255))
    with suppress(DenyListRefused):
        read = DenyList.parse(bytes(document))
        assert read != written
        assert read.digest != written.digest


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(document: bytes) -> None:
    with suppress(DenyListRefused):
        DenyList.parse(document)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.sampled_from([*_GOOD]), _JSON)
def test_whatever_a_member_is_it_is_read_or_refused(name: str, value: object) -> None:
    with suppress(DenyListRefused):
        read = DenyList.parse(_document(**{name: value}))
        assert json.loads(read.encode()) == {**_GOOD, name: value}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"sequence": 0}, "sequence is no whole number from 1"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": 2**53}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"sequence": 7.0}, "sequence"),
        ({"sequence": "7"}, "sequence"),
        ({"sequence": None}, "sequence"),
        ({"issued_at": -1}, "issued_at is no whole number"),
        ({"issued_at": 1.5}, "issued_at"),
        ({"issued_at": float("nan")}, "issued_at"),
        ({"next_update": 10**12}, "next_update is no whole number"),
        ({"next_update": float("inf")}, "next_update"),
        ({"next_update": _GOOD["issued_at"]}, "next_update is not after its issued_at"),
        ({"next_update": _GOOD["issued_at"] - 1}, "next_update is not after its issued_at"),
        ({"spiffe_ids": str(PEER)}, "spiffe_ids are no list"),
        ({"spiffe_ids": {str(PEER): 1}}, "spiffe_ids are no list"),
        ({"spiffe_ids": [7]}, "no text"),
        ({"spiffe_ids": [None]}, "no text"),
        ({"spiffe_ids": [str(PEER), str(OTHER), str(PEER)]}, "a SPIFFE ID twice"),
        ({"reason": "stolen"}, "must have exactly"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_the_rule(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(DenyListRefused, match=told):
        DenyList.parse(_document(**changed))


@pytest.mark.parametrize("missing", [*_GOOD])
def test_a_member_that_is_missing_is_refused(missing: str) -> None:
    document = {name: value for name, value in _GOOD.items() if name != missing}
    with pytest.raises(DenyListRefused, match="must have exactly"):
        DenyList.parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://test.mesh",
        "spiffe://test.mesh/",
        "spiffe://Test.mesh/a",
        "SPIFFE://test.mesh/a",
        "spiffe://test.mesh//a",
        "spiffe://test.mesh/a/",
        "spiffe://test.mesh/a/../b",
        "spiffe://test.mesh/a%2fb",
        "spiffe://test.mesh/a?b",
        "spiffe://test.mesh:80/a",
        "spiffe://test.mesh/a ",
        " spiffe://test.mesh/a",
        "spiffe://test.mesh/ä",
        "spiffe://test.mesh/\ud800",
        "spiffe://test.mesh/*",
        "https://test.mesh/a",
        "",
    ],
)
def test_what_no_certificate_can_carry_denies_nobody_and_is_refused(text: str) -> None:
    with pytest.raises(DenyListRefused, match="the deny list: "):
        DenyList.parse(_document(spiffe_ids=[str(PEER), text]))


def test_a_member_that_is_there_twice_is_refused() -> None:
    document = _document().replace(b'{"sequence": 7', b'{"sequence": 9, "sequence": 7')
    with pytest.raises(DenyListRefused, match="a member twice"):
        DenyList.parse(document)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"\xff", b"7", b"[]", b"null", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)
def test_what_is_no_object_is_refused(document: bytes) -> None:
    with pytest.raises(DenyListRefused):
        DenyList.parse(document)


def test_there_is_an_end_to_how_many_are_denied() -> None:
    listed = [f"spiffe://test.mesh/{number}" for number in range(MOST_ENTRIES + 1)]
    assert len(DenyList.parse(_document(spiffe_ids=listed[1:])).denied) == MOST_ENTRIES
    with pytest.raises(DenyListRefused, match="at most 10000"):
        DenyList.parse(_document(spiffe_ids=listed))


def test_it_is_stale_from_its_next_update_on() -> None:
    listed = deny_list()
    assert not listed.is_stale(listed.next_update - timedelta(seconds=1))
    assert listed.is_stale(listed.next_update)


def test_the_future_begins_a_minute_from_now() -> None:
    listed = deny_list()
    listed.require_issued(START - timedelta(minutes=1))
    with pytest.raises(DenyListRefused, match="in the future, at 2030-01-01T12:00:00Z"):
        listed.require_issued(START - timedelta(minutes=1, seconds=1))
