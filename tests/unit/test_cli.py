"""Arguments in, one line and an exit code out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from sidecar import __version__
from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.app import serve as serving
from sidecar.app import token as opening
from sidecar.cli import commands
from sidecar.config.settings import Mode, Settings, TokenSettings
from sidecar.errors import (
    ConfigurationError,
    MeshkeyError,
    PinLocked,
    PinRefused,
    StartFailed,
    TokenUnavailable,
)
from sidecar.exits import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_LOGIN_REFUSED
from sidecar.hardening import start
from tests.fakes.token import FakeToken
from tests.fixtures.requests import ALGORITHM

SETTINGS = '[token]\nlabel = "mesh"\npin_file = "/pin"\n[admin]\nsocket = "/run/mk-nothing"\n'

LONG_ID = "spiffe://test.mesh/" + "n" * 100


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "meshkey.toml"
    file.write_text(SETTINGS, encoding="utf-8")
    return file


@pytest.fixture(autouse=True)
def _inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is not one of ours: its descriptors and its umask are the tests'."""
    monkeypatch.setattr(start, "shed_inheritance", lambda: None)


def _run(*arguments: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(commands, [str(a) for a in arguments])


def _one_line(result: Result) -> str:
    (line,) = result.stderr.splitlines()
    assert line.startswith("meshkey: ")
    assert not result.stdout
    return line


def test_the_version_is_printed() -> None:
    assert _run("version").stdout == f"meshkey {__version__}\n"


@pytest.mark.parametrize("command", ["serve", "keys", "status", "health", "rotate"])
def test_a_wrong_setting_is_one_line_and_exit_code_64(command: str, tmp_path: Path) -> None:
    result = _run(command, "--config", tmp_path / "gone.toml")
    assert result.exit_code == EXIT_CONFIGURATION == 64
    assert "gone.toml: No such file" in _one_line(result)


def test_an_unknown_variable_is_a_wrong_setting(config: Path) -> None:
    result = _run("keys", "--config", config, MESHKEY_TOKEN_PIN="1234")
    assert result.exit_code == 64
    assert "MESHKEY_TOKEN_PIN" in _one_line(result)
    assert "1234" not in result.output


def test_the_file_is_named_by_the_environment_too(config: Path) -> None:
    result = _run("keys", MESHKEY_CONFIG=str(config))
    assert result.exit_code == 64
    assert "PIN file /pin: No such file" in _one_line(result)


@pytest.mark.parametrize(
    "command", [["status"], ["rotate"], ["health"], ["health", "--live"], ["health", "--json"]]
)
def test_a_process_that_is_not_there_is_one_line_and_exit_code_69(
    command: list[str], config: Path
) -> None:
    result = _run(*command, "--config", config)
    assert result.exit_code == EXIT_FAILED == 69
    assert "nothing serves /run/mk-nothing" in _one_line(result)


@pytest.mark.parametrize("command", [["status"], ["keys", "live"], ["deprovision", "--yes"]])
def test_who_may_not_ask_is_told_who_may(
    command: list[str], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    # As in a directory of mode 0700: root, who may run the tests, would be let in.
    monkeypatch.setattr(Path, "stat", refuse)
    result = _run(*command, "--config", config)
    assert result.exit_code == 69
    assert "mk-nothing" in _one_line(result)
    assert "is closed to this user: ask as root or as the sidecar's user" in _one_line(result)


def test_without_an_admin_section_there_is_nobody_to_ask(config: Path) -> None:
    config.write_text(SETTINGS.partition("[admin]")[0], encoding="utf-8")
    result = _run("status", "--config", config)
    assert result.exit_code == 64
    assert "has no section [admin]" in _one_line(result)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("token.label is missing"), 64),
        (StartFailed("another process serves /run/s"), 69),
        (TokenUnavailable("no such token"), 69),
        (PinRefused("the token refused the PIN"), EXIT_LOGIN_REFUSED),
        (PinLocked("the PIN is locked"), 77),
    ],
)
def test_the_kind_of_error_decides_the_exit_code(
    config: Path, monkeypatch: pytest.MonkeyPatch, error: MeshkeyError, code: int
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(serving, "serve", fail)
    result = _run("serve", "--config", config)
    assert result.exit_code == code
    assert _one_line(result) == f"meshkey: {error}"


@pytest.mark.parametrize("mode", list(Mode))
def test_production_on_the_command_line_wins(
    config: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    served: list[Mode] = []

    async def serve(settings: Settings, _read: object) -> None:
        served.append(settings.token.mode)

    monkeypatch.setattr(serving, "serve", serve)
    for arguments in ([], ["--production"]):
        result = _run("serve", "--config", config, *arguments, MESHKEY_TOKEN_MODE=mode.value)
        assert result.exit_code == 0, result.output
    assert served == [mode, Mode.PRODUCTION]


def test_production_on_the_command_line_takes_no_pin_from_the_environment(config: Path) -> None:
    result = _run(
        "serve",
        *("--config", config, "--production"),
        MESHKEY_TOKEN_MODE="development",
        MESHKEY_TOKEN_PIN="zq7x",
    )
    assert result.exit_code == 64
    assert "MESHKEY_TOKEN_PIN is for token.mode development only" in _one_line(result)
    assert "zq7x" not in result.output


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> FakeToken:
    made = FakeToken()

    def opened(_settings: TokenSettings) -> FakeToken:
        return made

    monkeypatch.setattr(opening, "open_token", opened)
    return made


def test_keys_are_listed_as_a_table_and_as_json(config: Path, token: FakeToken) -> None:
    key = token.generate(ALGORITHM, "meshkey web")
    table = _run("keys", "--config", config)
    assert table.exit_code == 0
    assert "meshkey web" in table.stdout
    assert str(key.id) in table.stdout
    assert token._closed, "the token is closed"
    token._closed = False
    listed = json.loads(_run("keys", "--json", "--config", config).stdout)
    assert listed == [
        {"key_id": str(key.id), "label": "meshkey web", "algorithm": "ec-p256", "origin": "born"}
    ]


def test_a_token_is_closed_although_the_listing_failed(config: Path, token: FakeToken) -> None:
    token.available = False
    assert _run("keys", "--config", config).exit_code == 69
    assert token._closed


def _answer_status(monkeypatch: pytest.MonkeyPatch) -> None:
    status = pb.StatusResponse(
        token=pb.TokenStatus(label="mesh", assurance="software", signatures=9),
        signed=5,
        refused=2,
        told_to_retry=1,
        sds=pb.SdsStatus(streams=3, acknowledged=7, refused=4),
        deny_list=pb.DenyListStatus(
            sequence=7,
            issued_at=1893452400,
            next_update=1893499200,
            entries=1,
            overdue="it is stale",
            error="no such file",
            refused=2,
        ),
        identities=[
            pb.IdentityStatus(
                name="default",
                spiffe_id="spiffe://test.mesh/web",
                health="late",
                key_id=bytes.fromhex("0a1f" * 8),
                key_origin="born",
                token="mesh",
                generation=3,
                serial="abc" * 13,
                authority="istio",
                not_before=1893452400,
                not_after=1893499200,
                next_renewal=1893476400,
                lease_end=1893492000,
                last_error="the CA is gone",
                trust=[
                    pb.TrustStatus(trust_domain="test.mesh", roots=2),
                    pb.TrustStatus(trust_domain="other.mesh", roots=1, error="no such file"),
                ],
                subscribers=[
                    pb.SubscriberStatus(acked_generation=2, error="no room", kind="module"),
                    pb.SubscriberStatus(acked_generation=0, kind="sds", resource="ROOTCA"),
                ],
            ),
            pb.IdentityStatus(name="new", spiffe_id=LONG_ID, health="waiting"),
        ],
    )
    monkeypatch.setattr(AdminClient, "status", lambda _self: status)


def test_a_status_is_printed_as_json(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer_status(monkeypatch)
    status: Any = json.loads(_run("status", "--json", "--config", config).stdout)
    first, second = status.pop("identities")
    assert status == {
        "token": "mesh",
        "assurance": "software",
        "token_signatures": 9,
        "hung": 0,
        "signed": 5,
        "refused": 2,
        "told_to_retry": 1,
        "sds": {"streams": 3, "acknowledged": 7, "refused": 4},
        "deny_list": {
            "sequence": 7,
            "issued_at": "2029-12-31T23:00:00+00:00",
            "next_update": "2030-01-01T12:00:00+00:00",
            "entries": 1,
            "overdue": "it is stale",
            "error": "no such file",
            "refused": 2,
        },
    }
    assert first == {
        "name": "default",
        "spiffe_id": "spiffe://test.mesh/web",
        "health": "late",
        "last_error": "the CA is gone",
        "generation": 3,
        "key_id": "0a1f" * 8,
        "key_origin": "born",
        "token": "mesh",
        "serial": "abc" * 13,
        "authority": "istio",
        "not_before": "2029-12-31T23:00:00+00:00",
        "not_after": "2030-01-01T12:00:00+00:00",
        "next_renewal": "2030-01-01T05:40:00+00:00",
        "lease_end": "2030-01-01T10:00:00+00:00",
        "deprovisioned_at": "",
        "trust": [
            {"trust_domain": "test.mesh", "roots": 2, "error": ""},
            {"trust_domain": "other.mesh", "roots": 1, "error": "no such file"},
        ],
        "subscribers": [
            {"kind": "module", "resource": "", "acked_generation": 2, "error": "no room"},
            {"kind": "sds", "resource": "ROOTCA", "acked_generation": 0, "error": ""},
        ],
    }
    assert first.keys() == second.keys()
    assert (second["key_id"], second["not_after"], second["trust"]) == ("", "", [])


def test_a_status_fits_the_screen_of_a_person(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer_status(monkeypatch)
    result = _run("status", "--config", config, COLUMNS="100")
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert max(map(len, lines)) <= 100
    assert lines[:-2] == [
        "token        mesh, software, 9 signatures",
        "answers      5 signed, 2 refused, 1 told to retry",
        "SDS          3 streams, 7 acknowledged, 4 refused",
        "deny list    sequence 7, 1 SPIFFE ID, next update by 2030-01-01T12:00:00+00:00",
        "             it is stale",
        "             no such file",
        "",
        "identity     default: late",
        "SPIFFE ID    spiffe://test.mesh/web",
        "last error   the CA is gone",
        "generation   3",
        f"key          {'0a1f' * 8}, born, on token mesh",
        f"certificate  serial {'abc' * 13}, from CA istio",
        "valid        from 2029-12-31T23:00:00+00:00 to 2030-01-01T12:00:00+00:00",
        "renewal      at 2030-01-01T05:40:00+00:00",
        "signs        until 2030-01-01T10:00:00+00:00 unless a CA answers before",
        "trusts       test.mesh: 2 roots",
        "             other.mesh: 1 root; no such file",
        "followed by  module: acknowledged generation 2; refused: no room",
        "             sds ROOTCA: acknowledged nothing yet",
        "",
        "identity     new: waiting",
    ]
    assert "".join(line[13:] for line in lines[-2:]) == LONG_ID, "nothing is cut off"


def test_a_token_whose_module_hangs_shows(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = pb.StatusResponse(token=pb.TokenStatus(label="mesh", hung=2))
    monkeypatch.setattr(AdminClient, "status", lambda _self: status)
    assert "2 hung threads" in _run("status", "--config", config).stdout


def test_text_from_outside_is_neither_markup_nor_for_the_terminal(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "[/bold] [a] \x1b[2J\n\u202e"
    status = pb.StatusResponse(
        token=pb.TokenStatus(label=hostile),
        identities=[
            pb.IdentityStatus(
                name="x",
                last_error=hostile,
                trust=[pb.TrustStatus(trust_domain="x", error=hostile)],
                subscribers=[pb.SubscriberStatus(kind="sds", resource=hostile, error=hostile)],
            )
        ],
    )
    monkeypatch.setattr(AdminClient, "status", lambda _self: status)
    result = _run("status", "--config", config, COLUMNS="250")
    assert result.exit_code == 0
    assert result.stdout.count("[/bold] [a] \N{REPLACEMENT CHARACTER}[2J") == 5
    for printed in (result.stdout, _run("status", "--json", "--config", config).stdout):
        assert "\x1b" not in printed
        assert "\u202e" not in printed


def test_a_rotation_says_what_is_published(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdminClient, "rotate", lambda _self, _identity: 4)
    assert _run("rotate", "-c", config).stdout == "default: generation 4 is published\n"


def test_a_refused_rotation_is_one_line(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: AdminClient, identity: str) -> int:
        raise CommandFailed(f"no identity {identity!r} here")

    monkeypatch.setattr(AdminClient, "rotate", refuse)
    result = _run("rotate", "-c", config, "nobody")
    assert result.exit_code == 69
    assert _one_line(result) == "meshkey: no identity 'nobody' here"


# Health

PROBLEM = "identity 'default': expired: the CA is gone"


def _answer_health(monkeypatch: pytest.MonkeyPatch, *problems: str) -> None:
    monkeypatch.setattr(AdminClient, "health", lambda _self: list(problems))


@pytest.mark.parametrize("options", [[], ["--live"]])
def test_a_process_that_is_well_says_so(
    config: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    _answer_health(monkeypatch)
    result = _run("health", "--config", config, *options)
    assert (result.exit_code, result.stdout) == (0, "healthy\n")
    result = _run("health", "--json", "--config", config, *options)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"healthy": True, "problems": []}


@pytest.mark.parametrize(("options", "code"), [([], 69), (["--live"], 0)])
def test_a_process_that_is_unwell_is_alive(
    config: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int
) -> None:
    _answer_health(monkeypatch, PROBLEM, "another")
    result = _run("health", "--config", config, *options)
    assert (result.exit_code, result.stdout) == (code, f"{PROBLEM}\nanother\n")
    result = _run("health", "--json", "--config", config, *options)
    assert result.exit_code == code
    assert json.loads(result.stdout) == {"healthy": False, "problems": [PROBLEM, "another"]}


def test_what_a_process_says_of_its_health_is_not_for_the_terminal(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer_health(monkeypatch, "the CA said \x1b[2J\nhealthy")
    result = _run("health", "--config", config)
    assert (
        result.stdout
        == "the CA said \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}healthy\n"
    )


@pytest.mark.parametrize(
    ("command", "socket"), [("status", "ro"), ("health", "ro"), ("rotate", "mk-nothing")]
)
def test_questions_go_to_the_read_only_socket_and_commands_do_not(
    config: Path, command: str, socket: str
) -> None:
    config.write_text(SETTINGS + 'read_only = "/run/ro"\n', encoding="utf-8")
    assert f"nothing serves /run/{socket}:" in _one_line(_run(command, "--config", config))
