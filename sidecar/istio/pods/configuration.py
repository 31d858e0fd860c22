"""meshkey.toml: one ConfigMap for all sidecars of a namespace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from sidecar.istio.document import Document, metadata
from sidecar.istio.names import (
    ADMIN_SOCKET,
    CONFIG_MAP,
    PROXY_GROUP,
    PROXY_USER,
    SDS_DIRECTORY,
    SDS_SOCKET_FILE,
    SIGNER_SOCKET,
)
from sidecar.istio.pods.authority import authority_pod
from sidecar.istio.pods.tokens import TOKEN_LABEL, token_pod
from sidecar.istio.pods.volumes import ISTIO_ROOTS_DIRECTORY, STORE_DIRECTORY
from sidecar.istio.values import Values

_Setting = str | int | Sequence[str]
_Section = tuple[str, Mapping[str, _Setting]]

_ABOUT = """\
The sidecars' configuration. A changed one counts for pods that start after that; `meshkey reload`
in a pod takes up what can change without a restart.

identity.spiffe_id is not in it: the injection template sets MESHKEY_IDENTITY_SPIFFE_ID from the
pod's namespace and service account.
"""


def configuration(values: Values) -> Sequence[Document]:
    """One file for each namespace with sidecars."""
    return [_document(values, namespace) for namespace in values.signer_namespaces]


def meshkey_toml(values: Values) -> str:
    """The file, in TOML."""
    return "\n".join(_text(section) for section in _sections(values))


def _document(values: Values, namespace: str) -> Document:
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(CONFIG_MAP, namespace),
        "data": {"meshkey.toml": meshkey_toml(values)},
    }
    return Document(f"namespaces/{namespace}/configuration.yaml", _ABOUT, (config_map,))


def _sections(values: Values) -> Iterator[_Section]:
    yield "[token]", _token(values)
    yield "[identity]", _identity(values)
    if bundle := values.ca.trust_bundle:
        yield "[[trust]]", {"trust_domain": values.trust_domain, "cluster_trust_bundle": bundle}
    yield "[ca]", authority_pod(values).settings
    yield "[signer]", {"socket": SIGNER_SOCKET}
    yield "[sds]", _sds()
    yield "[admin]", {"socket": ADMIN_SOCKET}
    yield (
        "[[caller]]",
        {
            "name": "istio-proxy",
            "uid": PROXY_USER,
            "gid": PROXY_GROUP,
            "identities": ["default"],
            "purposes": ["tls13-server", "tls13-client"],
        },
    )


def _token(values: Values) -> Mapping[str, _Setting]:
    return {
        "label": TOKEN_LABEL,
        "pin_file": f"{STORE_DIRECTORY}/{TOKEN_LABEL}.pin",
        "state": f"{STORE_DIRECTORY}/token",
        **token_pod(values).settings,
    }


def _identity(values: Values) -> Mapping[str, _Setting]:
    roots = {"trust_bundle": f"{ISTIO_ROOTS_DIRECTORY}/root-cert.pem"}
    state = {"state": f"{STORE_DIRECTORY}/identity"}
    return {
        **({} if values.ca.trust_bundle else roots),
        "lifetime": "1h",
        **(state if token_pod(values).born_with_pod else {}),
    }


def _sds() -> Mapping[str, _Setting]:
    # Istio's proxies ask for `default`, too, which a stock Envoy refuses: they sign by the module.
    return {"socket": f"{SDS_DIRECTORY}/{SDS_SOCKET_FILE}", "refused_certificates": "expected"}


def _text(section: _Section) -> str:
    name, settings = section
    # Texts, numbers and lists of texts are the same in JSON and in TOML.
    return "".join([f"{name}\n", *(f"{key} = {json.dumps(v)}\n" for key, v in settings.items())])
