"""Files of AuthorizationPolicies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.errors import ConfigurationError
from sidecar.istio.mesh.policies import policy
from sidecar.istio.mesh.policies_file import read

NAMED = {"metadata": {"name": "a", "namespace": "b"}}

POLICY = """\
kind: AuthorizationPolicy
metadata: {name: allow, namespace: demo}
spec: {action: ALLOW, rules: [{from: [{source: {principals: ["*"]}}]}]}
"""


def test_other_kinds_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(f"kind: Service\nmetadata: {{name: a}}\n---\n---\n{POLICY}")
    (policy,) = read(file)
    assert (policy.namespace, policy.name, policy.spec) == ("demo", "allow", {"action": "ALLOW"})
    assert len(policy.rules) == 1


@pytest.mark.parametrize("kind", ["List", "AuthorizationPolicyList"])
def test_a_list_is_what_is_in_it(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "policies.yaml"
    items = [json.dumps(each) for each in yaml.safe_load_all(POLICY)]
    file.write_text(f"kind: {kind}\nitems: [{{kind: Service}}, {', '.join(items)}]\n")
    (policy,) = read(file)
    assert (policy.namespace, policy.name, len(policy.rules)) == ("demo", "allow", 1)


def test_what_is_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text("{")
    with pytest.raises(ConfigurationError, match=r"policies .*policies.yaml: .*line 1"):
        list(read(file))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "AuthorizationPolicy: metadata.name is missing"),
        ({"metadata": []}, "AuthorizationPolicy: metadata: a mapping is needed"),
        ({"metadata": {"name": "a"}}, "AuthorizationPolicy: metadata.namespace is missing"),
        ({**NAMED, "spec": 1}, "AuthorizationPolicy b/a: spec: a mapping is needed"),
        ({**NAMED, "spec": {"rules": {}}}, "AuthorizationPolicy b/a: spec.rules: a list is needed"),
        ({**NAMED, "spec": {"rules": [1]}}, "AuthorizationPolicy b/a: spec.rules: a mapping"),
        ({**NAMED, "spec": {"rules": [{"from": 1}]}}, "b/a: rule 0: from: a list is needed"),
        ({**NAMED, "spec": {"rules": [{"from": [{"source": 1}]}]}}, "rule 0: source: a mapping"),
        ({**NAMED, "spec": {"rules": [{}, {"when": [1]}]}}, "rule 1: when: a mapping is needed"),
    ],
)
def test_what_is_no_policy_is_named(document: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"file: .*{re.escape(said)}"):
        policy("file", document)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"policies .*none.yaml: No such file"):
        list(read(tmp_path / "none.yaml"))


def test_a_key_that_is_there_twice_is_a_mistake_here_too(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text("kind: AuthorizationPolicy\nkind: ConfigMap\n")
    with pytest.raises(ConfigurationError, match="a key is there twice"):
        list(read(file))
