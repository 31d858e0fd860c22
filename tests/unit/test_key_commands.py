"""`meshkey keys` on a fake token."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from sidecar import key_files
from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.admin.client import AdminClient
from sidecar.app import token as token_of_settings
from sidecar.cli import commands
from sidecar.config.settings import TokenSettings
from sidecar.core.csr import parse_csr
from sidecar.core.private_key import PrivateKey
from sidecar.core.schemes import KeyAlgorithm
from sidecar.token.base import KeyId, Origin
from tests.fakes.token import FakeToken
from tests.fixtures.private_keys import pkcs8, some_key, write_key
from tests.fixtures.requests import ALGORITHM

SPIFFE_ID = "spiffe://test.mesh/ns/test/sa/gateway"
UNKNOWN = "0a1f"


@pytest.fixture
def private_key() -> PrivateKey:
    return some_key()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "meshkey.toml"
    file.write_text(
        f'[token]\nlabel = "mesh"\npin_file = "/pin"\n[admin]\nsocket = "{tmp_path}/admin"\n',
        encoding="utf-8",
    )
    return file


class _Token(FakeToken):
    def close(self) -> None:
        """It is opened again by the next command."""


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> FakeToken:
    made = _Token("mesh")

    def opened(_settings: TokenSettings) -> FakeToken:
        return made

    monkeypatch.setattr(token_of_settings, "open_token", opened)
    return made


@pytest.fixture
def run(config: Path, token: FakeToken) -> Run:
    return Run(config)


class Run:
    def __init__(self, config: Path) -> None:
        self._config = config

    def __call__(
        self, command: str, *arguments: object, given: bytes | str | None = None
    ) -> Result:
        line = ["keys", command, "--config", str(self._config), *map(str, arguments)]
        return CliRunner().invoke(commands, line, input=given)


def _refused(result: Result, code: int) -> str:
    assert result.exit_code == code, result.output
    assert not result.stdout
    (line,) = [line for line in result.stderr.splitlines() if "warning" not in line]
    assert line.startswith("meshkey: ")
    return line


# import


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_file_is_imported_and_its_key_id_printed(
    run: Run, token: FakeToken, tmp_path: Path, private_key: PrivateKey, passphrase: bytes | None
) -> None:
    file = write_key(tmp_path / "key.pem", private_key, passphrase)
    options: list[object] = []
    if passphrase:
        secret = tmp_path / "secret"
        secret.touch(mode=0o600)
        secret.write_bytes(passphrase + b"\r\n")
        options = ["--passphrase-file", secret]
    result = run("import", file, "--label", "gateway", *options)
    assert result.exit_code == 0, result.output
    (key,) = token.keys()
    assert result.stdout == f"{key.id}\n"
    assert (key.label, key.public_key) == ("gateway", private_key.public_key())
    assert "imported a key of ec-p256, wrapped for the token" in result.stderr
    assert "warning" not in result.stderr
    assert file.exists()


def test_standard_input_is_a_file_too(run: Run, token: FakeToken, private_key: PrivateKey) -> None:
    assert run("import", "-", "--label", "in", given=pkcs8(private_key)).exit_code == 0
    assert token.keys()[0].public_key == private_key.public_key()


def test_the_passphrase_is_asked_for_at_the_terminal(
    run: Run,
    token: FakeToken,
    tmp_path: Path,
    private_key: PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_key(tmp_path / "key.pem", private_key, b"correct horse")
    missing = _refused(run("import", file, "--label", "in", given="correct horse\n"), 65)
    assert missing == "meshkey: the private key is encrypted: --passphrase-file names its file"

    class Terminal:
        class stdin:  # noqa: N801  # stands for the module sys
            isatty = staticmethod(lambda: True)

    monkeypatch.setattr(key_files, "sys", Terminal)
    wrong = run("import", file, "--label", "in", given="zq7x\n")
    assert wrong.exit_code == 65
    assert "zq7x" not in wrong.output
    right = run("import", file, "--label", "in", given="correct horse\n")
    assert right.exit_code == 0, right.output
    assert "correct horse" not in right.output
    assert len(token.keys()) == 1


def test_no_option_and_no_variable_takes_the_passphrase() -> None:
    command = commands.commands["keys"].commands["import"]  # type: ignore[attr-defined]
    names = {option for parameter in command.params for option in parameter.opts}
    assert names == {"--config", "-c", "file", "--label", "--passphrase-file"}
    assert [p.name for p in command.params if p.envvar] == ["config"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_gets_a_warning(
    run: Run, tmp_path: Path, private_key: PrivateKey, mode: int
) -> None:
    file = write_key(tmp_path / "key.pem", private_key)
    file.chmod(mode)
    result = run("import", file, "--label", "in")
    assert result.exit_code == 0
    assert f"meshkey: warning: others can read {file}; chmod 0400 it" in result.stderr


def test_what_is_no_key_or_not_there_has_its_own_exit_code(
    run: Run, token: FakeToken, tmp_path: Path, private_key: PrivateKey
) -> None:
    assert "gone: No such file" in _refused(run("import", tmp_path / "gone", "--label", "x"), 66)
    assert "Is a directory" in _refused(run("import", tmp_path, "--label", "x"), 66)
    garbage = run("import", "-", "--label", "x", given=b"garbage")
    assert "that is no private key; PKCS#8 is needed" in _refused(garbage, 65)
    assert "too long" in _refused(run("import", "-", "--label", "x", given=b"x" * 70000), 65)
    closed = write_key(tmp_path / "key.pem", private_key, b"correct")
    for content, code, text in [
        (None, 66, "No such file"),
        (b"", 65, "is empty"),
        (b"\nsecond line", 65, "is empty"),
        (b"zq7x\n", 65, "passphrase is wrong"),
    ]:
        secret = tmp_path / "secret"
        if content is not None:
            secret.write_bytes(content)
            secret.chmod(0o600)
        line = _refused(run("import", closed, "--label", "x", "--passphrase-file", secret), code)
        assert text in line
        assert "zq7x" not in line
    assert not token.held_keys


def test_a_full_token_and_a_missing_one_are_unavailable(
    run: Run, token: FakeToken, private_key: PrivateKey
) -> None:
    token.room = 0
    full = run("import", "-", "--label", "x", given=pkcs8(private_key))
    assert "is full" in _refused(full, 69)
    token.available = False
    gone = run("import", "-", "--label", "x", given=pkcs8(private_key))
    assert "is not there" in _refused(gone, 69)


# list


def test_the_list_is_what_keys_alone_prints(run: Run, config: Path, token: FakeToken) -> None:
    born = token.generate(ALGORITHM, "born")
    imported = token.import_key(some_key(KeyAlgorithm.ED25519), "in").key
    listed = run("list", "--json")
    assert json.loads(listed.stdout) == [
        {"key_id": str(born.id), "label": "born", "algorithm": "ec-p256", "origin": "born"},
        {"key_id": str(imported.id), "label": "in", "algorithm": "ed25519", "origin": "imported"},
    ]
    alone = CliRunner().invoke(commands, ["keys", "--config", str(config), "--json"])
    assert alone.stdout == listed.stdout


def test_options_before_a_subcommand_are_not_silently_lost(config: Path, token: FakeToken) -> None:
    result = CliRunner().invoke(commands, ["keys", "--config", str(config), "list"])
    assert result.exit_code == 2
    assert "options come after the subcommand" in result.stderr


# export-csr


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_a_request_for_a_spiffe_id_is_of_the_one_shape(
    run: Run, token: FakeToken, algorithm: KeyAlgorithm
) -> None:
    key = token.import_key(some_key(algorithm), "in").key
    result = run("export-csr", key.id, "--spiffe-id", SPIFFE_ID)
    assert result.exit_code == 0, result.output
    request = x509.load_pem_x509_csr(result.stdout.encode())
    from cryptography.hazmat.primitives.serialization import Encoding

    csr = parse_csr(request.public_bytes(Encoding.DER))
    assert (str(csr.spiffe_id), csr.public_key) == (SPIFFE_ID, key.public_key)


def test_a_request_for_dns_names_goes_into_a_file(
    run: Run, token: FakeToken, tmp_path: Path
) -> None:
    key = token.generate(ALGORITHM, "gateway")
    out = tmp_path / "gateway.csr"
    names = ("--dns", "gateway.example", "--dns", "*.Example.com")
    result = run("export-csr", str(key.id).upper(), *names, "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    request = x509.load_pem_x509_csr(out.read_bytes())
    assert request.is_signature_valid
    (extension,) = request.extensions
    assert extension.critical
    asked = extension.value.get_values_for_type(x509.DNSName)
    assert asked == ["gateway.example", "*.example.com"]


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("--spiffe-id", SPIFFE_ID, "--dns", "a.example"),
        ("--spiffe-id", "https://no"),
        ("--dns", "two words"),
        ("--dns", "a..b"),
        ("--dns", ""),
        ("--dns", "ä.example"),
        ("--dns", "a.*.b"),
    ],
)
def test_wrong_names_are_a_wrong_command_line(
    run: Run, token: FakeToken, names: tuple[str, ...]
) -> None:
    key = token.generate(ALGORITHM, "gateway")
    result = run("export-csr", key.id, *names)
    assert (result.exit_code, result.stdout) == (2, "")
    assert token.signatures == 0


def test_a_key_that_could_leave_the_token_signs_no_request(run: Run, token: FakeToken) -> None:
    key = token.generate(ALGORITHM, "gateway")
    token.origins[key.id] = Origin.EXPOSED
    line = _refused(run("export-csr", key.id, "--dns", "a.example"), 69)
    assert "could leave the token, so it is not used" in line
    assert token.signatures == 0


def test_a_request_that_cannot_be_written_says_so(
    run: Run, token: FakeToken, tmp_path: Path
) -> None:
    key = token.generate(ALGORITHM, "gateway")
    out = tmp_path / "gone" / "csr"
    assert "gone/csr: No such" in _refused(
        run("export-csr", key.id, "--dns", "a.example", "--out", out), 66
    )


@pytest.mark.parametrize("key_id", [UNKNOWN, "no hex", "", "\x1b[2J"])
def test_no_such_key_is_exit_code_66(run: Run, token: FakeToken, key_id: str) -> None:
    for arguments in (["export-csr", key_id, "--dns", "a.example"], ["destroy", "--yes", key_id]):
        line = _refused(run(*arguments), 66)
        assert line.endswith("on token 'mesh'; list its keys with: meshkey keys list")
        assert "\x1b" not in line


# destroy


def test_keys_are_destroyed_after_a_yes(run: Run, token: FakeToken) -> None:
    one, two, three = [token.generate(ALGORITHM, label) for label in ("one", "two\x1b", "three")]
    for answer in ("n\n", "\n", ""):
        refused = run("destroy", one.id, two.id, given=answer)
        assert refused.exit_code == 1
        assert "\x1b" not in refused.output
        assert len(token.held_keys) == 3
    assert run("destroy", one.id, two.id, one.id, given="y\n").exit_code == 0
    assert token.held_keys == {three.id}
    done = run("destroy", three.id, "--yes")
    assert (done.exit_code, done.stderr) == (0, f"destroyed {three.id}\n")
    assert not token.held_keys


def test_if_one_is_missing_none_is_destroyed(run: Run, token: FakeToken) -> None:
    key = token.generate(ALGORITHM, "one")
    _refused(run("destroy", "--yes", key.id, UNKNOWN), 66)
    assert token.held_keys == {key.id}


def _answer(monkeypatch: pytest.MonkeyPatch, key_id: KeyId, state: str) -> None:
    keys = [pb.LiveKey(identity="web", key_id=key_id.value, state=state)]
    monkeypatch.setattr(AdminClient, "keys", lambda _self: keys)


@pytest.mark.parametrize("state", ["current", "retiring"])
def test_a_key_in_use_is_not_destroyed_and_neither_are_the_others(
    run: Run, token: FakeToken, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    used, other = token.generate(ALGORITHM, "used"), token.generate(ALGORITHM, "other")
    _answer(monkeypatch, used.id, state)
    line = _refused(run("destroy", "--yes", other.id, used.id), 69)
    assert f"key {used.id} is in use by identity 'web'" in line
    assert token.held_keys == {used.id, other.id}
    assert run("destroy", "--yes", other.id).exit_code == 0


def test_a_key_that_was_revoked_is_in_use_no_more(
    run: Run, token: FakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = token.generate(ALGORITHM, "given")
    _answer(monkeypatch, key.id, "revoked")
    assert run("destroy", "--yes", key.id).exit_code == 0
    assert not token.held_keys


def test_a_socket_that_does_not_answer_is_said(run: Run, token: FakeToken, tmp_path: Path) -> None:
    key = token.generate(ALGORITHM, "one")
    (tmp_path / "admin").touch()
    result = run("destroy", "--yes", key.id)
    assert result.exit_code == 0
    assert "warning: not known whether it is in use" in result.stderr
    assert stat.S_ISREG((tmp_path / "admin").stat().st_mode)


def test_without_an_admin_section_nobody_is_asked(run: Run, config: Path, token: FakeToken) -> None:
    config.write_text('[token]\nlabel = "mesh"\npin_file = "/pin"\n', encoding="utf-8")
    key = token.generate(ALGORITHM, "one")
    assert run("destroy", "--yes", key.id).exit_code == 0
