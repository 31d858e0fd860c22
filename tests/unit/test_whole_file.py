"""Small files, read and replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar import whole_file


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_is_read_to_the_first_byte_too_many(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert whole_file.read(tmp_path / "file", 7) == b"content"
    assert whole_file.read(tmp_path / "file", 6) == b"content"
    assert whole_file.read(tmp_path / "file", 4) == b"conte"


@pytest.mark.parametrize("kind", ["directory", "FIFO", "device"])
def test_what_is_no_file_is_not_read_and_nothing_of_it_stays_open(
    tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "place"
    if kind == "directory":
        place.mkdir()
    elif kind == "FIFO":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    before = _open_descriptors()
    for _ in range(3):
        with pytest.raises(OSError, match=r"no regular file|Is a directory") as refused:
            whole_file.read(place, 100)
        assert refused.value.strerror
    assert _open_descriptors() == before


def test_a_symbolic_link_is_followed_only_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert whole_file.read(tmp_path / "link", 7) == b"content"
    with pytest.raises(OSError, match="symbolic links"):
        whole_file.read(tmp_path / "link", 7, follow=False)


def test_links_in_the_way_of_a_replacement_are_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o600)
    for name in ("file", ".file.new"):
        (tmp_path / name).symlink_to(victim)
    whole_file.replace(tmp_path / "file", b"new", 0o644)
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (victim.read_bytes(), victim.stat().st_mode & 0o777) == (b"precious", 0o600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "victim"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_as_asked_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        whole_file.replace(tmp_path / "public", b"", 0o644)
        whole_file.replace(tmp_path / "private", b"", 0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
