"""Values from plain YAML data: what is taken, and where each mistake is said to be."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.errors import ConfigurationError
from sidecar.istio.values import Ca, CaKind, Istio, Mtls, Protocol, Token
from sidecar.istio.values_document import parse
from tests.fixtures.istio_values import document, values


def test_what_is_left_out_is_evaluation_on_istiod_with_nobody_else_let_in() -> None:
    parsed = values(services=None, gateways=None)
    assert parsed.istio == Istio("istio-system", "")
    assert parsed.token is Token.SOFTHSM2
    assert parsed.ca == Ca(CaKind.ISTIOD)
    assert parsed.namespaces[0].mtls is Mtls.STRICT
    assert (parsed.services, parsed.gateways, parsed.policies) == ((), (), ())
    assert parsed.devices is None
    assert not parsed.node_profiles


def test_a_service_account_is_of_the_mesh_unless_it_is_a_spiffe_id() -> None:
    service = document()["services"][0]
    accounts = ["demo/server", "spiffe://other.example/ns/a/sa/b"]
    (parsed,) = values(services=[{**service, "service_accounts": accounts}]).services
    assert [str(peer) for peer in parsed.peers] == [
        "spiffe://bank.example/ns/demo/sa/server",
        "spiffe://other.example/ns/a/sa/b",
    ]
    assert parsed.ports[0].protocol is Protocol.HTTP


def test_a_gateways_namespace_has_signers_too_and_none_is_there_twice() -> None:
    gateway = document()["gateways"][0]
    gateways = [gateway, {**gateway, "name": "other", "namespace": "demo"}]
    assert values(gateways=gateways).signer_namespaces == ("demo", "istio-ingress")


def test_devices_replace_those_of_the_token() -> None:
    parsed = values(devices={"tpm.example/tpmrm": 1, "sgx.intel.com/epc": "32Mi"})
    assert parsed.devices == {"tpm.example/tpmrm": "1", "sgx.intel.com/epc": "32Mi"}


_SERVICE = document()["services"][0]
_GATEWAY = document()["gateways"][0]
_MISTAKES: dict[str, dict[str, Any]] = {
    "values.trust_domain: is missing": {"trust_domain": None},
    "values.trust_domain: ": {"trust_domain": "Bank Example"},
    "values.surprise: unknown; known: trust_domain, ": {"surprise": 1},
    "values.images.proxy: is missing": {"images": {"meshkey": "a"}},
    "values.images: a mapping is needed": {"images": "a"},
    "values.images.meshkey: a text is needed": {"images": {"meshkey": 1, "proxy": "b"}},
    "values.istio.revision: 'A_1' is no name": {"istio": {"revision": "A_1"}},
    "values.istio.tag: unknown": {"istio": {"tag": "1"}},
    "values.token: 'hsm': use one of softhsm2, tpm2, sgx-ctk": {"token": "hsm"},
    "values.ca.kind: 'vault': use one of": {"ca": {"kind": "vault"}},
    "values.ca.signer: the signerName": {"ca": {"kind": "kubernetes"}},
    "values.ca.signer: the signerName; for kind": {"ca": {"kind": "istiod", "signer": "a.b/c"}},
    "values.ca.trust_bundle: istiod has its roots": {"ca": {"trust_bundle": "roots"}},
    "values.namespaces: is missing": {"namespaces": None},
    "values.namespaces: an empty list": {"namespaces": []},
    "values.namespaces: a list is needed": {"namespaces": {"name": "demo"}},
    "values.namespaces[0].name: 'Demo' is no name": {"namespaces": [{"name": "Demo"}]},
    "values.namespaces[0].mtls: 'off': use one": {"namespaces": [{"name": "a", "mtls": "off"}]},
    "values.namespaces: demo is there 2 times": {"namespaces": [{"name": "demo"}] * 2},
    "values.services[0].host: 'server': the whole": {"services": [{**_SERVICE, "host": "server"}]},
    "values.services[0].host: '*.a.b': the whole": {"services": [{**_SERVICE, "host": "*.a.b"}]},
    "values.services[0].ports: an empty list": {"services": [{**_SERVICE, "ports": []}]},
    "values.services[0].ports[0].number: a port": {
        "services": [{**_SERVICE, "ports": [{"number": 65536}]}]
    },
    "values.services[0].ports[0].number: a port number is needed": {
        "services": [{**_SERVICE, "ports": [{"number": True}]}]
    },
    "values.services[0].ports: 80 is there 2 times": {
        "services": [{**_SERVICE, "ports": [{"number": 80}] * 2}]
    },
    "values.services[0].service_accounts: an empty list": {
        "services": [{**_SERVICE, "service_accounts": []}]
    },
    "values.services[0].service_accounts[0]: 'server': use namespace/name": {
        "services": [{**_SERVICE, "service_accounts": ["server"]}]
    },
    "values.services[0].service_accounts[0]: ": {
        "services": [{**_SERVICE, "service_accounts": ["spiffe://"]}]
    },
    "values.services: server.demo.svc.cluster.local is there 2": {"services": [_SERVICE] * 2},
    "values.gateways[0].labels: labels of the gateway's": {
        "gateways": [{**_GATEWAY, "labels": {}}]
    },
    "values.gateways[0].labels.istio: a text": {"gateways": [{**_GATEWAY, "labels": {"istio": 1}}]},
    "values.gateways: istio-ingress/ingress is there 2": {"gateways": [_GATEWAY] * 2},
    "values.policies[0]: a text is needed": {"policies": [1]},
    "values.devices: resources are needed": {"devices": {}},
    "values.devices: 'tpmrm' is no resource": {"devices": {"tpmrm": 1}},
    "values.devices.a.b/c: a quantity": {"devices": {"a.b/c": 0}},
    "values.devices.a.b/c: a quantity is needed": {"devices": {"a.b/c": True}},
    "values.node_profiles: true or false": {"node_profiles": "yes"},
}


@pytest.mark.parametrize(("message", "changes"), _MISTAKES.items(), ids=list(_MISTAKES))
def test_a_mistake_is_named_with_its_place(message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(document(**changes))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("content", [None, [], "text", 1])
def test_what_is_no_mapping_is_no_set_of_values(content: Any) -> None:
    with pytest.raises(ConfigurationError, match="values: a mapping is needed"):
        parse(content)
