"""PINs sealed by a real swtpm."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError, StartFailed, TokenUnavailable
from sidecar.token.login import Login
from sidecar.token.pin import Pin
from sidecar.token.pin_sources import PinSource
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2
from sidecar.token.sealed_pin import SealedPin, seal
from tests.conftest import MESH
from tests.fixtures.keypad import Keypad
from tests.fixtures.mesh import Mesh
from tests.fixtures.process import run_cli
from tests.fixtures.requests import ALGORITHM
from tests.fixtures.software_tpm import software_tpm

PIN = Pin("zq7x correct horse ü")


@pytest.fixture
def tpm(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with software_tpm(short_dir) as tcti:
        monkeypatch.setenv("TPM2TOOLS_TCTI", tcti)
        yield tcti


@pytest.fixture
def temporary(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; nothing may stay there."""
    directory = short_dir / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


def test_a_sealed_pin_is_unsealed(tpm: str, short_dir: Path, temporary: Path) -> None:
    prefix = short_dir / "mesh.pin"
    seal(PIN, prefix)
    made = [short_dir / "mesh.pin.pub", short_dir / "mesh.pin.priv"]
    assert list(SealedPin(prefix).files) == made
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}
    assert not any(b"zq7x" in file.read_bytes() for file in made)
    # Each time anew; and a TPM without a resource manager is not full after some rounds.
    for _ in range(4):
        assert SealedPin(prefix).read() == PIN
    assert list(temporary.iterdir()) == []


