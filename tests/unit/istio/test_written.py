"""What is overwritten, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.istio.document import MARKER, Copy, Document
from sidecar.istio.written import left_over, written

_DOCUMENTS = (
    Document("a/one.yaml", "First.", ({"kind": "A"}, {"kind": "B"})),
    Copy("b/two.json", "{}\n"),
)


def test_files_are_written_where_they_say_and_say_who_wrote_them(tmp_path: Path) -> None:
    paths = list(written(_DOCUMENTS, tmp_path))
    assert paths == [tmp_path / "a/one.yaml", tmp_path / "b/two.json"]
    text = paths[0].read_text()
    assert text == f"# {MARKER}\n# First.\nkind: A\n---\nkind: B\n"
    assert paths[1].read_text() == "{}\n"


def test_what_was_written_before_is_written_anew(tmp_path: Path) -> None:
    list(written(_DOCUMENTS, tmp_path))
    changed = (Document("a/one.yaml", "Second.", ({"kind": "C"},)), _DOCUMENTS[1])
    list(written(changed, tmp_path))
    assert "kind: C" in (tmp_path / "a/one.yaml").read_text()


@pytest.mark.parametrize("name", ["a/one.yaml", "b/two.json"])
def test_somebody_elses_file_stays_and_then_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(ConfigurationError, match=rf"{name} is there .*--force"):
        list(written(_DOCUMENTS, tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine\n"


def test_force_overwrites_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.yaml").write_text("mine\n")
    list(written(_DOCUMENTS, tmp_path, force=True))
    assert MARKER in (tmp_path / "a/one.yaml").read_text()


@pytest.mark.parametrize("force", [True, False])
def test_a_directory_in_the_place_of_a_file_is_named(tmp_path: Path, force: bool) -> None:
    (tmp_path / "a/one.yaml").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"a/one\.yaml"):
        list(written(_DOCUMENTS, tmp_path, force=force))


def test_what_other_values_made_is_named_and_stays(tmp_path: Path) -> None:
    list(written(_DOCUMENTS, tmp_path))
    (tmp_path / "mine.yaml").write_text("kind: Mine\n")
    assert left_over(_DOCUMENTS, tmp_path) == []
    assert left_over(_DOCUMENTS[1:], tmp_path) == [tmp_path / "a/one.yaml"]
    assert (tmp_path / "a/one.yaml").exists()
