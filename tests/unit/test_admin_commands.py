"""What the commands that end something say, ask and return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.cli import commands
from sidecar.errors import ConfigurationError, NoSuchKey

# 2030-01-01.
_NOT_AFTER = 1893456000
_ENDED = pb.EndResponse(
    identity="edge",
    destroyed=[b"\x0a\x1f"],
    spared=[b"\x0b"],
    certificates=[
        pb.StillValid(
            key_id=b"\x0a\x1f", serial="abc1", issuer="CN=mesh root", not_after=_NOT_AFTER
        )
    ],
    tombstone="/var/lib/meshkey/edge.deprovisioned",
)


class _Process:
    """What an `AdminClient` is told, and answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Any = _ENDED
        for name in ("deprovision", "revoke", "reinstate", "reload", "keys"):
            monkeypatch.setattr(AdminClient, name, self._method(name))

    def _method(self, name: str) -> Any:
        def method(_client: AdminClient, *arguments: object) -> Any:
            self.asked.append((name, *arguments))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return method


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> _Process:
    return _Process(monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "meshkey.toml"
    token, admin = 'label = "mesh"\npin_file = "/x"', 'socket = "/run/nowhere"'
    file.write_text(f"[token]\n{token}\n[admin]\n{admin}\n")
    return file


def _run(config: Path, *arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(commands, [*arguments, "--config", str(config)], input=typed)


def test_an_end_says_what_is_gone_and_what_is_left_to_do(config: Path, process: _Process) -> None:
    result = _run(config, "deprovision", "edge", "--yes")
    assert result.exit_code == 0
    assert process.asked == [("deprovision", "edge")]
    assert result.stdout.splitlines() == [
        "edge: deprovisioned; nothing is signed for it any more",
        "destroyed: key 0a1f; a search finds it no more",
        "still there: key 0b; this sidecar did not make it, so it only uses it no more. Remove it "
        "with: meshkey keys destroy 0b",
        "it stays so after a restart: /var/lib/meshkey/edge.deprovisioned",
        "to do: revoke the certificate with serial abc1 of issuer CN=mesh root there: until "
        "2030-01-01T00:00:00+00:00 it is valid for everybody who does not know better. Its key "
        "0a1f signs nothing here any more.",
        "to do: put the SPIFFE ID on the deny list of its peers, if they are to close their "
        "connections with it as well",
        "back again with: meshkey reinstate edge",
    ]


def test_without_a_directory_it_says_how_long_that_lasts(config: Path, process: _Process) -> None:
    process.answer = pb.EndResponse(identity="default")
    result = _run(config, "deprovision", "--yes")
    assert process.asked == [("deprovision", "default")]
    assert "keeps no state for it (identity.state), so a restart brings it back" in result.stdout
    result = _run(config, "revoke", "0A1F")
    assert process.asked[1] == ("revoke", b"\x0a\x1f")
    assert "if the key is still there after a restart, it is used again" in result.stdout


def test_what_could_not_be_done_is_an_exit_code(config: Path, process: _Process) -> None:
    process.answer = pb.EndResponse(identity="edge", problems=["key 0a1f is still \x1b[2Jthere"])
    for arguments in (["deprovision", "edge", "--yes"], ["revoke", "0a1f"]):
        result = _run(config, *arguments)
        assert result.exit_code == 69
        (line,) = result.stderr.splitlines()
        assert line.startswith("not done: key 0a1f is still ")
        assert "\x1b" not in result.output
        assert "brings it back" not in result.stdout


def test_nobody_is_deprovisioned_without_consent(config: Path, process: _Process) -> None:
    result = _run(config, "deprovision", "edge", typed="y\n")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert process.asked == []


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_on_a_terminal_it_asks(
    config: Path, process: _Process, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("sidecar.admin_commands._is_attended", lambda: True)
    result = _run(config, "deprovision", "edge", typed=typed)
    assert result.exit_code == code
    assert len(process.asked) == (code == 0)


@pytest.mark.parametrize("key", ["xyz", "0a1", "../0a"])
def test_what_is_no_key_id_is_not_asked_for(config: Path, process: _Process, key: str) -> None:
    result = _run(config, "revoke", key)
    assert result.exit_code == 2
    assert "meshkey keys live" in result.stderr
    assert process.asked == []


@pytest.mark.parametrize(
    ("command", "error", "code"),
    [
        (["revoke", "0a1f"], NoSuchKey("no key 0a1f in this process"), 66),
        (["reinstate"], CommandFailed("'default' is not deprovisioned"), 69),
        (["reload"], ConfigurationError("token.label: needs a restart"), 64),
        (["deprovision", "--yes"], CommandFailed("nothing serves /run/nowhere"), 69),
    ],
)
def test_errors_are_a_line_and_an_exit_code(
    config: Path, process: _Process, command: list[str], error: Exception, code: int
) -> None:
    process.answer = error
    result = _run(config, *command)
    assert result.exit_code == code
    assert result.stderr == f"meshkey: {error}\n"


def test_a_reload_says_what_changed(config: Path, process: _Process) -> None:
    process.answer = pb.ReloadResponse(changed=["caller", "log.level"])
    assert _run(config, "reload").stdout == "reloaded; changed: caller, log.level\n"
    process.answer = pb.ReloadResponse()
    assert _run(config, "reload").stdout == "reloaded; no setting differs\n"


def test_the_keys_of_a_process_are_a_table_or_json(config: Path, process: _Process) -> None:
    key = pb.LiveKey(
        key_id=b"\x0a\x1f",
        identity="edge",
        state="retiring",
        origin="born",
        generation=3,
        not_after=_NOT_AFTER,
    )
    process.answer = [key]
    assert json.loads(_run(config, "keys", "live", "--json").stdout) == [
        {
            "key_id": "0a1f",
            "identity": "edge",
            "state": "retiring",
            "origin": "born",
            "generation": 3,
            "not_after": "2030-01-01T00:00:00+00:00",
        }
    ]
    table = _run(config, "keys", "live").stdout
    for fact in ("0a1f", "edge", "retiring", "born", "2030-01-01"):
        assert fact in table


def test_a_key_id_is_shown_whole_as_revoking_takes_it(config: Path, process: _Process) -> None:
    key = pb.LiveKey(
        key_id=bytes(range(16)),
        identity="a-gateway-with-a-long-name",
        state="current",
        origin="imported",
        generation=12345,
        not_after=_NOT_AFTER,
    )
    process.answer = [key]
    table = _run(config, "keys", "live").stdout
    assert bytes(range(16)).hex() in table
    assert "\N{HORIZONTAL ELLIPSIS}" not in table
    # To another program a row is a line.
    assert len(table.splitlines()) == 2
