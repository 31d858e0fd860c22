"""`meshkey istio check`: files in, findings and an exit code out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from sidecar.cli import commands
from sidecar.exits import EXIT_FAILED
from sidecar.istio.generate import generated
from sidecar.istio.values import CaKind, Token, Values
from sidecar.istio.values_file import read
from sidecar.istio.written import written
from tests.fixtures.istio_injection import GATEWAY, WORKLOAD, inject
from tests.fixtures.istio_pods import KUBERNETES
from tests.fixtures.istio_values import document, values
from tests.integration.istio.overlays import ROOT

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: demo}
spec:
  action: DENY
  rules:
  - from:
    - source:
        notNamespaces: [demo]
        principals: [bank.example/ns/other/sa/*]
"""
ALLOWED = POLICY.replace("        notNamespaces: [demo]\n", "")


def check(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["istio", "check", *map(str, arguments)])


def findings(*arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(check("--json", *arguments).stdout)
    return found


def written_to(directory: Path, of: Values) -> Path:
    list(written(generated(of), directory))
    return directory


@pytest.mark.parametrize("mtls", ["strict", "permissive"])
@pytest.mark.parametrize("token", list(Token))
@pytest.mark.parametrize("ca", list(CaKind))
def test_what_is_generated_has_nothing_wrong(
    tmp_path: Path, mtls: str, token: str, ca: CaKind
) -> None:
    signer = KUBERNETES["ca"] if ca is CaKind.KUBERNETES else {"kind": str(ca)}
    of = values(token=str(token), ca=signer, namespaces=[{"name": "demo", "mtls": mtls}])
    result = check(written_to(tmp_path, of))
    assert (result.exit_code, result.output) == (0, "nothing is wrong with these files\n")


@pytest.mark.parametrize("kind", [WORKLOAD, GATEWAY], ids=["workload", "gateway"])
def test_pods_that_istio_injects_have_nothing_wrong(
    tmp_path: Path, kind: tuple[str, dict[str, Any]]
) -> None:
    of = values()
    written_to(tmp_path, of)
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(inject(kind, of)))
    assert findings(tmp_path) == []


@pytest.mark.parametrize("directory", sorted(each.name for each in ROOT.iterdir() if each.is_dir()))
def test_the_overlays_have_nothing_wrong(directory: str) -> None:
    assert findings(ROOT / directory) == []


def test_a_policy_and_its_generated_twin_have_nothing_wrong(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(ALLOWED)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(document(policies=["policy.yaml"])))
    written_to(tmp_path / "out", read(tmp_path / "values.yaml"))
    assert findings(tmp_path / "out", tmp_path / "policy.yaml") == []
    (tmp_path / "out" / "namespaces" / "demo" / "authorization.yaml").unlink()
    [finding] = findings(tmp_path / "out", tmp_path / "policy.yaml")
    assert (finding["rule"], finding["line"]) == ("policy-without-twin", 9)


def test_a_finding_has_its_file_and_line_and_says_what_to_do(tmp_path: Path) -> None:
    written_to(tmp_path, values())
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    assert findings(tmp_path) == [
        {
            "file": str(policy),
            "line": 9,
            "severity": "error",
            "rule": "inverted-identity",
            "happens": "AuthorizationPolicy demo/callers: on the module's connections it is true "
            "of everybody",
            "to_do": "name who is meant, or use a condition on "
            "experimental.envoy.filters.meshkey[principal] with notValues",
        }
    ]
    [line] = [each for each in check(tmp_path).output.splitlines() if str(policy) in each]
    assert line.split()[:3] == [f"{policy}:9", "error", "inverted-identity"]
    assert "To do: name who is meant" in line


def test_errors_fail_and_warnings_do_not(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("kind: IstioOperator\nspec: {tag: 1.30.0}\n")
    assert check(file).exit_code == 0
    assert [each["severity"] for each in findings(file)] == ["warning"]
    file.write_text("kind: [\n")
    assert check(file).exit_code == EXIT_FAILED
    assert check("--json", file).exit_code == EXIT_FAILED


def test_files_are_judged_together(tmp_path: Path) -> None:
    written_to(tmp_path / "out", values())
    peers = tmp_path / "out" / "namespaces" / "demo" / "peers.yaml"
    moved = tmp_path / "peers.yaml"
    peers.rename(moved)
    assert {each["rule"] for each in findings(tmp_path / "out")} == {"missing-peers-entry"}
    assert findings(tmp_path / "out", moved) == []


def test_nothing_of_a_file_is_run_or_shown_to_the_terminal(tmp_path: Path) -> None:
    there = tmp_path / "there"
    file = tmp_path / "a.yaml"
    file.write_text(
        f"kind: EnvoyFilter\nmetadata: {{name: !!python/object/apply:os.mkdir [{there}]}}\n"
        'spec: {configPatches: [{patch: {value: {object_key: "meshkey.\\e[2J"}}}]}\n'
    )
    result = check(file)
    assert result.exit_code == EXIT_FAILED
    assert not there.exists()
    assert "\x1b" not in result.output


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    assert check(tmp_path / "none.yaml").exit_code == EXIT_FAILED
    assert [each["rule"] for each in findings(tmp_path / "none.yaml")] == ["unreadable-file"]
