"""`meshkey doctor` on a real token, for a sidecar with several identities."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence

from tests.fixtures import certificates
from tests.fixtures.configurations import sections
from tests.fixtures.mesh import Mesh, spiffe_id
from tests.fixtures.private_keys import write_key
from tests.fixtures.process import MESHKEY, run_cli
from tests.fixtures.toml import toml
from tests.fixtures.users import SIDECAR, separated, with_python_for_all


def _doctor(mesh: Mesh, gateway: Mapping[str, object]) -> tuple[int, Sequence[dict[str, str]]]:
    shop = {"spiffe_id": spiffe_id("shop"), "trust_bundle": mesh.root_file, **gateway}
    file = mesh.directory / "web.toml"
    file.write_text(toml(sections(mesh, gateway={"shop": shop})), encoding="utf-8")
    ran = run_cli(
        "doctor", "--json", "--config", str(file), environment=mesh.store("web").environment
    )
    return ran.returncode, json.loads(ran.stdout)


def _of(findings: Sequence[dict[str, str]], check: str) -> list[tuple[str, str]]:
    return [(each["verdict"], each["detail"]) for each in findings if each["check"] == check]


def test_a_key_of_each_kind_that_an_identity_asks_for_is_tried(mesh: Mesh) -> None:
    mesh.root_file.write_bytes(certificates.root().pem)
    code, findings = _doctor(mesh, {"key_algorithm": "ed25519"})
    assert code == 0
    tried = [(verdict, detail.partition(",")[0]) for verdict, detail in _of(findings, "trial key")]
    assert tried == [("ok", "ec-p256"), ("ok", "ed25519")]
    schemes = [detail.partition(" ")[0] for _, detail in _of(findings, "schemes")]
    assert schemes == ["ECDSA_SECP256R1_SHA256", "ED25519"]
    code, findings = _doctor(mesh, {})
    assert len(_of(findings, "trial key")) == 1


def test_a_given_key_that_is_not_there_is_told_and_none_is_tried_for_it(mesh: Mesh) -> None:
    mesh.root_file.write_bytes(certificates.root().pem)
    code, findings = _doctor(mesh, {"key_id": "00ff", "key_algorithm": "ed25519"})
    assert code == 69
    assert len(_of(findings, "trial key")) == 1
    assert _of(findings, "gateway.shop: key_id") == [
        ("failure", "no key 00ff; list its keys with: meshkey keys list")
    ]


def test_a_given_key_that_was_imported_needs_the_setting_that_allows_it(mesh: Mesh) -> None:
    mesh.root_file.write_bytes(certificates.root().pem)
    file = write_key(mesh.directory / "key.pem", certificates.new_key())
    config = mesh.directory / "cli.toml"
    config.write_text(mesh.common_settings("web"), encoding="utf-8")
    imported = run_cli(
        *("keys", "import", str(file), "--label", "gateway", "--config", str(config)),
        environment=mesh.store("web").environment,
    )
    assert imported.returncode == 0, imported.stderr
    key_id = imported.stdout.strip()
    for allowed, expected in ((False, (69, "failure")), (True, (0, "ok"))):
        code, findings = _doctor(mesh, {"key_id": key_id, "allow_imported": allowed})
        ((verdict, detail),) = _of(findings, "gateway.shop: key_id")
        assert (code, verdict) == expected
        assert detail.startswith(f"{key_id}: imported")
        assert ("allow_imported" in detail) is not allowed


def test_the_process_its_surroundings_and_its_callers_are_looked_at(mesh: Mesh) -> None:
    mesh.root_file.write_bytes(certificates.root().pem)
    code, findings = _doctor(mesh, {})
    assert code == 0, findings
    checks = [each["check"] for each in findings]
    assert checks[checks.index("user") :] == [
        "user",
        "privileges",
        "core dumps",
        "memory",
        "umask",
        "descriptors",
        "token.pin_file",
        "signer.socket",
        "signer.proxy",
        "admin.socket",
        "token.pin_file: out of callers' reach",
        "the token's store: out of callers' reach",
        "signer.allow_own_user",
        "caller tests: known by",
        "callers' processes",
        "clock",
        "boot clock",
    ]
    ((verdict, detail),) = _of(findings, "core dumps")
    assert verdict == "ok", detail
    (mesh.directory).chmod(0o770)
    code, findings = _doctor(mesh, {})
    assert code == 69
    ((verdict, detail),) = _of(findings, "signer.socket")
    assert verdict == "failure"
    assert "chmod go-w" in detail


def test_the_doctor_becomes_the_sidecars_user_too(mesh: Mesh) -> None:
    file = mesh.directory / "web.toml"
    file.write_text(toml(separated(mesh)), encoding="utf-8")
    ran = subprocess.run(
        [*with_python_for_all(), MESHKEY, "doctor", "--json", "--config", file],
        env={**os.environ, **mesh.store("web").environment},
        capture_output=True,
        text=True,
        check=True,
    )
    findings = json.loads(ran.stdout)
    ((verdict, detail),) = _of(findings, "user")
    assert (verdict, detail.partition(";")[0]) == ("ok", SIDECAR.pw_name)
    ((verdict, _),) = _of(findings, "privileges")
    assert verdict == "ok"
    written = {path.stat().st_uid for path in mesh.store("web").tokens.rglob("*")}
    assert written == {SIDECAR.pw_uid}, "what it tried out is not root's"
