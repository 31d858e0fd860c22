from __future__ import annotations

import pytest

from tests.fixtures.marked import findings, found, marked
from tests.unit.istio.check.rules.texts import (
    EXACT,
    MESH,
    STRICT,
    chain,
    envoy_filter,
    network_filter,
    outbound,
    workload,
)

FILE = "peers: {file: /etc/meshkey-peers/peers.json, entry: server.demo.svc.cluster.local}"


def config_map(content: str, namespace: str = "demo") -> str:
    lines = "".join(f"    {line}\n" for line in content.splitlines())
    return f"""\
---
kind: ConfigMap
metadata: {{name: meshkey-peers, namespace: {namespace}}}
data:
  peers.json: |
{lines}"""


def listed(*peers: str) -> str:
    """Line 7 and on of a ConfigMap."""
    quoted = ",\n".join(f'"{peer}"' for peer in peers)
    return config_map(f'{{"server.demo.svc.cluster.local": [\n{quoted}\n]}}')


def test_a_service_account_of_the_set_is_right() -> None:
    good = listed("spiffe://bank.example/ns/demo/sa/server")
    assert found(MESH, good, workload("server")) == set()
    assert found(outbound(), workload("server")) == set()


def test_nothing_is_said_of_a_namespace_without_workloads_in_the_set() -> None:
    account = "---\nkind: ServiceAccount\nmetadata: {name: other, namespace: demo}\n"
    assert found(listed("spiffe://bank.example/ns/demo/sa/server"), account) == set()


def test_an_unknown_service_account_in_the_map_is_found() -> None:
    bad = listed("spiffe://bank.example/ns/demo/sa/server", "spiffe://bank.example/ns/demo/sa/srv")
    there = {("0", 8, "unknown-service-account")}
    assert found(bad, workload("server")) == there
    [finding] = findings(bad, workload("server"))
    assert "use one of server" in finding.advice


def test_a_service_account_that_only_is_made_is_known() -> None:
    account = "---\nkind: ServiceAccount\nmetadata: {name: other, namespace: demo}\n"
    good = listed("spiffe://bank.example/ns/demo/sa/other")
    assert found(good, workload("server"), account) == set()


def test_an_unknown_service_account_in_a_filter_is_found() -> None:
    bad = envoy_filter(
        """\
  - applyTo: CLUSTER # << incomplete-cluster-patch
    match: {context: SIDECAR_OUTBOUND, cluster: {service: server.demo.svc.cluster.local}}
    patch:
      operation: MERGE
      value:
        transport_socket:
          name: envoy.transport_sockets.dynamic_modules
          typed_config:
            transport_socket_name: meshkey
            transport_socket_config:
              value:
                peers:
                  spiffe_ids:
                  - spiffe://bank.example/ns/demo/sa/server
                  - spiffe://bank.example/ns/demo/sa/srv # << unknown-service-account
"""
    )
    assert found(bad, workload("server")) == marked(bad)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a.example": ["spiffe://bank.example/ns/demo/sa/a",\n"http://bank.example"]}', 7),
        ('{"a.example": ["spiffe://bank.example"]}', 6),
        ('{"a.example": ["spiffe://bank.example/a"],\n"b.example": []}', 7),
        ('{"a.example":\n"spiffe://bank.example/a"}', 7),
        ('{"a.example"\n["spiffe://bank.example/a"]}', 7),
        ('{"a.example": ["spiffe://bank.example/a"]} # comment', 6),
        ("[]", 6),
        ("", 6),
    ],
)
def test_malformed_peers_are_found(content: str, line: int) -> None:
    assert found(config_map(content)) == {("0", line, "malformed-peers")}


def test_a_map_without_the_file_is_found() -> None:
    bad = "kind: ConfigMap\nmetadata: {name: meshkey-peers} # << malformed-peers\ndata: {}\n"
    assert found(bad) == marked(bad)


def test_json_may_be_indented_with_tabs() -> None:
    good = config_map('{\n\t"a.example": [\n\t\t"spiffe://bank.example/ns/x/sa/a"\n\t]\n}')
    assert found(good) == set()
    bad = good.replace("spiffe:", "https:")
    assert found(bad) == {("0", 8, "malformed-peers")}


def test_a_peer_of_another_trust_domain_is_found() -> None:
    bad = listed("spiffe://bank.example/ns/demo/sa/a", "spiffe://shop.example/ns/demo/sa/a")
    assert found(bad, MESH) == {("0", 8, "foreign-peer")}
    assert found(bad) == set()


@pytest.mark.parametrize(
    "whom", ["peers: {trust_domain: bank.example}", "peers: {spiffe_ids: []}", "alpn: [istio]"]
)
def test_a_call_without_an_exact_list_is_found(whom: str) -> None:
    assert {rule for _, _, rule in found(outbound(settings=whom))} == {"no-exact-peers"}
    assert found(outbound(settings=EXACT)) == set()


def test_the_line_of_a_call_without_an_exact_list_is_that_of_its_peers() -> None:
    bad = outbound(settings="peers: {trust_domain: bank.example}")
    lines = [n for n, line in enumerate(bad.splitlines(), 1) if "trust_domain" in line]
    assert found(bad) == {("0", line, "no-exact-peers") for line in lines}


def test_allowing_any_workload_is_found() -> None:
    bad = outbound(settings=f"allow_any_workload: true, {EXACT}")
    lines = [n for n, line in enumerate(bad.splitlines(), 1) if "allow_any" in line]
    assert found(bad) == {("0", line, "any-workload-allowed") for line in lines}
    assert found(outbound(settings=f"allow_any_workload: false, {EXACT}")) == set()


def test_an_entry_that_the_map_of_the_namespace_lacks_is_found() -> None:
    calls = outbound(settings=FILE)
    lines = [n for n, line in enumerate(calls.splitlines(), 1) if "entry:" in line]
    there = {("0", line, "missing-peers-entry") for line in lines}
    right = '{"server.demo.svc.cluster.local": ["spiffe://bank.example/ns/demo/sa/server"]}'
    wrong = '{"other.demo.svc.cluster.local": ["spiffe://bank.example/ns/demo/sa/server"]}'
    assert found(calls, config_map(right)) == set()
    assert found(calls, config_map(wrong)) == there
    assert found(calls, config_map(right, namespace="other")) == there


def test_nothing_is_said_of_entries_where_the_set_has_no_map() -> None:
    assert found(outbound(settings=FILE)) == set()


def test_an_inbound_filter_for_another_trust_domain_is_found() -> None:
    whom = "peers: {trust_domain: bank.example}"
    right = envoy_filter(chain(settings=whom), network_filter())
    wrong = right.replace("trust_domain: bank", "trust_domain: shop")
    [line] = [n for n, line in enumerate(wrong.splitlines(), 1) if "shop.example" in line]
    assert found(right, MESH, STRICT) == set()
    assert found(wrong, MESH, STRICT) == {("0", line, "wrong-trust-domain")}


def test_an_entry_that_is_there_twice_is_found() -> None:
    one = '["spiffe://bank.example/ns/demo/sa/server"]'
    bad = config_map(f'{{"a": {one},\n"b": {one},\n"a": {one}}}')
    assert found(bad) == {("0", 8, "malformed-peers")}
