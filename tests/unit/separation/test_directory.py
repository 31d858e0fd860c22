"""Directories of sockets: nobody but root and the sidecar's user may decide what is in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError, StartFailed
from sidecar.separation.directory import require_closed_directory, require_socket_directory
from tests.unit.separation.tree import CALLERS, OURS, ROOT, STRANGER, Entry, Tree, status

_DIRECTORY = Path("/run/meshkey")


def _require(entries: dict[str, Entry], directory: Path = _DIRECTORY) -> str:
    return require_socket_directory(directory, "signer.socket", OURS, Tree(entries).look)


@pytest.mark.parametrize("owner", [ROOT, OURS])
@pytest.mark.parametrize("mode", [0o700, 0o710, 0o750, 0o755, 0o2750])
def test_a_directory_that_others_may_only_enter_is_right(owner: int, mode: int) -> None:
    assert f"mode {mode:04o}" in _require({"/run/meshkey": (mode, owner, CALLERS)})


@pytest.mark.parametrize(
    ("mode", "who"),
    [
        (0o777, "everybody"),
        # Callers could be there first.
        (0o1777, "everybody"),
        (0o757, "everybody"),
        (0o770, f"group {CALLERS}"),
        (0o2775, f"group {CALLERS}"),
        (0o720, f"group {CALLERS}"),
    ],
)
def test_one_that_others_may_write_is_refused(mode: int, who: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _require({"/run/meshkey": (mode, OURS, CALLERS)})
    assert str(raised.value) == (
        f"signer.socket: /run/meshkey can be written by {who}, who could serve a socket of their "
        "own there: chmod go-w /run/meshkey, or choose another directory"
    )


def test_a_strangers_directory_is_refused_however_it_is_closed() -> None:
    with pytest.raises(ConfigurationError, match=f"/run/meshkey belongs to user {STRANGER}"):
        _require({"/run/meshkey": (0o700, STRANGER, STRANGER)})


def test_root_with_the_sidecars_directories_is_told_of_the_user_that_it_forgot() -> None:
    look = Tree({"/run/meshkey": (0o750, OURS, CALLERS)}).look
    with pytest.raises(ConfigurationError, match=r"set process.user if that is the sidecar's user"):
        require_socket_directory(_DIRECTORY, "signer.socket", ROOT, look)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o775, 0o2775])
def test_one_below_a_directory_that_others_may_write_is_refused(mode: int) -> None:
    above = {"/run": (mode, ROOT, CALLERS), "/run/meshkey": (0o750, OURS, CALLERS)}
    with pytest.raises(ConfigurationError, match="/run, which is above it, can be written by"):
        _require(above)


def test_with_the_sticky_bit_above_nobody_can_rename_what_is_not_his() -> None:
    above = {"/run": (0o1777, ROOT, ROOT), "/run/meshkey": (0o750, OURS, CALLERS)}
    assert _require(above)
    # Whoever owns the directory renames it all the same.
    above["/run"] = (0o1777, STRANGER, ROOT)
    with pytest.raises(ConfigurationError, match=f"/run belongs to user {STRANGER}"):
        _require(above)


def test_root_itself_is_looked_at() -> None:
    with pytest.raises(ConfigurationError, match="/, which is above it, can be written"):
        _require({"/": (0o777, ROOT, ROOT), "/run/meshkey": (0o750, OURS, OURS)})


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o740, 0o755])
def test_the_admin_sockets_directory_is_closed_to_everybody_else(mode: int) -> None:
    tree = Tree({"/run/meshkey": (mode, OURS, OURS)})
    with pytest.raises(ConfigurationError, match="is open to others: chmod 0700 /run/meshkey"):
        require_closed_directory(_DIRECTORY, "admin.socket", OURS, tree.look)
    closed = Tree({"/run/meshkey": (0o700, OURS, OURS)})
    assert require_closed_directory(_DIRECTORY, "admin.socket", OURS, closed.look)


def _real(path: Path) -> os.stat_result:
    """As it is, but everything is ours, and what is above the test's directory is root's."""
    found = path.lstat()
    return status(found.st_mode, OURS if path.name.startswith("our") else ROOT, ROOT)


def test_what_a_link_leads_to_and_through_is_what_counts(tmp_path: Path) -> None:
    real = tmp_path / "open" / "our"
    real.mkdir(parents=True)
    link = tmp_path / "our-link"
    link.symlink_to("open/../open/our")
    assert str(real) in require_socket_directory(link, "signer.socket", OURS, _real)
    real.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"{real.parent}, which is above it"):
        require_socket_directory(link, "signer.socket", OURS, _real)
    real.parent.chmod(0o755)
    real.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"{real} can be written by everybody"):
        require_socket_directory(link, "signer.socket", OURS, _real)


def test_a_strangers_link_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    (tmp_path / "our").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "our")

    def look(path: Path) -> os.stat_result:
        found = _real(path)
        return status(found.st_mode, STRANGER, ROOT) if path.name == "link" else found

    with pytest.raises(ConfigurationError, match=f"link belongs to user {STRANGER}"):
        require_socket_directory(tmp_path / "link", "signer.socket", OURS, look)


def test_links_that_lead_nowhere_end(tmp_path: Path) -> None:
    (tmp_path / "our-a").symlink_to("our-b")
    (tmp_path / "our-b").symlink_to("our-a")
    with pytest.raises(ConfigurationError, match="Too many levels of symbolic links"):
        require_socket_directory(tmp_path / "our-a", "signer.socket", OURS, _real)


def test_what_is_not_there_or_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "our-file").touch()
    for wrong in ("our-file", "gone", "our-file/below"):
        with pytest.raises(StartFailed, match=f"{wrong} is no directory; create it first"):
            require_socket_directory(tmp_path / wrong, "signer.socket", OURS, _real)


def test_one_that_we_may_not_enter_is_named() -> None:
    def look(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ConfigurationError, match=f"Permission denied; user {OURS} must be able to"):
        require_socket_directory(_DIRECTORY, "signer.socket", OURS, look)
