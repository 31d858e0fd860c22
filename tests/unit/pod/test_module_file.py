"""The Envoy module on its way into a volume."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from sidecar import whole_file
from sidecar.errors import InputMissing, StartFailed
from sidecar.pod.module_file import NAME, beside_program, install

CONTENT = b"\x7fELF" + bytes(range(256)) * 1000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "built.so"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def library(tmp_path: Path) -> Path:
    directory = tmp_path / "lib"
    directory.mkdir()
    return directory


def test_it_is_copied_as_it_is_and_nobody_may_write_it(source: Path, library: Path) -> None:
    digest = install(source, library)
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert (library / NAME).read_bytes() == CONTENT
    assert stat.S_IMODE((library / NAME).stat().st_mode) == 0o444
    assert [entry.name for entry in library.iterdir()] == [NAME], "nothing unfinished is left"


def test_a_new_one_replaces_the_old_one_which_who_has_it_open_keeps(
    source: Path, library: Path
) -> None:
    install(source, library)
    with (library / NAME).open("rb") as loaded:
        source.write_bytes(CONTENT + b"new")
        install(source, library)
        assert loaded.read() == CONTENT
    assert (library / NAME).read_bytes() == CONTENT + b"new"


def test_a_link_in_its_place_is_replaced_and_not_followed(
    source: Path, library: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    (library / NAME).symlink_to(victim)
    install(source, library)
    assert victim.read_text() == "as it was"
    assert not (library / NAME).is_symlink()


def test_what_is_there_then_is_compared(
    source: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = whole_file.replace

    def cut_short(path: Path, content: bytes, mode: int) -> None:
        replace(path, content[:-1], mode)

    monkeypatch.setattr(whole_file, "replace", cut_short)
    with pytest.raises(StartFailed, match="is not what was written there"):
        install(source, library)


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_without_a_module_nothing_is_installed(
    source: Path, library: Path, content: bytes | None
) -> None:
    source.unlink()
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(InputMissing, match=r"built\.so"):
        install(source, library)
    assert not list(library.iterdir())


def test_where_it_cannot_be_written_the_target_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"nowhere/libmeshkey.so cannot be written"):
        install(source, tmp_path / "nowhere")


def test_the_images_own_is_below_the_programs_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.prefix", "/opt/meshkey")
    assert beside_program() == Path("/opt/meshkey/lib/libmeshkey.so")
