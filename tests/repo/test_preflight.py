"""What must be installed first, and who is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the script itself runs.
_TOOLS = ("sh", "dirname", "sed", "cut", "sort", "head", "ls", "mkdir", "touch", "chmod", "cat")
_BASE = {
    "python3": "python3",
    "cc": "build-essential",
    "c++": "build-essential",
    "curl": "curl",
    "openssl": "openssl",
    "softhsm2-util": "softhsm2",
}
_TESTS = {
    "swtpm": "swtpm",
    "tpm2_unseal": "tpm2-tools",
    "tpm2_ptool": "libtpm2-pkcs11-tools",
    "dbus-daemon": "dbus",
    "strace": "strace",
    "apparmor_parser": "apparmor",
    "p11-kit": "p11-kit",
}
_LIBRARIES = {
    "libtss2-tcti-swtpm.so.0": "libtss2-tcti-swtpm0",
    "libtss2-tcti-tabrmd.so.0": "libtss2-tcti-tabrmd0",
    "pkcs11/libtpm2_pkcs11.so": "libtpm2-pkcs11-1",
    "pkcs11/p11-kit-client.so": "p11-kit-modules",
}


class Machine:
    """A PATH with next to nothing on it."""

    def __init__(self, directory: Path, *, root: bool = False) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.libraries = directory / "lib"
        self.apt = directory / "apt.log"
        for name in _TOOLS:
            found = shutil.which(name)
            assert found
            (self.bin / name).symlink_to(found)
        self.program("id", f"echo {0 if root else 1000}")
        self.program("cargo", "echo cargo 9.9.9")
        self.program("apt-get", f'echo "$*" >> {self.apt}')

    def program(self, name: str, script: str = "true") -> None:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(0o755)

    def library(self, name: str) -> None:
        file = self.libraries / "x86_64-linux-gnu" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def preflight(self, *purpose: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "tools" / "preflight", self.directory / "stamps" / "cargo", *purpose],
            env={"PATH": str(self.bin), "PREFLIGHT_LIBRARIES": str(self.libraries)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _asked_for(stderr: str) -> list[str]:
    (line,) = [line for line in stderr.splitlines() if line.startswith("install with: ")]
    return line.removeprefix("install with: apt-get install -y --no-install-recommends ").split()


def test_everything_that_the_demo_needs_is_asked_for_in_one_line(machine: Machine) -> None:
    refused = machine.preflight()
    assert refused.returncode == 1
    assert set(_asked_for(refused.stderr)) == {*_BASE.values(), "python3-venv"}
    assert "run that as root, then make again" in refused.stderr
    assert not machine.apt.exists()


def test_tests_need_more_and_say_so_in_the_same_line(machine: Machine) -> None:
    refused = machine.preflight("tests")
    expected = {*_BASE.values(), "python3-venv", *_TESTS.values(), *_LIBRARIES.values()}
    # It is looked for where it is, too, and that is outside this machine.
    assert set(_asked_for(refused.stderr)) - {"tpm2-abrmd"} == expected
    assert len(_asked_for(refused.stderr)) == len(set(_asked_for(refused.stderr)))


@pytest.mark.parametrize("absent", [*_TESTS, *_LIBRARIES])
def test_a_single_missing_package_is_named(machine: Machine, absent: str) -> None:
    for name in {*_BASE, *_TESTS, "tpm2-abrmd"} - {absent}:
        machine.program(name)
    for name in set(_LIBRARIES) - {absent}:
        machine.library(name)
    refused = machine.preflight("tests")
    assert refused.returncode == 1
    assert _asked_for(refused.stderr) == [{**_TESTS, **_LIBRARIES}[absent]]
    assert machine.preflight().returncode == 0, "the demo does without"


def test_a_complete_machine_is_told_nothing(machine: Machine) -> None:
    for name in _BASE:
        machine.program(name)
    complete = machine.preflight()
    assert (complete.returncode, complete.stdout, complete.stderr) == (0, "", "")
    cargo = (machine.directory / "stamps" / "cargo").read_text(encoding="utf-8")
    assert cargo == f"{machine.bin / 'cargo'}\n"


def test_root_gets_it_installed(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=True)
    for name in set(_BASE) - {"curl"}:
        machine.program(name)
    curl = machine.bin / "curl"
    machine.program("apt-get", f'echo "$*" >> {machine.apt}; touch {curl}; chmod +x {curl}')
    installed = machine.preflight()
    assert installed.returncode == 0, installed.stderr
    assert "install -y --no-install-recommends curl" in machine.apt.read_text(encoding="utf-8")


def test_what_an_installation_does_not_bring_ends_it_after_one_round(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=True)
    for name in set(_BASE) - {"curl"}:
        machine.program(name)
    refused = machine.preflight()
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "missing: curl\n"
        "installed just now, and still not found: look at PATH and at what apt-get said\n"
    )
    rounds = [
        line for line in machine.apt.read_text(encoding="utf-8").splitlines() if "install" in line
    ]
    assert len(rounds) == 1


@pytest.mark.parametrize(
    ("goals", "purpose"),
    [
        (["demo"], ""),
        (["lint"], ""),
        (["test"], "tests"),
        (["bench"], "tests"),
        (["demo", "test"], "tests"),
    ],
)
def test_only_tests_and_benchmarks_ask_for_their_packages(goals: list[str], purpose: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    planned = subprocess.run(
        ["make", "--dry-run", *goals],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = [line for line in planned.stdout.splitlines() if "tools/preflight" in line]
    assert line.split() == ["tools/preflight", ".stamps/cargo", *purpose.split()]


def test_what_says_that_the_environment_is_set_up_is_inside_it() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\nINSTALLED := .venv/" in makefile
    assert "\nsetup: preflight $(INSTALLED)" in makefile
