"""Who may answer for which host: a file that the module watches, so that a change needs no push."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sidecar.istio.document import Document, metadata
from sidecar.istio.names import PEERS_CONFIG_MAP, PEERS_FILE
from sidecar.istio.values import Values

_ABOUT = """\
Who may answer for which host: exactly these. The proxies follow a change by themselves, as soon
as the kubelet has brought it.
"""


def peers(values: Values) -> Sequence[Document]:
    """One for each namespace of workloads or gateways, also where nothing is called yet."""
    return [_document(values, namespace) for namespace in values.signer_namespaces]


def _document(values: Values, namespace: str) -> Document:
    lists = {each.host: [str(peer) for peer in each.peers] for each in values.services}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(PEERS_CONFIG_MAP, namespace),
        "data": {PEERS_FILE.rpartition("/")[2]: json.dumps(lists, indent=2) + "\n"},
    }
    return Document(f"namespaces/{namespace}/peers.yaml", _ABOUT, (config_map,))
