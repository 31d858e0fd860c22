"""From a document of plain YAML data to `Values`, each mistake named by where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from typing import Protocol as Shape

from sidecar.core.spiffe import SpiffeId, trust_domain
from sidecar.errors import ConfigurationError
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

_T = TypeVar("_T")
_Result_co = TypeVar("_Result_co", covariant=True)
# RFC 1123 labels and names made of them, as Kubernetes wants them.
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")


class _Convert(Shape[_Result_co]):
    """From a value of the document, and where it stands for the error."""

    def __call__(self, where: str, value: Any, /) -> _Result_co: ...


def parse(document: Any) -> Values:
    """From plain YAML data.

    Raises:
        ConfigurationError: naming the value, what is wrong and what is expected.
    """
    root = _Table("values", document)
    domain = root.take("trust_domain", _trust_domain)
    values = Values(
        trust_domain=domain,
        images=root.take("images", _images),
        istio=root.take("istio", _istio, Istio()),
        token=root.take("token", _one_of(Token), Token.SOFTHSM2),
        ca=root.take("ca", _ca, Ca()),
        namespaces=root.take("namespaces", _some(_namespace)),
        services=root.take("services", _list(lambda where, v: _service(where, v, domain)), ()),
        gateways=root.take("gateways", _list(_gateway), ()),
        policies=root.take("policies", _list(lambda where, v: Path(_text(where, v))), ()),
    )
    root.end()
    return values


class _Table:
    """A mapping whose values are taken one by one; what is left over is a mistake."""

    def __init__(self, where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise _mistake(where, "a mapping is needed")
        self._where = where
        self._left = dict(value)
        self._known: list[str] = []

    def take(self, key: str, convert: _Convert[_T], default: _T | None = None) -> _T:
        self._known.append(key)
        if key in self._left:
            return convert(f"{self._where}.{key}", self._left.pop(key))
        if default is None:
            raise _mistake(f"{self._where}.{key}", "is missing")
        return default

    def end(self) -> None:
        for key in self._left:
            raise _mistake(f"{self._where}.{key}", f"unknown; known: {', '.join(self._known)}")


def _mistake(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: {what}")


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _mistake(where, "a text is needed; put it in quotes if it looks like something else")
    return value


def _trust_domain(where: str, value: Any) -> str:
    try:
        return trust_domain(_text(where, value))
    except ValueError as error:
        raise _mistake(where, str(error)) from None


def _label(where: str, value: Any) -> str:
    if not _LABEL.fullmatch(_text(where, value)):
        raise _mistake(where, f"{value!r} is no name of Kubernetes: use a-z, 0-9 and dashes")
    return str(value)


def _host(where: str, value: Any) -> str:
    if not _HOST.fullmatch(_text(where, value)) or "." not in value:
        raise _mistake(
            where, f"{value!r}: the whole name is needed, as in server.demo.svc.cluster.local"
        )
    return str(value)


def _number(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise _mistake(where, "a port number is needed")
    return value


_E = TypeVar("_E", bound=StrEnum)


def _one_of(kind: type[_E]) -> _Convert[_E]:
    def convert(where: str, value: Any) -> _E:
        if value not in list(kind):
            raise _mistake(where, f"{value!r}: use one of {', '.join(kind)}")
        return kind(value)

    return convert


def _list(convert: _Convert[_T]) -> _Convert[tuple[_T, ...]]:
    def convert_all(where: str, value: Any) -> tuple[_T, ...]:
        if not isinstance(value, list):
            raise _mistake(where, "a list is needed")
        return tuple(convert(f"{where}[{index}]", each) for index, each in enumerate(value))

    return convert_all


def _some(convert: _Convert[_T]) -> _Convert[tuple[_T, ...]]:
    def convert_all(where: str, value: Any) -> tuple[_T, ...]:
        if not (converted := _list(convert)(where, value)):
            raise _mistake(where, "an empty list: name at least one")
        return converted

    return convert_all


def _images(where: str, value: Any) -> Images:
    table = _Table(where, value)
    images = Images(meshkey=table.take("meshkey", _text), proxy=table.take("proxy", _text))
    table.end()
    return images


def _istio(where: str, value: Any) -> Istio:
    table = _Table(where, value)
    istio = Istio(
        namespace=table.take("namespace", _label, Istio.namespace),
        revision=table.take("revision", lambda w, v: v and _label(w, v), Istio.revision),
    )
    table.end()
    return istio


def _ca(where: str, value: Any) -> Ca:
    table = _Table(where, value)
    kind = table.take("kind", _one_of(CaKind), CaKind.ISTIOD)
    signer = table.take("signer", _text, "")
    table.end()
    if (kind is CaKind.KUBERNETES) != bool(signer):
        raise _mistake(f"{where}.signer", "the signerName; for kind kubernetes, and for it alone")
    return Ca(kind, signer or None)


def _namespace(where: str, value: Any) -> Namespace:
    table = _Table(where, value)
    namespace = Namespace(
        name=table.take("name", _label), mtls=table.take("mtls", _one_of(Mtls), Mtls.STRICT)
    )
    table.end()
    return namespace


def _service(where: str, value: Any, domain: str) -> Service:
    table = _Table(where, value)
    service = Service(
        host=table.take("host", _host),
        ports=table.take("ports", _some(_port)),
        peers=table.take(
            "service_accounts", _some(lambda where, v: _service_account(where, v, domain))
        ),
    )
    table.end()
    return service


def _port(where: str, value: Any) -> Port:
    table = _Table(where, value)
    port = Port(
        number=table.take("number", _number),
        protocol=table.take("protocol", _one_of(Protocol), Protocol.HTTP),
    )
    table.end()
    return port


def _service_account(where: str, value: Any, domain: str) -> SpiffeId:
    """`namespace/name` in the mesh's own trust domain, or a whole SPIFFE ID of another's."""
    text = _text(where, value)
    try:
        if text.startswith("spiffe://"):
            return SpiffeId.parse(text)
        namespace, slash, name = text.partition("/")
        if namespace and slash and name:
            return SpiffeId.parse(f"spiffe://{domain}/ns/{namespace}/sa/{name}")
    except ValueError as error:
        raise _mistake(where, str(error)) from None
    raise _mistake(where, f"{text!r}: use namespace/name, or a SPIFFE ID")


def _gateway(where: str, value: Any) -> Gateway:
    table = _Table(where, value)
    gateway = Gateway(
        name=table.take("name", _label),
        namespace=table.take("namespace", _label),
        labels=table.take("labels", _labels),
        mutual=table.take("mutual", _list(_mutual_server), ()),
    )
    table.end()
    return gateway


def _mutual_server(where: str, value: Any) -> MutualServer:
    table = _Table(where, value)
    server = MutualServer(
        port=table.take("port", _number),
        hosts=table.take("hosts", _list(_text), ()),
    )
    table.end()
    return server


def _labels(where: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise _mistake(where, "labels of the gateway's pods are needed, as in {istio: ingress}")
    return {_text(where, key): _text(f"{where}.{key}", each) for key, each in value.items()}
