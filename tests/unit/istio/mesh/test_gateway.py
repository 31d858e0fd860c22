"""What is patched on the servers of gateways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.errors import ConfigurationError
from sidecar.istio.mesh.gateway import gateway
from tests.fixtures.meshes import mesh, patches

GATEWAY = {"name": "edge", "namespace": "edge", "labels": {"istio": "edge"}}


def test_a_gateway_without_mutual_servers_has_the_waker_alone() -> None:
    (document,) = gateway(mesh(gateways=[GATEWAY]))
    (waker,) = patches(document)
    assert (waker["applyTo"], waker["match"]) == ("LISTENER", {"context": "GATEWAY"})


def test_all_servers_of_a_port_that_names_no_host_are_the_modules() -> None:
    (document,) = gateway(mesh(gateways=[{**GATEWAY, "mutual": [{"port": 15443}]}]))
    (socket,) = (each for each in patches(document) if each["applyTo"] == "FILTER_CHAIN")
    assert socket["match"]["listener"] == {"portNumber": 15443}


def test_a_host_selects_its_server_among_those_of_a_port() -> None:
    mutual = [{"port": 8443, "hosts": ["a.example", "*.b.example"]}]
    (document,) = gateway(mesh(gateways=[{**GATEWAY, "mutual": mutual}]))
    sockets = [each for each in patches(document) if each["applyTo"] == "FILTER_CHAIN"]
    assert [each["match"]["listener"] for each in sockets] == [
        {"portNumber": 8443, "filterChain": {"sni": host}} for host in ("a.example", "*.b.example")
    ]


def test_a_server_of_two_hosts_has_each_filter_once() -> None:
    mutual = [{"port": 8443, "hosts": ["a.example", "b.example"]}]
    (document,) = gateway(mesh(gateways=[{**GATEWAY, "mutual": mutual}]))
    for name in ("meshkey_peer", "meshkey_headers", "meshkey_identity"):
        operations = [
            each["patch"]["operation"] for each in patches(document) if f"'{name}'" in str(each)
        ]
        assert operations == ["INSERT_FIRST", "REMOVE", "INSERT_FIRST"], name


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"port": 0}, r"mutual\[0\].port: a port number is needed"),
        ({"port": 1, "hosts": "a"}, r"mutual\[0\].hosts: a list is needed"),
        ({"port": 1, "hosts": ["demo/a.example"]}, r"hosts\[0\]: .*: a name is needed, without"),
        ({"port": 1, "hosts": ["*"]}, r"hosts\[0\]: .*for \*, leave hosts out"),
        ({"port": 1, "host": "a"}, r"mutual\[0\].host: unknown; known: port, hosts"),
    ],
)
def test_a_server_that_cannot_be_meant_is_named(server: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        mesh(gateways=[{**GATEWAY, "mutual": [server]}])
