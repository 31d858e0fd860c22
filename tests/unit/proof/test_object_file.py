"""The parser of SoftHSM2's object files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proof import object_file
from sidecar.proof.object_file import NotAnObjectFile

GENERATION = (7).to_bytes(8)


def number(value: int) -> bytes:
    return value.to_bytes(8)


def test_booleans_numbers_and_octets_are_read() -> None:
    content = (
        GENERATION
        + number(0x001) + number(1) + b"\xff"
        + number(0x002) + number(1) + b"\x00"
        + number(0x100) + number(2) + number(3)
        + number(0x102) + number(3) + number(2) + b"\x0a\x1f"
    )  # fmt: skip
    assert object_file.parse(content) == {0x001: True, 0x002: False, 0x100: 3, 0x102: b"\x0a\x1f"}


def test_maps_and_mechanism_sets_are_stepped_over() -> None:
    attribute_map = number(0x001) + number(1) + b"\xff"
    content = (
        GENERATION
        + number(0x40000212) + number(4) + number(len(attribute_map)) + attribute_map
        + number(0x40000600) + number(5) + number(2) + number(0x1040) + number(0x1041)
        + number(0x100) + number(2) + number(3)
    )  # fmt: skip
    assert object_file.parse(content) == {0x100: 3}


def test_an_empty_file_is_an_object_without_attributes() -> None:
    assert object_file.parse(b"") == {}


def test_a_later_value_of_an_attribute_replaces_the_earlier() -> None:
    content = GENERATION + number(1) + number(2) + number(5) + number(1) + number(2) + number(6)
    assert object_file.parse(content) == {1: 6}


@pytest.mark.parametrize(
    "content",
    [
        b"short",
        GENERATION + number(1),
        GENERATION + number(1) + number(9) + b"\0",
        GENERATION + number(1) + number(3) + number(2**63) + b"x",
        GENERATION + number(1) + number(5) + number(2**62),
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(NotAnObjectFile):
        object_file.parse(content)


@given(st.binary(max_size=200))
def test_arbitrary_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        attributes = object_file.parse(octets)
    except NotAnObjectFile:
        return
    assert len(attributes) * 17 <= len(octets)


def test_a_refused_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.object"
    path.write_bytes(b"not an object")
    with pytest.raises(NotAnObjectFile, match=r"x\.object is not an object file of SoftHSM2"):
        object_file.read(path)
