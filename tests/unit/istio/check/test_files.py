from __future__ import annotations

import os
from pathlib import Path

from sidecar.istio.check.files import loaded
from sidecar.istio.check.finding import Finding
from sidecar.istio.check.located import Node


def rules(*paths: Path) -> list[tuple[str, int, str]]:
    read = loaded(paths)
    return [
        (Path(each.place.file).name, each.place.line, each.rule.name)
        for each in read
        if isinstance(each, Finding)
    ]


def test_a_directory_is_all_yaml_below_it_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c/d.yaml", "e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("kind: A\n")
    read = [each for each in loaded([tmp_path]) if isinstance(each, Node)]
    assert [Path(each.place.file).name for each in read] == ["a.yml", "b.yaml", "d.yaml"]


def test_a_file_is_read_once_and_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: A\n")
    (tmp_path / "b.txt").write_text("kind: B\n")
    paths = [tmp_path, tmp_path / "a.yaml", tmp_path / "b.txt"]
    assert len(list(loaded(paths))) == 2


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    assert rules(tmp_path / "none.yaml") == [("none.yaml", 1, "unreadable-file")]
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\n")
    assert rules(tmp_path) == [("a.yaml", 1, "unreadable-file")]


def test_a_directory_without_yaml_is_a_finding(tmp_path: Path) -> None:
    assert rules(tmp_path) == [(tmp_path.name, 1, "unreadable-file")]


def test_what_is_no_file_is_passed_over_in_directories(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "none")
    (tmp_path / "c.yaml").write_text("kind: C\n")
    assert len(list(loaded([tmp_path]))) == 1
