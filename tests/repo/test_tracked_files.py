"""What is in the repository, and what must not be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Paths that exist on one machine only.
_MACHINE_PATH = re.compile(rb"(?<![\w./])/(home|Users|root|work)/[\w.-]+")


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {
        str(file.relative_to(ROOT)): match[0].decode()
        for file in _tracked()
        if (match := _MACHINE_PATH.search(file.read_bytes()))
    }
    assert not found


def test_no_private_key_is_in_the_repository() -> None:
    marker = b"-----BEGIN " + b"PRIVATE KEY-----"
    ec_marker = b"-----BEGIN EC " + b"PRIVATE KEY-----"
    found = [
        str(file.relative_to(ROOT))
        for file in _tracked()
        if marker in (content := file.read_bytes()) or ec_marker in content
    ]
    assert not found


def test_no_module_of_the_sidecar_is_long() -> None:
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in (ROOT / "sidecar").rglob("*.py")
        if "_proto" not in file.parts
    }
    assert not {name: length for name, length in lengths.items() if length > 400}
