"""Single values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import values
from sidecar.core.certificate_verify import Side


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", timedelta(seconds=1)),
        ("90s", timedelta(seconds=90)),
        ("20m", timedelta(minutes=20)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    assert values.duration(text) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "s",
        "20",
        "m20",
        "20 m",
        "1.5h",
        "-1m",
        "+1m",
        "0s",
        "20M",
        "20ms",
        "1h30m",
        20,
        None,
        [],
    ],
)
def test_anything_else_is_no_duration(wrong: object) -> None:
    with pytest.raises(ValueError, match="needed"):
        values.duration(wrong)


@pytest.mark.parametrize("wrong", ["9" * 12 + "d", "9" * 5000 + "s"])
def test_a_duration_that_no_calendar_holds_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"longer|limit"):
        values.duration(wrong)


def test_a_duration_may_be_bounded() -> None:
    bounded = values.at_most(timedelta(seconds=9))
    assert bounded("9s") == timedelta(seconds=9)
    with pytest.raises(ValueError, match="at most 9s are possible"):
        bounded("10s")
    with pytest.raises(ValueError, match="a duration is needed"):
        bounded("9")


def test_a_path_is_absolute() -> None:
    assert values.path("/a/b") == Path("/a/b")
    for wrong in ("a/b", "./a", "~/a", "", None, 3):
        with pytest.raises(ValueError, match="needed"):
            values.path(wrong)


def test_a_path_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute path"):
        values.path("/a\0b")


def test_a_sockets_path_fits_into_its_address() -> None:
    longest = "/" + "s" * 106
    assert str(values.socket_path(longest)) == longest
    for wrong in ("/" + "s" * 107, "/" + "ü" * 54):
        with pytest.raises(ValueError, match="at most 107 bytes"):
            values.socket_path(wrong)


def test_a_count_is_a_whole_number_within_its_bounds() -> None:
    parse = values.count(1, 64)
    assert [parse(1), parse(64), parse("2")] == [1, 64, 2]
    for wrong in (0, 65, -1, 1.0, True, "x", "-1", "", None, "1.0"):
        with pytest.raises(ValueError, match="a number from 1 to 64"):
            parse(wrong)


def test_one_of_a_few_words() -> None:
    parse = values.one_of("json", "console")
    assert parse("json") == "json"
    wrong: object
    for wrong in ("JSON", "", None, ["json"], {}):
        with pytest.raises(ValueError, match="one of json, console"):
            parse(wrong)


def test_sides_come_as_a_list_or_separated_by_commas() -> None:
    assert values.sides(["server"]) == {Side.SERVER}
    assert values.sides("client,server") == set(Side)
    wrong: object
    for wrong in ([], "", "both", ["server", "peer"], "server,", None, 3, [3], [["server"]], [{}]):
        with pytest.raises(ValueError, match="server"):
            values.sides(wrong)


@pytest.mark.parametrize(
    "parse",
    [
        values.text,
        values.path,
        values.socket_path,
        values.duration,
        values.count(1, 9),
        values.one_of("a", "b"),
        values.sides,
    ],
)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_whatever_toml_holds_is_parsed_or_is_a_value_error(
    parse: Callable[[Any], object], value: object
) -> None:
    try:
        parse(value)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("given", "expected"), [(True, True), (False, False), ("true", True), ("false", False)]
)
def test_a_switch_is_true_or_false(given: Any, expected: bool) -> None:
    assert values.switch(given) is expected


@pytest.mark.parametrize("wrong", ["", "yes", "True", 1, 0, None, [], {}])
def test_other_switches_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="true or false"):
        values.switch(wrong)


def test_a_key_id_is_hexadecimal_or_left_out() -> None:
    assert values.key_id("0a1F") == b"\x0a\x1f"
    assert values.key_id("") is None


@pytest.mark.parametrize("wrong", ["0", "xy", "ä", 12, None, ["0a"]])
def test_other_key_ids_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="in hexadecimal"):
        values.key_id(wrong)


def test_a_group_is_a_number_or_a_name() -> None:
    assert [values.group_id(each) for each in (0, "1337", "root")] == [0, 1337, 0]
    with pytest.raises(ValueError, match="there is no group 'no such'"):
        values.group_id("no such")
    wrong: object
    for wrong in (-1, 2**32 - 1, True, None, []):
        with pytest.raises(ValueError, match="a number from 0 to 4294967294"):
            values.group_id(wrong)
