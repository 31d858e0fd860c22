"""`meshkey prepare-pod`: arguments in, volumes ready."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import commands
from sidecar.pod import module_file

PIN = "a-pin-that-nobody-prints"


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """The volumes of a pod, fresh, with the module beside."""
    (tmp_path / "built.so").write_bytes(b"\x7fELF")
    for name in ("sockets", "workload-socket", "module", "store"):
        (tmp_path / "pod" / name).mkdir(parents=True)
        (tmp_path / "pod" / name).chmod(0o777)
    return tmp_path / "pod"


def prepare(volumes: Path, *arguments: object) -> Result:
    module = volumes.parent / "built.so"
    fixed = ["prepare-pod", "--volumes", str(volumes), "--module", str(module)]
    return CliRunner().invoke(commands, [*fixed, *map(str, arguments)])


def modes(volumes: Path) -> dict[str, str]:
    return {
        str(path.relative_to(volumes)): f"{stat.S_IMODE(path.stat().st_mode):04o}"
        for path in sorted(volumes.rglob("*"))
        if path.parent != volumes
    }


MADE = {
    "module/lib": "0750",
    "module/lib/libmeshkey.so": "0444",
    "sockets/admin": "0700",
    "sockets/signer": "0750",
    "store/store": "0700",
    "workload-socket/sds": "0750",
}


def test_directories_and_module_are_made_and_each_is_said(volumes: Path) -> None:
    ran = prepare(volumes)
    assert ran.exit_code == 0, ran.output
    assert modes(volumes) == MADE
    for path in MADE:
        assert str(volumes / path) in ran.output


def test_a_second_run_is_harmless(volumes: Path) -> None:
    prepare(volumes)
    assert prepare(volumes).exit_code == 0
    assert modes(volumes) == MADE


def test_a_softhsm2_token_is_made_once(volumes: Path) -> None:
    first = prepare(volumes, "--softhsm2", "mesh")
    assert first.exit_code == 0, first.output
    assert "made token 'mesh', its PIN is in" in first.output
    pin = (volumes / "store" / "store" / "mesh.pin").read_text()
    assert pin not in first.output
    second = prepare(volumes, "--softhsm2", "mesh")
    assert second.exit_code == 0
    assert "token and PIN are there already" in second.output
    assert (volumes / "store" / "store" / "mesh.pin").read_text() == pin


def test_a_pin_is_copied_for_the_sidecar_alone_and_again_when_it_has_changed(
    volumes: Path,
) -> None:
    # As a Secret is mounted: a link to a file that everybody in this container may read.
    secret = volumes.parent / "pin"
    (secret / "..data").mkdir(parents=True)
    (secret / "..data" / "mesh.pin").write_text(PIN + "\n")
    (secret / "mesh.pin").symlink_to("..data/mesh.pin")
    ran = prepare(volumes, "--pin", secret / "mesh.pin")
    assert ran.exit_code == 0, ran.output
    assert PIN not in ran.output
    copy = volumes / "store" / "store" / "mesh.pin"
    assert (copy.read_text(), modes(volumes)["store/store/mesh.pin"]) == (PIN, "0400")
    (secret / "..data" / "mesh.pin").write_text("another")
    prepare(volumes, "--pin", secret / "mesh.pin")
    assert copy.read_text() == "another"


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [(None, 66, "No such file"), ("\n", 64, "is empty"), ("x" * 5000, 66, "more than 4096 bytes")],
)
def test_what_is_no_pin_is_refused(
    volumes: Path, content: str | None, code: int, reason: str
) -> None:
    file = volumes.parent / "mesh.pin"
    if content is not None:
        file.write_text(content)
    ran = prepare(volumes, "--pin", file)
    assert ran.exit_code == code
    assert reason in ran.output
    assert not list((volumes / "store" / "store").iterdir())


@pytest.mark.parametrize("volume", ["sockets", "workload-socket", "module", "store"])
def test_a_volume_that_is_missing_is_named(volumes: Path, volume: str) -> None:
    (volumes / volume).rmdir()
    ran = prepare(volumes)
    assert ran.exit_code == 64
    assert f"{volumes / volume} is no directory: mount the volume there" in ran.output


def test_a_token_that_is_made_has_a_pin_of_its_own(volumes: Path) -> None:
    ran = prepare(volumes, "--softhsm2", "mesh", "--pin", volumes.parent / "mesh.pin")
    assert ran.exit_code == 64
    assert "leave one out" in ran.output
    assert not list((volumes / "store").iterdir())


def test_a_label_that_leads_out_of_the_store_is_refused(volumes: Path) -> None:
    ran = prepare(volumes, "--softhsm2", "../mesh")
    assert ran.exit_code == 64
    assert "--softhsm2: a name has letters" in ran.output


def test_the_images_own_module_is_the_default(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_file, "beside_program", lambda: volumes.parent / "built.so")
    ran = CliRunner().invoke(commands, ["prepare-pod", "--volumes", str(volumes)])
    assert ran.exit_code == 0, ran.output
    assert (volumes / "module" / "lib" / "libmeshkey.so").read_bytes() == b"\x7fELF"
