"""`meshkey istio generate`: arguments in, files out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from sidecar.cli import commands
from sidecar.exits import EXIT_CONFIGURATION
from tests.fixtures.istio_values import document


def generate(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["istio", "generate", *map(str, arguments)])


def test_a_file_of_values_becomes_files_that_are_listed(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(document()))
    out = tmp_path / "out"
    result = generate("--values", tmp_path / "values.yaml", "--out", out)
    assert result.exit_code == 0, result.output
    there = {str(path) for path in out.rglob("*") if path.is_file()}
    assert set(result.output.split()) == there
    assert str(out / "kustomization.yaml") in there


def test_flags_do_the_same_and_json_lists_it(tmp_path: Path) -> None:
    result = generate(
        *("--trust-domain", "bank.example", "--image", "a", "--proxy-image", "b"),
        *("--namespace", "demo", "--service", "a.demo.svc:80=demo/a", "--json"),
        *("--gateway", "gw/ingress:istio=ingress", "--out", tmp_path),
    )
    assert result.exit_code == 0, result.output
    listed = json.loads(result.stdout)["written"]
    assert sorted(listed) == sorted(str(p) for p in tmp_path.rglob("*") if p.is_file())


def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    result = generate("--namespace", "demo", "--out", tmp_path / "out")
    assert result.exit_code == EXIT_CONFIGURATION
    assert result.stderr.strip().endswith("values.trust_domain: is missing")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_foreign_file_is_overwritten_by_force_alone(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(document()))
    (tmp_path / "kustomization.yaml").write_text("resources: []\n")
    arguments = ("--values", tmp_path / "values.yaml", "--out", tmp_path)
    assert generate(*arguments).exit_code == EXIT_CONFIGURATION
    assert (tmp_path / "kustomization.yaml").read_text() == "resources: []\n"
    assert generate(*arguments, "--force").exit_code == 0
    assert (tmp_path / "kustomization.yaml").read_text() != "resources: []\n"


def test_files_of_other_values_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(document()))
    arguments = ("--values", tmp_path / "values.yaml", "--out", tmp_path / "out")
    assert generate(*arguments).stderr == ""
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(document(gateways=None)))
    told = generate(*arguments).stderr
    assert "namespaces/istio-ingress/configuration.yaml is of other values" in told


@pytest.mark.parametrize("arguments", [("generate", "--out", "out"), ("check", "file")])
def test_without_a_library_for_yaml_it_says_how_to_install_one(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    code = f"""
import sys
sys.modules["yaml"] = None
from sidecar.cli import commands
commands(["istio", *{arguments}])
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == EXIT_CONFIGURATION
    said = "this needs yaml: install meshkey with `make runtime EXTRA=istio`"
    assert ran.stderr.strip().endswith(said)
    assert len(ran.stderr.splitlines()) == 1
