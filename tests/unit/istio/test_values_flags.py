"""Values from flags, alone or over a file's."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.errors import ConfigurationError
from sidecar.istio.values import Ca, CaKind, Mtls, Port, Protocol, Token
from sidecar.istio.values_document import parse
from sidecar.istio.values_flags import Flags, with_flags
from tests.fixtures.istio_values import document

_HOST = "server.demo.svc.cluster.local"


def test_flags_alone_are_enough() -> None:
    flags = Flags(
        trust_domain="bank.example",
        token="tpm2",
        ca="kubernetes=clusterissuers.cert-manager.io/mesh",
        image="a",
        proxy_image="b",
        namespaces=["demo", "old:permissive"],
        services=[f"{_HOST}:80=demo/server", f"{_HOST}:90/tcp=demo/server,old/server"],
        gateways=["gw/ingress:istio=ingress", "gw/ingress:app=ingress"],
        policies=[Path("policy.yaml")],
    )
    values = parse(with_flags({}, flags))
    assert values.token is Token.TPM2
    assert values.ca == Ca(CaKind.KUBERNETES, "clusterissuers.cert-manager.io/mesh")
    assert (values.images.meshkey, values.images.proxy) == ("a", "b")
    assert [n.mtls for n in values.namespaces] == [Mtls.STRICT, Mtls.PERMISSIVE]
    (service,) = values.services
    assert service.ports == (Port(80), Port(90, Protocol.TCP))
    assert [peer.path for peer in service.peers] == ["/ns/demo/sa/server", "/ns/old/sa/server"]
    assert values.gateways[0].labels == {"istio": "ingress", "app": "ingress"}
    assert values.policies == (Path("policy.yaml"),)


def test_no_flag_changes_nothing() -> None:
    assert parse(with_flags(document(), Flags())) == parse(document())


def test_a_flag_wins_and_what_it_does_not_name_stays() -> None:
    flags = Flags(
        image="new",
        namespaces=["demo:permissive", "more"],
        services=[f"{_HOST}:81=demo/other", "b.demo.svc.cluster.local:80=demo/b"],
    )
    values = parse(with_flags(document(), flags))
    assert (values.images.meshkey, values.images.proxy) == ("new", "registry.example/proxy:1")
    assert [(n.name, n.mtls) for n in values.namespaces] == [
        ("demo", Mtls.PERMISSIVE),
        ("more", Mtls.STRICT),
    ]
    assert [(s.host, s.ports) for s in values.services] == [
        (_HOST, (Port(81),)),
        ("b.demo.svc.cluster.local", (Port(80),)),
    ]
    assert len(values.gateways) == 1


def test_two_flags_for_one_port_are_one_port_with_both_accounts() -> None:
    flags = Flags(services=[f"{_HOST}:80=demo/a", f"{_HOST}:80=demo/b"])
    (service,) = parse(with_flags(document(), flags)).services
    assert service.ports == (Port(80),)
    assert len(service.peers) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (Flags(namespaces=[":strict"]), r"--namespace: ':strict': write it as NAME"),
        (Flags(services=["a.b=c/d"]), r"--service: 'a.b=c/d': write it as HOST:PORT"),
        (Flags(services=["a.b:80"]), r"--service: 'a.b:80': write it as HOST:PORT"),
        (Flags(services=["a.b:99999=c/d"]), r"ports\[0\].number: a port number"),
        (Flags(gateways=["ingress:a=b"]), r"--gateway: 'ingress:a=b': write it as NAMESPACE/NAME"),
        (Flags(ca="kubernetes"), r"values.ca.signer"),
    ],
)
def test_a_flag_that_is_not_written_so_is_named(flags: Flags, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse(with_flags(document(services=None), flags))


@pytest.mark.parametrize("name", ["namespaces", "images"])
def test_flags_do_not_hide_a_mistake_of_the_file(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"values.{name}: a "):
        with_flags(document(**{name: "text"}), Flags(image="a", namespaces=["b"]))