def test_another_tpm_does_not_unseal_it(
    tpm: str, short_dir: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(PIN, short_dir / "p")
    (short_dir / "other").mkdir()
    with software_tpm(short_dir / "other") as other:
        monkeypatch.setenv("TPM2TOOLS_TCTI", other)
        with pytest.raises(StartFailed, match=r"tpm2_load failed: .*integrity check") as refused:
            SealedPin(short_dir / "p").read()
    assert "the blob opens only with the TPM that sealed it" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(temporary.iterdir()) == []


def test_a_damaged_blob_is_refused(tpm: str, short_dir: Path) -> None:
    seal(PIN, short_dir / "p")
    private = short_dir / "p.priv"
    content = bytearray(private.read_bytes())
    content[-1] ^= 1
    private.write_bytes(content)
    with pytest.raises(StartFailed, match="tpm2_load failed"):
        SealedPin(short_dir / "p").read()


def test_a_tpm_that_is_not_there_is_said(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short_dir / "p.pub").touch()
    (short_dir / "p.priv").touch()
    monkeypatch.setenv("TPM2TOOLS_TCTI", "device:/dev/no-tpm")
    with pytest.raises(StartFailed, match="tpm2_createprimary failed: Could not load tcti"):
        SealedPin(short_dir / "p").read()


def test_missing_tools_are_a_wrong_setting(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short_dir / "p.pub").touch()
    (short_dir / "p.priv").touch()
    monkeypatch.setenv("PATH", str(short_dir))
    with pytest.raises(ConfigurationError, match="no tpm2_createprimary: install tpm2-tools"):
        SealedPin(short_dir / "p").read()


def test_a_tool_that_hangs_is_ended(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short_dir / "p.pub").touch()
    (short_dir / "p.priv").touch()
    _program(short_dir / "tpm2_createprimary", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{short_dir}:/bin:/usr/bin")
    monkeypatch.setattr("sidecar.token.sealed_pin._TOOL_TIMEOUT_S", 0.1)
    with pytest.raises(StartFailed, match=r"tpm2_createprimary did not end within 0.1 s"):
        SealedPin(short_dir / "p").read()


@pytest.mark.parametrize("missing", ["pub", "priv"])
def test_half_a_blob_is_a_wrong_setting(short_dir: Path, missing: str) -> None:
    for suffix in {"pub", "priv"} - {missing}:
        (short_dir / f"p.{suffix}").touch()
    with pytest.raises(ConfigurationError, match=rf"pin_sealed .*/p: there is no .*/p.{missing}$"):
        SealedPin(short_dir / "p").require()


@pytest.mark.parametrize("suffix", ["pub", "priv"])
def test_nothing_is_overwritten(tpm: str, short_dir: Path, suffix: str) -> None:
    file = short_dir / f"p.{suffix}"
    file.write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is there already; move it away"):
        seal(PIN, short_dir / "p")
    assert file.read_text(encoding="utf-8") == "precious"


def _program(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)


def _recorded(directory: Path, record: Path) -> str:
    """A PATH on which every tool that is used notes its arguments and its environment."""
    directory.mkdir()
    for tool in ("createprimary", "create", "load", "unseal", "flushcontext"):
        real = shutil.which(f"tpm2_{tool}")
        _program(
            directory / f"tpm2_{tool}",
            f'echo "$0 $*" >> {record}; env >> {record}; exec {real} "$@"',
        )
    return f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin"


def test_no_child_has_the_pin_in_its_arguments_or_its_environment(
    tpm: str, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = short_dir / "record"
    monkeypatch.setenv("PATH", _recorded(short_dir / "bin", record))
    monkeypatch.setenv("MESHKEY_TOKEN_PIN", "zq7x")
    seal(PIN, short_dir / "p")
    assert SealedPin(short_dir / "p").read() == PIN
    seen = record.read_text(encoding="utf-8")
    for tool in ("createprimary", "create", "load", "unseal"):
        assert f"tpm2_{tool} " in seen
    assert "TPM2TOOLS_TCTI=" in seen
    assert "zq7x" not in seen


def test_a_child_has_nothing_of_ours_but_what_leads_it_to_the_tpm(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, ours = short_dir / "bin", short_dir / "ours"
    tools.mkdir()
    noted = f"env > {short_dir}/names; readlink /proc/$$/fd/* > {short_dir}/open; exit 1"
    _program(tools / "tpm2_createprimary", noted)
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    monkeypatch.setenv("TPM2TOOLS_TCTI", "device:/dev/no-tpm")
    monkeypatch.setenv("PASSWORD_OF_SOMETHING_ELSE", "zq7x")
    with ours.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        with pytest.raises(StartFailed):
            seal(PIN, short_dir / "p")
    told = (short_dir / "names").read_text(encoding="utf-8")
    assert "TPM2TOOLS_TCTI=device:/dev/no-tpm" in told
    assert "zq7x" not in told
    descriptors = (short_dir / "open").read_text(encoding="utf-8").splitlines()
    assert str(ours) not in descriptors
    # The fourth is the shell's own: its program.
    assert len(descriptors) <= 4


def test_it_is_unsealed_once_and_before_the_module_is_started(
    tpm: str, mesh: Mesh, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = mesh.store("mesh")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    keypad = Keypad(short_dir, monkeypatch)
    seal(Pin(mesh.pin("mesh")), short_dir / "p")
    started: list[int] = []

    class Watched(SealedPin):
        def read(self) -> Pin:
            started.append(len(keypad.calls))
            return super().read()

    source: PinSource = Watched(short_dir / "p")
    token = Pkcs11Token.open(keypad.module, MESH, Login(source), SOFTHSM2)
    elsewhere = store.tokens.rename(store.tokens.with_name("elsewhere"))
    with pytest.raises(TokenUnavailable):
        token.generate(ALGORITHM, "web")
    elsewhere.rename(store.tokens)
    token.generate(ALGORITHM, "web")
    token.close()
    assert started == [0]
    assert keypad.calls.count("C_Initialize") > 1, "the token was lost and came back"


def test_a_sidecar_runs_with_what_the_command_sealed(tpm: str, mesh: Mesh, short_dir: Path) -> None:
    pin_file = mesh.store("ca").directory / "ca.pin"
    prefix = short_dir / "ca"
    with pin_file.open("rb") as stdin:
        sealed = run_cli("token", "seal-pin", "--out", str(prefix), stdin=stdin)
    assert sealed.returncode == 0, sealed.stderr
    assert sealed.stderr == f"sealed; set token.pin_sealed to {prefix}\n"
    assert mesh.pin("ca") not in sealed.stdout + sealed.stderr
    settings = mesh.issuer_settings("ca").replace(
        f'pin_file = "{pin_file}"', f'pin_sealed = "{prefix}"'
    )
    assert "pin_sealed" in settings
    pin = mesh.pin("ca")
    pin_file.unlink()
    process = mesh.serve("ca", settings)
    process.wait_until_ready()
    assert pin not in process.log_text()


def test_the_command_refuses_an_empty_pin(tpm: str, short_dir: Path) -> None:
    refused = run_cli("token", "seal-pin", "--out", str(short_dir / "p"))
    assert (refused.returncode, refused.stdout) == (64, "")
    assert refused.stderr == "meshkey: standard input is empty\n"
    assert not list(short_dir.glob("p.*"))
