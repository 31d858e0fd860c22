"""Who is meant by a policy's source, as conditions on the attributes of `identity`.

Each says what Istio says of the same words, for the SPIFFE IDs that Istio gives to workloads. One
exception: Istio reads `*a` among namespaces as anything before `a/`, which `sa/` always is; here it
is a namespace that ends so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.istio.mesh.identity import Attribute

Condition = Mapping[str, Any]

# By how they are called in a source, and as the key of a condition.
IDENTITIES = {
    "principals": "source.principal",
    "namespaces": "source.namespace",
    "serviceAccounts": "source.serviceAccount",
    "trustDomains": "source.trustDomain",
}
# The trust domain that stands for the mesh's own, whatever that is.
_OWN = "cluster.local"


@dataclass(frozen=True)
class Mesh:
    """What short names are completed with."""

    trust_domain: str
    namespace: str


def condition(where: str, identity: str, values: Any, mesh: Mesh) -> Condition:
    """One of `when` that any of the values satisfies.

    Raises:
        ConfigurationError: for what cannot be said so, naming `where` it stands.
    """
    if not isinstance(values, list):
        raise ConfigurationError(f"{where}: a list is needed")
    for value in values:
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"{where}: {value!r}: a text is needed")
    attribute, convert = _CONVERSIONS[identity]
    return {"key": attribute.key, "values": [convert(where, value, mesh) for value in values]}


def _principal(where: str, value: str, mesh: Mesh) -> str:  # noqa: ARG001 # one signature for all
    domain, slash, rest = value.partition("/")
    if domain == _OWN and rest.count("/") == 3:  # ns/<name>/sa/<name>
        return f"{mesh.trust_domain}{slash}{rest}"
    return value


def _namespace(where: str, value: str, mesh: Mesh) -> str:  # noqa: ARG001 # one signature for all
    if "*" in value[1:-1] or (value.count("*") > 1):
        raise ConfigurationError(f"{where}: {value!r}: a * can only be the first or the last")
    return value


def _service_account(where: str, value: str, mesh: Mesh) -> str:
    namespace, slash, name = value.rpartition("/")
    if "*" in value or "/" in namespace or (slash and not namespace):
        raise ConfigurationError(f"{where}: {value!r}: use name, or namespace/name")
    return f"*/ns/{namespace or mesh.namespace}/sa/{name}"


def _trust_domain(where: str, value: str, mesh: Mesh) -> str:  # noqa: ARG001 # one signature for all
    if value == "*":
        return value
    if "*" in value:
        raise ConfigurationError(f"{where}: {value!r}: name each trust domain, or use * alone")
    return f"{value}/*"


_CONVERSIONS: Mapping[str, tuple[Attribute, Callable[[str, str, Mesh], str]]] = {
    "principals": (Attribute.PRINCIPAL, _principal),
    "namespaces": (Attribute.NAMESPACE, _namespace),
    "serviceAccounts": (Attribute.PRINCIPAL, _service_account),
    "trustDomains": (Attribute.PRINCIPAL, _trust_domain),
}
