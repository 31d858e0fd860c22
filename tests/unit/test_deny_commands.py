"""`meshkey deny-list` on a fake token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from sidecar.app import clock
from sidecar.app import token as token_of_settings
from sidecar.cli import commands
from sidecar.config.settings import TokenSettings
from sidecar.core.deny_list import DenyList
from sidecar.core.key_label import AUDIT, DENY, TLS, KeyLabel
from sidecar.core.schemes import KeyAlgorithm
from sidecar.deny.jws import public_keys, verified
from sidecar.token.base import KeyId, Origin
from tests.fakes.token import FakeToken
from tests.fixtures.clock import START
from tests.fixtures.deny_lists import OTHER, PEER, ListSigner, deny_list

_TIMES = ("--sequence", "7", "--next-update", "24h")


class _Token(FakeToken):
    def close(self) -> None:
        """It is opened again by the next command."""


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeToken]:
    made = _Token("operator")

    def opened(_settings: TokenSettings) -> FakeToken:
        return made

    monkeypatch.setattr(token_of_settings, "open_token", opened)
    monkeypatch.setattr(clock, "wall", lambda: START + timedelta(milliseconds=7))
    yield made
    # Commands configure what is logged, and how.
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "meshkey.toml"
    file.write_text('[token]\nlabel = "operator"\npin_file = "/pin"\n', encoding="utf-8")
    return file


def _run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(commands, ["deny-list", command, *map(str, arguments)])


def _made(token: FakeToken, algorithm: str, config: Path) -> tuple[KeyId, bytes]:
    made = _run("make-key", "--config", config, "--algorithm", algorithm)
    assert made.exit_code == 0, made.output
    (key_id,) = token.held_keys
    assert made.stderr == f"made key {key_id}\n"
    return key_id, made.stdout.encode()


@pytest.mark.parametrize("algorithm", ["ec-p256", "ec-p384", "ed25519"])
def test_what_a_made_key_signs_its_public_half_takes(
    token: FakeToken, config: Path, algorithm: str
) -> None:
    key_id, pem = _made(token, algorithm, config)
    signed = _run("sign", "--config", config, "--key-id", key_id, *_TIMES, PEER, OTHER)
    assert signed.exit_code == 0, signed.output
    assert signed.stdout.count("\n") == 1
    assert verified(signed.stdout.encode(), public_keys(pem)) == DenyList(
        7, START, START + timedelta(hours=24), (PEER, OTHER)
    )
    again = _run("key", "--config", config, "--key-id", str(key_id).upper())
    assert again.stdout.encode() == pem


def test_a_made_key_says_what_it_is_for(token: FakeToken, config: Path) -> None:
    _made(token, "ec-p256", config)
    (text,) = token.labels().values()
    label = KeyLabel.parse(text)
    assert label
    assert label.purpose == DENY


def test_peers_come_from_a_file_too(token: FakeToken, config: Path, tmp_path: Path) -> None:
    key_id, pem = _made(token, "ec-p256", config)
    file = tmp_path / "peers"
    file.write_text(f"# stolen on Monday\n\n  {OTHER} # a laptop\r\n", encoding="utf-8")
    sign = ("sign", "--config", config, "--key-id", key_id, *_TIMES)
    signed = _run(*sign, "--from", file, PEER)
    assert verified(signed.stdout.encode(), public_keys(pem)).spiffe_ids == (PEER, OTHER)
    file.write_text(f"{OTHER}\nspiffe://Other.mesh/x\n", encoding="utf-8")
    wrong = _run(*sign, "--from", file)
    assert wrong.exit_code == 65
    assert f"{file}:2: " in wrong.stderr
    file.write_text(f"{PEER}\n", encoding="utf-8")
    twice = _run(*sign, "--from", file, PEER)
    assert twice.exit_code == 65
    assert "a SPIFFE ID twice" in twice.stderr
    file.unlink()
    assert _run(*sign, "--from", file).exit_code == 66


def test_to_deny_nobody_is_said_and_not_forgotten(token: FakeToken, config: Path) -> None:
    key_id, pem = _made(token, "ec-p256", config)
    sign = ("sign", "--config", config, "--key-id", key_id, *_TIMES)
    for wrong in ((), ("--nobody", PEER)):
        refused = _run(*sign, *wrong)
        assert refused.exit_code == 2
        assert "either SPIFFE IDs or --nobody is needed" in refused.stderr
    signed = _run(*sign, "--nobody")
    assert verified(signed.stdout.encode(), public_keys(pem)).spiffe_ids == ()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--sequence", "0", "--next-update", "1h"), 65, "sequence is no whole number from 1"),
        (("--sequence", str(2**53), "--next-update", "1h"), 65, "sequence is no whole number"),
        (("--sequence", "x", "--next-update", "1h"), 2, "--sequence"),
        (("--sequence", "1", "--next-update", "tomorrow"), 2, "a duration is needed"),
        (("--sequence", "1", "--next-update", "4000000d"), 2, "--next-update"),
        (("--sequence", "1", "--next-update", "1h", "spiffe://a/*"), 2, "SPIFFE_ID"),
        (("--sequence", "1"), 2, "--next-update"),
    ],
)
def test_what_nobody_would_take_is_not_signed(
    token: FakeToken, config: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    key_id, _ = _made(token, "ec-p256", config)
    refused = _run("sign", "--config", config, "--key-id", key_id, PEER, *arguments)
    assert refused.exit_code == code
    assert told in refused.stderr
    assert refused.stdout == ""
    assert token.signatures == 0


@pytest.mark.parametrize("purpose", [TLS, AUDIT])
def test_a_key_that_was_made_for_something_else_signs_no_deny_list(
    token: FakeToken, config: Path, purpose: str
) -> None:
    label = str(KeyLabel(purpose, "0a1b2c3d", 1, "web"))
    key = token.generate(KeyAlgorithm.EC_P256, label)
    refused = _run("sign", "--config", config, "--key-id", key.id, *_TIMES, PEER)
    assert refused.exit_code == 69
    assert f"was made for {purpose!r} and signs no deny list" in refused.stderr
    assert token.signatures == 0


def test_a_key_of_the_operators_own_signs_if_it_cannot_leave_the_token(
    token: FakeToken, config: Path
) -> None:
    key = token.generate(KeyAlgorithm.EC_P256, "mine")
    sign = ("sign", "--config", config, "--key-id", key.id, *_TIMES, PEER)
    assert _run(*sign).exit_code == 0
    token.origins[key.id] = Origin.EXPOSED
    refused = _run(*sign)
    assert refused.exit_code == 69
    assert "could leave the token" in refused.stderr
    token.lose(key.id)
    gone = _run(*sign)
    assert gone.exit_code == 66
    assert "list its keys with: meshkey keys list" in gone.stderr


def test_a_key_of_another_curve_is_refused(token: FakeToken, config: Path) -> None:
    key = token.generate(KeyAlgorithm.EC_P521, "mine")
    refused = _run("sign", "--config", config, "--key-id", key.id, *_TIMES, PEER)
    assert refused.exit_code == 65
    assert "signed with an EC P-256 or P-384" in refused.stderr


# Shown, without any token.


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Path, Path, ListSigner]:
    signer = ListSigner()
    file, key = tmp_path / "list", tmp_path / "key.pem"
    key.write_bytes(ListSigner().pem + signer.pem)
    file.write_bytes(signer.sign(deny_list(7, PEER, OTHER)) + b"\n")
    return file, key, signer


def test_a_list_is_shown_to_people_and_programs(shown: tuple[Path, Path, ListSigner]) -> None:
    file, key, signer = shown
    printed = _run("show", file, "--key", key)
    assert printed.exit_code == 0
    assert [line.rstrip() for line in printed.stdout.splitlines()] == [
        "sequence     7",
        "issued       at 2030-01-01T12:00:00+00:00",
        "next update  by 2030-01-01T13:00:00+00:00",
        f"SHA-256      {deny_list(7, PEER, OTHER).digest}",
        f"denied       {PEER}",
        f"             {OTHER}",
    ]
    assert json.loads(_run("show", file, "--key", key, "--json").stdout) == {
        "sequence": 7,
        "issued_at": "2030-01-01T12:00:00+00:00",
        "next_update": "2030-01-01T13:00:00+00:00",
        "stale": False,
        "sha256": deny_list(7, PEER, OTHER).digest,
        "spiffe_ids": [str(PEER), str(OTHER)],
    }
    old = deny_list(1, issued_at=datetime(2020, 1, 1, tzinfo=UTC))
    file.write_bytes(signer.sign(old))
    stale = _run("show", file, "--key", key)
    assert stale.exit_code == 0
    assert "by 2020-01-01T01:00:00+00:00: stale" in stale.stdout
    assert "denied       nobody" in stale.stdout


def test_a_list_that_is_none_exits_with_65_and_shows_nothing(
    shown: tuple[Path, Path, ListSigner],
) -> None:
    file, key, _ = shown
    file.write_bytes(ListSigner().sign(deny_list(7, PEER)))
    refused = _run("show", file, "--key", key)
    assert refused.exit_code == 65
    assert refused.stdout == ""
    assert "none of the keys has signed the deny list" in refused.stderr
    key.write_bytes(b"")
    no_key = _run("show", file, "--key", key)
    assert no_key.exit_code == 65
    assert f"{key}: no public key, PEM, is in there" in no_key.stderr
    key.write_bytes(ListSigner().pem)
    for path in (file, key):
        path.unlink()
        gone = _run("show", file, "--key", key)
        assert gone.exit_code == 66
        assert f"{path}: No such file or directory" in gone.stderr
