"""From a document of plain YAML data to `Values`, each mistake named by where it stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sidecar.core.spiffe import SpiffeId, trust_domain
from sidecar.istio.table import (
    LABEL,
    Table,
    items,
    label,
    mistake,
    one_of,
    port_number,
    some,
    switch,
    text,
)
from sidecar.istio.values import (
    Ca,
    CaKind,
    Gateway,
    Images,
    Istio,
    Mtls,
    MutualServer,
    Namespace,
    Port,
    Protocol,
    Service,
    Token,
    Values,
)

_HOST = re.compile(rf"{LABEL.pattern}(\.{LABEL.pattern})*")
# A name with its vendor's domain, as device plugins advertise them.
_RESOURCE = re.compile(rf"{_HOST.pattern}/[A-Za-z0-9]([-._A-Za-z0-9]{{0,61}}[A-Za-z0-9])?")
_QUANTITY = re.compile(r"[1-9][0-9]*([KMGT]i?)?")
_NO_DEVICES: Mapping[str, str] = {}


def parse(document: Any) -> Values:
    """From plain YAML data.

    Raises:
        ConfigurationError: naming the value, what is wrong and what is expected.
    """
    root = Table("values", document)
    domain = root.take("trust_domain", _trust_domain)
    values = Values(
        trust_domain=domain,
        images=root.take("images", _images),
        istio=root.take("istio", _istio, Istio()),
        token=root.take("token", one_of(Token), Token.SOFTHSM2),
        ca=root.take("ca", _ca, Ca()),
        namespaces=root.take("namespaces", some(_namespace)),
        services=root.take("services", items(lambda where, v: _service(where, v, domain)), ()),
        gateways=root.take("gateways", items(_gateway), ()),
        policies=root.take("policies", items(lambda where, v: Path(text(where, v))), ()),
        devices=root.take("devices", _devices, _NO_DEVICES) or None,
        node_profiles=root.take("node_profiles", switch, False),
    )
    root.end()
    _once("values.namespaces", (namespace.name for namespace in values.namespaces))
    _once("values.services", (service.host for service in values.services))
    _once("values.gateways", (f"{each.namespace}/{each.name}" for each in values.gateways))
    return values


def _once(where: str, names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise mistake(where, f"{name} is there {times} times: say all of it once")


def _trust_domain(where: str, value: Any) -> str:
    try:
        return trust_domain(text(where, value))
    except ValueError as error:
        raise mistake(where, str(error)) from None


def _host(where: str, value: Any) -> str:
    if not _HOST.fullmatch(text(where, value)) or "." not in value:
        raise mistake(
            where, f"{value!r}: the whole name is needed, as in server.demo.svc.cluster.local"
        )
    return str(value)


def _images(where: str, value: Any) -> Images:
    table = Table(where, value)
    images = Images(meshkey=table.take("meshkey", text), proxy=table.take("proxy", text))
    table.end()
    return images


def _istio(where: str, value: Any) -> Istio:
    table = Table(where, value)
    istio = Istio(
        namespace=table.take("namespace", label, Istio.namespace),
        revision=table.take("revision", lambda w, v: v and label(w, v), Istio.revision),
    )
    table.end()
    return istio


def _ca(where: str, value: Any) -> Ca:
    table = Table(where, value)
    kind = table.take("kind", one_of(CaKind), CaKind.ISTIOD)
    signer = table.take("signer", text, "")
    trust_bundle = table.take("trust_bundle", text, "")
    table.end()
    if (kind is CaKind.KUBERNETES) != bool(signer):
        raise mistake(f"{where}.signer", "the signerName; for kind kubernetes, and for it alone")
    if trust_bundle and kind is not CaKind.KUBERNETES:
        raise mistake(
            f"{where}.trust_bundle", f"{kind} has its roots in a file of each pod: leave it out"
        )
    return Ca(kind, signer or None, trust_bundle or None)


def _namespace(where: str, value: Any) -> Namespace:
    table = Table(where, value)
    namespace = Namespace(
        name=table.take("name", label), mtls=table.take("mtls", one_of(Mtls), Mtls.STRICT)
    )
    table.end()
    return namespace


def _service(where: str, value: Any, domain: str) -> Service:
    table = Table(where, value)
    service = Service(
        host=table.take("host", _host),
        ports=table.take("ports", some(_port)),
        peers=table.take(
            "service_accounts", some(lambda where, v: _service_account(where, v, domain))
        ),
    )
    table.end()
    _once(f"{where}.ports", (str(port.number) for port in service.ports))
    return service


def _port(where: str, value: Any) -> Port:
    table = Table(where, value)
    port = Port(
        number=table.take("number", port_number),
        protocol=table.take("protocol", one_of(Protocol), Protocol.HTTP),
    )
    table.end()
    return port


def _service_account(where: str, value: Any, domain: str) -> SpiffeId:
    """`namespace/name` in the mesh's own trust domain, or a whole SPIFFE ID of another's."""
    account = text(where, value)
    try:
        if account.startswith("spiffe://"):
            return SpiffeId.parse(account)
        namespace, slash, name = account.partition("/")
        if namespace and slash and name:
            return SpiffeId.parse(f"spiffe://{domain}/ns/{namespace}/sa/{name}")
    except ValueError as error:
        raise mistake(where, str(error)) from None
    raise mistake(where, f"{account!r}: use namespace/name, or a SPIFFE ID")


def _gateway(where: str, value: Any) -> Gateway:
    table = Table(where, value)
    gateway = Gateway(
        name=table.take("name", label),
        namespace=table.take("namespace", label),
        labels=table.take("labels", _labels),
        mutual=table.take("mutual", items(_mutual_server), ()),
    )
    table.end()
    return gateway


def _mutual_server(where: str, value: Any) -> MutualServer:
    table = Table(where, value)
    server = MutualServer(
        port=table.take("port", port_number),
        hosts=table.take("hosts", items(_server_name), ()),
    )
    table.end()
    return server


def _server_name(where: str, value: Any) -> str:
    """What a chain is found by: Istio leaves the namespace out of it, and has none for `*`."""
    if not _HOST.fullmatch(text(where, value).removeprefix("*.")):
        raise mistake(
            where,
            f"{value!r}: a name is needed, without the namespace before it; for *, leave hosts out",
        )
    return str(value)


def _labels(where: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise mistake(where, "labels of the gateway's pods are needed, as in {istio: ingress}")
    return {text(where, key): text(f"{where}.{key}", each) for key, each in value.items()}


def _devices(where: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise mistake(where, "resources are needed, as in {githedgehog.com/tpmrm: 1}")
    return {_resource(where, key): _quantity(f"{where}.{key}", v) for key, v in value.items()}


def _resource(where: str, value: Any) -> str:
    if not _RESOURCE.fullmatch(text(where, value)):
        raise mistake(where, f"{value!r} is no resource of a device plugin: use domain/name")
    return str(value)


def _quantity(where: str, value: Any) -> str:
    if isinstance(value, bool) or not _QUANTITY.fullmatch(str(value)):
        raise mistake(where, "a quantity is needed, as in 1 or 32Mi")
    return str(value)
