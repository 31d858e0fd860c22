from __future__ import annotations

from typing import Any

import pytest

from sidecar.istio.check import loader
from sidecar.istio.check.finding import Finding
from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node, Place

START = Place("file", 1)


def only(text: str) -> Node:
    [read] = load(text, START)
    assert isinstance(read, Node)
    return read


def found(text: str) -> list[tuple[int, str]]:
    read = load(text, START)
    return [(each.place.line, each.rule.name) for each in read if isinstance(each, Finding)]


def test_every_value_knows_its_line() -> None:
    root = only("a: 1\nb:\n  c:\n  - d\n  - e: f\n")
    assert root.place.line == 1
    assert root.at("a").place.line == 1
    assert root.at("b").place.line == 2
    assert root.at("b", "c").place.line == 3
    assert [each.place.line for each in root.at("b", "c").items] == [4, 5]


def test_what_is_not_there_stands_where_it_should_be() -> None:
    root = only("a:\n  b:\n    c: 1\n")
    missing = root.at("a", "b", "d", "e")
    assert not missing.present
    assert missing.place.line == 2


def test_lines_count_from_where_the_text_starts() -> None:
    [read] = load("a:\n  b: c\n", Place("file", 10))
    assert isinstance(read, Node)
    assert read.at("a", "b").place == Place("file", 11)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", 1),
        ("a: 0x1F", 31),
        ("a: 1.5", 1.5),
        ("a: true", True),
        ("a: yes", True),
        ('a: "true"', "true"),
        ("a: null", None),
        ("a:", None),
        ("a: 2026-01-01", "2026-01-01"),
        ("a: 2026-99-99", "2026-99-99"),
        ("a: !!int x", "x"),
        ("a: !!bool x", "x"),
        ("a: !!binary x", "x"),
        (f"a: {'1' * 5000}", "1" * 5000),
        ("a: !anything b", "b"),
    ],
)
def test_scalars_are_what_kubernetes_makes_of_them(text: str, value: Any) -> None:
    assert only(text).at("a").value == value


def test_tags_make_nothing() -> None:
    assert only("a: !!python/object/apply:os.system [exit 1]\n").plain == {"a": ["exit 1"]}


def test_documents_are_read_one_after_the_other_and_empty_ones_passed_over() -> None:
    read = list(load("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n", START))
    assert [each.place.line for each in read] == [3, 7]


def test_what_stands_before_a_mistake_is_read() -> None:
    read = list(load("a: 1\n---\nb: [\n", START))
    assert isinstance(read[0], Node)
    assert found("a: 1\n---\nb: [\n") == [(4, "invalid-yaml")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c\n", 1),
        ("a: 1\n\tb: 2\n", 2),
        ("a: 1\nb: *nowhere\n", 2),
        ("a: 1\nb: \x00\n", 1),
        ("%YAML 9.9\n---\na\n", 1),
        ("a: &a\n  b: *a\n", 2),
        ("\n" + "[" * 101, 2),
        ("- " * 2000, 1),
    ],
)
def test_bad_yaml_is_a_finding_with_its_line(text: str, line: int) -> None:
    assert found(text) == [(line, "invalid-yaml")]


def test_a_key_that_is_there_twice_is_found_and_the_last_counts() -> None:
    text = "a:\n  b: 1\n  c: 2\n  b: 3\n"
    assert found(text) == [(4, "duplicate-key")]
    read = [each for each in load(text, START) if isinstance(each, Node)]
    assert read[0].plain == {"a": {"b": 3, "c": 2}}


def test_aliases_and_merged_keys_are_what_they_stand_for() -> None:
    root = only("a: &a {b: 1, c: 2}\nd: *a\ne:\n  <<: *a\n  c: 3\nf:\n  <<: [{g: 1}, *a]\n")
    assert root.plain == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 2},
        "e": {"b": 1, "c": 3},
        "f": {"b": 1, "c": 2, "g": 1},
    }


def test_aliases_that_grow_without_end_are_refused() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 10)]
    bomb = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(levels)
    [(line, rule)] = found(bomb)
    assert rule == "invalid-yaml"
    assert line <= 7


def test_what_the_documents_of_a_file_come_to_is_bounded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader, "_MOST_VALUES", 10)
    assert found("[a, b, c, d]\n---\n[a]\n") == []
    assert found("[a, b, c, d]\n---\n[a, b, c, d, e]\n") == [(3, "invalid-yaml")]


def test_a_text_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "MOST_CHARACTERS", 10)
    assert found("a: 1234567") == []
    assert found("a: 12345678") == [(1, "invalid-yaml")]


@pytest.mark.parametrize("text", ['"\\UFFFFFFFF"\n', f"%YAML {'9' * 5000}.1\n---\na\n"])
def test_a_number_beyond_all_bounds_is_invalid(text: str) -> None:
    assert found(text) == [(1, "invalid-yaml")]


def test_an_integer_that_python_cannot_write_out_is_a_text() -> None:
    assert only(f"a: 0x{'f' * 5000}\n").at("a").text == f"0x{'f' * 5000}"
    assert only("a: 0xff\n").at("a").value == 255


def test_surrogates_are_joined_or_replaced_so_that_they_can_be_printed() -> None:
    assert only('{"a": "\\ud83d\\ude00"}').at("a").text == "\U0001f600"
    assert only('{"\\ud800": 1}').fields.keys() == {"\ufffd"}
