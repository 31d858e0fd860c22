"""A record's line, and what a chain makes of it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.audit.record import (
    Link,
    Record,
    caller_facts,
    canonical,
    facts_of,
    line,
    signature_facts,
    spelled,
)
from sidecar.core.process import UNKNOWN, CallingProcess

TIME = "2030-01-01T12:00:00.000000Z"


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans()))
def test_a_line_is_json_whatever_the_facts_are(facts: dict[str, str | int | None]) -> None:
    raw, after = line(Link(), TIME, "key born", facts_of({f"x{k}": v for k, v in facts.items()}))
    assert b"\n" not in raw
    record = Record.parse(raw)
    assert record
    assert (record.seq, record.event, record.chain) == (1, "key born", after.chain)
    assert record.follows(Link())
    said = record.facts()
    assert {k: said[f"x{k}"] for k in facts} == facts
    assert list(said)[:3] == ["seq", "time", "event"]
    assert list(said)[-1] == "chain"


def test_the_chain_value_is_what_the_documentation_says() -> None:
    first, link = line(Link(), TIME, "opened", "")
    second, _ = line(link, TIME, "start", facts_of({"version": "1"}))
    value = bytes(32)
    for raw in (first, second):
        content, _, rest = raw.partition(b',"chain":"')
        value = hashlib.sha256(value + content).digest()
        assert rest == value.hex().encode() + b'"}'


@given(st.binary(max_size=200), st.binary(max_size=300))
@example(bytes(65), b"")
def test_the_facts_of_a_signature_are_spelled_as_all_others(key_id: bytes, message: bytes) -> None:
    process = CallingProcess(1000, 7, "ab" * 32)
    facts = signature_facts(
        caller_facts(process), key_id, "tls13-server", "ED25519", message, "refused MESSAGE"
    )
    assert facts == facts_of(
        {
            "caller": {"uid": 1000, "pid": 7, "executable_sha256": "ab" * 32},
            "key_id": key_id[:64].hex(),
            "purpose": "tls13-server",
            "scheme": "ED25519",
            "message_sha256": hashlib.sha256(message).hexdigest(),
            "result": "refused MESSAGE",
        }
    )


def test_a_caller_that_nobody_has_found_out_says_so() -> None:
    assert json.loads(caller_facts(UNKNOWN)) == {
        "uid": None,
        "pid": None,
        "executable_sha256": None,
    }


def test_a_record_follows_only_the_one_before_it() -> None:
    raw, _ = line(Link(5), TIME, "start", "")
    record = Record.parse(raw)
    assert record
    assert record.follows(Link(5))
    assert not record.follows(Link(4))
    assert not record.follows(Link(5, b"\x01" * 32))
    assert record.follows_under_another_number(Link(5))
    assert not record.follows_under_another_number(Link(4))


def test_a_time_is_in_utc_and_always_as_long() -> None:
    east = timezone(timedelta(hours=2))
    assert spelled(datetime(2030, 1, 1, 14, 0, tzinfo=east)) == TIME
    assert spelled(datetime(2030, 1, 1, 12, 0, tzinfo=UTC)) == TIME


def test_there_is_one_spelling() -> None:
    assert canonical({"b": "ü", "a": [1, None]}) == '{"b":"\\u00fc","a":[1,null]}'


def test_what_has_not_the_form_of_a_record_is_none() -> None:
    raw, _ = line(Link(), TIME, "start", "")
    for wrong in (b"", b"{}", raw[:-1], raw + b" ", raw.replace(b'"seq":1', b'"seq":01')):
        assert Record.parse(wrong) is None
