"""The lists of who may answer."""

from __future__ import annotations

import json

from sidecar.istio.mesh.peers import peers
from tests.fixtures.meshes import mesh

SERVICES = [
    {
        "host": "server.demo.svc.cluster.local",
        "ports": [{"number": 8000}],
        "service_accounts": ["demo/server", "spiffe://other.mesh/ns/a/sa/b"],
    }
]
GATEWAY = {"name": "edge", "namespace": "edge", "labels": {"istio": "edge"}}


def test_a_hosts_entry_lists_whole_spiffe_ids() -> None:
    (document,) = peers(mesh(services=SERVICES))
    (config_map,) = document.objects
    assert json.loads(config_map["data"]["peers.json"]) == {
        "server.demo.svc.cluster.local": [
            "spiffe://demo.mesh/ns/demo/sa/server",
            "spiffe://other.mesh/ns/a/sa/b",
        ]
    }


def test_each_namespace_with_proxies_has_its_map_once() -> None:
    gateways = [GATEWAY, {**GATEWAY, "name": "second"}, {**GATEWAY, "namespace": "demo"}]
    places = [each.objects[0]["metadata"] for each in peers(mesh(gateways=gateways))]
    assert [(each["namespace"], each["name"]) for each in places] == [
        ("demo", "meshkey-peers"),
        ("edge", "meshkey-peers"),
    ]
