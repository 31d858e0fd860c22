"""What the doctor says of callers: what keeps them out, lets them in, and makes them known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.load import parse
from sidecar.doctor.finding import Finding, Verdict
from sidecar.doctor.separation import examine_separation
from sidecar.separation.checks import Process

_CALLER, _GROUP = 3_999_999_991, 3_999_999_993


@pytest.fixture
def document(short_dir: Path) -> dict[str, Any]:
    short_dir.chmod(0o755)
    (short_dir / "run").mkdir(mode=0o755)
    (short_dir / "pin").touch(mode=0o400)
    rule = {"name": "envoy", "uid": _CALLER, "identities": ["default"]}
    return {
        "token": {"label": "mesh", "pin_file": f"{short_dir}/pin", "profile": "generic"},
        "identity": {"spiffe_id": "spiffe://test.mesh/web", "trust_bundle": "/roots.pem"},
        "ca": {"socket": "/run/ca"},
        "caller": [{**rule, "purposes": ["tls13-server"]}],
        "signer": {"socket": f"{short_dir}/run/signer"},
        "metrics": {"socket": f"{short_dir}/run/metrics"},
    }


def _found(
    document: dict[str, Any], *, sees_programs: bool = False, ours: int | None = None
) -> dict[str, Finding]:
    process = Process(os.geteuid() if ours is None else ours, {os.getegid()})
    findings = examine_separation(parse(document, {}), process, {}, sees_programs=sees_programs)
    return {each.check: each for each in findings}


def test_modes_are_shown(document: dict[str, Any], short_dir: Path) -> None:
    found = _found(document)
    assert {each.verdict for each in found.values()} == {Verdict.OK}
    assert found["token.pin_file"].detail == f"{short_dir}/pin, mode 0400"
    assert found["signer.socket"].detail.endswith("mode 0755")


def test_without_rules_nobody_could_use_the_sockets(document: dict[str, Any]) -> None:
    del document["caller"]
    found = _found(document)["callers"]
    assert found.verdict is Verdict.FAILURE
    assert "[[caller]]" in found.detail
    del document["identity"]
    assert "callers" not in _found(document)


def test_a_pin_file_that_is_open_is_a_failure(document: dict[str, Any], short_dir: Path) -> None:
    (short_dir / "pin").chmod(0o440)
    found = _found(document)["token.pin_file"]
    assert found.verdict is Verdict.FAILURE
    assert "chmod 0400" in found.detail


def test_a_directory_that_would_refuse_the_start_is_a_failure(
    document: dict[str, Any], short_dir: Path
) -> None:
    (short_dir / "run").chmod(0o777)
    assert _found(document)["signer.socket"].verdict is Verdict.FAILURE


def test_callers_that_cannot_come_to_their_socket_are_told(
    document: dict[str, Any], short_dir: Path
) -> None:
    (short_dir / "run").chmod(0o700)
    found = _found(document)
    assert found["signer.socket"].verdict is Verdict.OK
    within = found["signer.socket: within callers' reach"]
    assert within.verdict is Verdict.WARNING
    assert f"caller envoy may not enter {short_dir}/run, mode 0700" in within.detail
    assert "metrics.socket: within callers' reach" not in found


def test_a_rule_without_executables_says_what_that_means(document: dict[str, Any]) -> None:
    found = _found(document)["caller envoy: known by"]
    assert found.verdict is Verdict.OK
    assert "whatever runs as that user may sign" in found.detail


def test_executables_of_other_users_need_a_capability(document: dict[str, Any]) -> None:
    document["caller"][0]["executables"] = ["ab" * 32]
    found = _found(document)["caller envoy: known by"]
    assert found.verdict is Verdict.FAILURE
    assert "CAP_SYS_PTRACE" in found.detail
    seen = _found(document, sees_programs=True)["caller envoy: known by"]
    assert (seen.verdict, seen.detail) == (Verdict.OK, f"user {_CALLER}, executables")


def test_the_sidecars_own_user_as_a_caller_is_a_failure_or_a_warning(
    document: dict[str, Any],
) -> None:
    document["caller"][0]["uid"] = os.geteuid()
    assert _found(document)["caller envoy"].verdict is Verdict.FAILURE
    document["signer"]["allow_own_user"] = True
    found = _found(document)
    assert "caller envoy" not in found
    assert found["signer.allow_own_user"].verdict is Verdict.WARNING
