"""What is patched on the chains of workloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.istio.mesh.inbound import inbound
from tests.fixtures.meshes import mesh, patches

STRICT = mesh()
PERMISSIVE = mesh(namespaces=[{"name": "demo", "mtls": "permissive"}])


def _of(values: Any, apply_to: str, operation: str) -> list[Mapping[str, Any]]:
    (document,) = inbound(values)
    return [
        each
        for each in patches(document)
        if (each["applyTo"], each["patch"]["operation"]) == (apply_to, operation)
    ]


def _chain(patch: Mapping[str, Any]) -> Mapping[str, Any]:
    return {k: v for k, v in patch["match"]["listener"]["filterChain"].items() if k != "filter"}


def test_each_namespace_has_a_filter_for_pods_with_the_sidecar() -> None:
    documents = inbound(mesh(namespaces=[{"name": "one"}, {"name": "two"}]))
    objects = [each.objects[0] for each in documents]
    assert [each["metadata"]["namespace"] for each in objects] == ["one", "two"]
    for each in objects:
        selector = each["spec"]["workloadSelector"]
        assert selector == {"labels": {"meshkey.io/signer": "enabled"}}


def test_every_tls_chain_of_a_strict_namespace_is_the_modules() -> None:
    (socket,) = _of(STRICT, "FILTER_CHAIN", "MERGE")
    (peer,) = _of(STRICT, "NETWORK_FILTER", "INSERT_FIRST")
    assert _chain(socket) == _chain(peer) == {"transportProtocol": "tls"}


def test_tls_without_istios_protocols_passes_through_a_permissive_namespace() -> None:
    sockets = _of(PERMISSIVE, "FILTER_CHAIN", "MERGE")
    peers = _of(PERMISSIVE, "NETWORK_FILTER", "INSERT_FIRST")
    protocols = [{"applicationProtocols": each} for each in ("istio-http/1.1", "istio")]
    assert [_chain(each) for each in sockets] == protocols
    assert [_chain(each) for each in peers] == protocols


def test_a_chain_that_is_matched_twice_has_one_peer_filter() -> None:
    (document,) = inbound(PERMISSIVE)
    steps = [
        (each["patch"]["operation"], _chain(each)["applicationProtocols"])
        for each in patches(document)
        if "meshkey_peer" in str(each) and each["applyTo"] == "NETWORK_FILTER"
    ]
    assert steps == [
        ("INSERT_FIRST", "istio-http/1.1"),
        ("REMOVE", "istio"),
        ("INSERT_FIRST", "istio"),
    ]


def test_lists_of_a_connection_manager_are_merged_once() -> None:
    (merged,) = _of(PERMISSIVE, "NETWORK_FILTER", "MERGE")
    assert _chain(merged) == {"applicationProtocols": "istio-http/1.1"}


def test_workloads_of_the_trust_domain_may_finish_a_handshake() -> None:
    (socket,) = _of(STRICT, "FILTER_CHAIN", "MERGE")
    typed = socket["patch"]["value"]["transport_socket"]["typed_config"]
    settings = typed["transport_socket_config"]["value"]
    assert settings["peers"] == {"trust_domain": "demo.mesh"}
    assert settings["alpn"] == ["h2", "http/1.1"]
    assert typed["implements_secure_transport"]
    assert typed["dynamic_module_config"] == {"name": "meshkey", "do_not_close": True}


def test_headers_are_verified_before_they_are_read() -> None:
    inserted = _of(STRICT, "HTTP_FILTER", "INSERT_FIRST")
    # Each is put before the one that is inserted before it.
    names = [each["patch"]["value"]["name"] for each in inserted]
    assert names == ["meshkey_identity", "meshkey_headers"]


def test_what_a_caller_says_is_gone_before_the_proxy_says_anything() -> None:
    (inserted,) = (
        each["patch"]["value"]
        for each in _of(STRICT, "HTTP_FILTER", "INSERT_FIRST")
        if each["patch"]["value"]["name"] == "meshkey_headers"
    )
    mutations = inserted["typed_config"]["mutations"]["request_mutations"]
    steps = [each.get("remove") or each["append"]["header"]["key"] for each in mutations]
    assert steps == ["x-forwarded-client-cert"] * 2 + ["x-meshkey-peer"] * 2
    assert ["remove" in each for each in mutations] == [True, False] * 2


def test_a_proxy_has_one_waker() -> None:
    (waker,) = _of(PERMISSIVE, "LISTENER", "ADD")
    assert waker["match"] == {"context": "SIDECAR_INBOUND"}
    listener = waker["patch"]["value"]
    assert listener["address"]["pipe"] == {
        "path": "/etc/istio/proxy/meshkey-waker.sock",
        "mode": 0o600,
    }
