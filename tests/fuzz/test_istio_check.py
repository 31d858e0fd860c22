"""Whatever is checked: findings, and no crash. Short in `make test`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.istio.check.catalogue import judged
from sidecar.istio.check.loader import load
from sidecar.istio.check.located import Node, Place

_OVERLAY = Path(__file__).parents[2] / "istio-overlays" / "softhsm2"
_TEXTS = [file.read_text(encoding="utf-8") for file in sorted(_OVERLAY.rglob("*.yaml"))]
_LINES = [line for text in _TEXTS for line in ["---", *text.splitlines()]]
_DOCUMENTS = [each for text in _TEXTS for each in yaml.safe_load_all(text)]
_FILTERS = [each for each in _DOCUMENTS if each.get("kind") == "EnvoyFilter"][:2]
_POLICIES = [
    {
        "kind": kind,
        "metadata": {"name": "policy", "namespace": "demo"},
        "spec": {"selector": {"matchLabels": {"meshkey.io/signer": "enabled"}}, **spec},
    }
    for kind, spec in (
        ("AuthorizationPolicy", {"rules": [{"from": [{"source": {"principals": ["a/b"]}}]}]}),
        ("AuthorizationPolicy", {"rules": [{"when": [{"key": "source.principal"}]}]}),
        ("PeerAuthentication", {"portLevelMtls": {"80": {"mode": "DISABLE"}}}),
        ("DestinationRule", {"host": "server", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}),
        ("ServiceEntry", {"hosts": ["server.demo.svc.cluster.local"]}),
        ("Deployment", {"template": {"metadata": {"labels": {"app": "a"}}, "spec": {}}}),
    )
]
# Each is a whole set of files.
CASES = int(os.environ.get("MESHKEY_FUZZ_CASES", "10000")) // 100
pytestmark = pytest.mark.timeout(CASES + 60)
_CASES = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_SCALARS = st.none() | st.booleans() | st.integers() | st.text()
_DATA = st.recursive(
    _SCALARS, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=20
)
_YAML = st.text(st.sampled_from("ab:-[]{}&*!|>'\"#,? \n\t\x00\u2028%@`<"), max_size=60)
_JSON = st.builds(json.dumps, _DATA) | st.sampled_from(["[" * 3_000, '{"a":' * 3_000])


def check_lines(text: str) -> None:
    found = judged(load(text, Place("file", 1)))
    # A document may end without a line of its own.
    last = len(text.splitlines()) + 1
    assert all(1 <= each.place.line <= last for each in found)


@_CASES
@given(st.text() | _YAML)
def test_any_text_is_read_or_is_a_finding(text: str) -> None:
    check_lines(text)


@_CASES
@given(_DATA)
def test_data_is_read_as_it_was_written(data: Any) -> None:
    read = [each for each in load(yaml.safe_dump(data), Place("file", 1)) if isinstance(each, Node)]
    # An empty document is none.
    assert [each.plain for each in read] == ([] if data is None else [data])


@_CASES
@given(st.sampled_from(["meshkey", "meshkey-peers", "istio", "istio-sidecar-injector"]), st.data())
def test_files_in_config_maps_are_judged(name: str, data: st.DataObject) -> None:
    keys = ("meshkey.toml", "peers.json", "mesh", "config")
    files = {key: data.draw(st.text() | _YAML | _JSON) for key in keys}
    check_lines(yaml.safe_dump({"kind": "ConfigMap", "metadata": {"name": name}, "data": files}))


@_CASES
@given(st.sampled_from(_DOCUMENTS), st.data())
def test_generated_objects_with_other_values_are_judged(document: Any, data: st.DataObject) -> None:
    changed = deepcopy(document)
    container, key = data.draw(st.sampled_from(list(_slots(changed))))
    container[key] = data.draw(_DATA)
    check_lines("---\n".join(map(yaml.safe_dump, (changed, *_POLICIES))))


@_CASES
@given(st.sampled_from(_POLICIES), st.data())
def test_policies_with_other_values_are_judged(policy: Any, data: st.DataObject) -> None:
    changed = deepcopy(policy)
    container, key = data.draw(st.sampled_from(list(_slots(changed))))
    container[key] = data.draw(_DATA)
    check_lines("---\n".join(map(yaml.safe_dump, (changed, *_FILTERS))))


def _slots(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield value, key
        yield from _slots(value[key])


@_CASES
@given(st.data())
def test_generated_files_with_other_lines_are_judged(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(_LINES) - 1))
    lines = _LINES[start : start + data.draw(st.integers(1, 200))]
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(lines) - 1))
        other = data.draw(st.sampled_from(_LINES) | _YAML)
        lines[at : at + data.draw(st.integers(0, 3))] = [other]
    check_lines("\n".join(lines))
