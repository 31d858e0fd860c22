"""What a proxy with meshkey calls with our key: the services that were listed, nothing else."""

from __future__ import annotations

import json

from sidecar.istio.names import TRANSPORT_SOCKET
from tests.e2e.istio.mesh import CLIENT, OUTSIDE_PORT, SharedMesh
from tests.e2e.lab import Lab
from tests.e2e.programs import curl
from tests.e2e.record import Record


def identity_seen(body: str) -> str:
    return str(json.loads(body).get("x-forwarded-client-cert", ""))


def test_a_stock_istio_server_sees_the_clients_identity_with_auto_mtls(mesh: SharedMesh) -> None:
    answer = mesh.client.curl("http://old.old.svc.cluster.local:8000/auto")
    assert answer.status == 200, answer
    assert f"URI={CLIENT}" in identity_seen(answer.body)


def test_and_where_a_destination_rule_asks_for_istio_mutual(mesh: SharedMesh) -> None:
    answer = mesh.client.curl("http://mutual.old.svc.cluster.local:8000/mutual")
    assert answer.status == 200, answer
    assert f"URI={CLIENT}" in identity_seen(answer.body)


def test_a_listed_service_without_a_proxy_is_never_called_in_plaintext(mesh: SharedMesh) -> None:
    record = Record(mesh.client.envoy)
    answer = mesh.client.curl("http://bare.demo.svc.cluster.local:8000/bare")
    assert answer.status == 503, answer
    assert set(record.handshakes()) == {"client.failed.protocol"}
    # Istio's own proxies call it in plaintext.
    assert mesh.old.curl("http://bare.demo.svc.cluster.local:8000/bare").status == 200


def test_a_service_that_is_not_listed_fails_closed(mesh: SharedMesh) -> None:
    record = Record(mesh.client.envoy)
    answer = mesh.client.curl("http://unlisted.old.svc.cluster.local:8000/unlisted")
    assert answer.status == 503, answer
    assert record.handshakes() == {}
    seen = mesh.client.access("/unlisted")
    assert seen["failure"] == "TLS_error:_Secret_is_not_supplied_by_SDS"
    # The proxy was told at its start that there is no key, and served all others all the same.
    assert mesh.client.envoy.stats("^sds.default.")["sds.default.update_rejected"] > 0


def test_an_unknown_destination_is_called_as_it_was_asked(mesh: SharedMesh) -> None:
    record = Record(mesh.client.envoy)
    answer = mesh.client.curl(f"http://{mesh.plan.outside}:{OUTSIDE_PORT}/outside")
    assert answer.status == 200, answer
    assert json.loads(answer.body)[":path"] == "/outside"
    assert record.handshakes() == {}


def test_egress_tls_shows_no_client_certificate(mesh: SharedMesh, lab: Lab) -> None:
    record, options = Record(mesh.client.envoy), ("--header", "Host: external.example")
    answer = mesh.client.curl(f"http://{mesh.plan.outside}:80/egress", *options)
    assert answer.status == 200, answer
    assert "no client certificate available" in answer.body
    assert record.handshakes() == {}
    # The same server tells of one that there is.
    known = curl(f"https://127.0.0.1:{mesh.external.port}/", credentials=lab.credentials(CLIENT))
    assert CLIENT in known.body


def test_our_socket_is_on_the_clusters_of_listed_services_and_no_other(mesh: SharedMesh) -> None:
    config = json.loads(mesh.client.envoy.admin("/config_dump?resource=dynamic_active_clusters"))
    ours = {
        each["cluster"]["name"]
        for each in config["configs"]
        if TRANSPORT_SOCKET in json.dumps(each)
    }
    listed = {
        f"outbound|{port}||{service.host}"
        for service in mesh.plan.services
        for port in service.ports.values()
        if service.name != "unlisted"
    }
    assert ours == listed
