"""Rights at the Kubernetes API: none, unless the CA or the roots are asked for there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sidecar.istio.document import Document, Object, metadata
from sidecar.istio.pods.authority import authority_pod
from sidecar.istio.values import Values

_ROLE = "meshkey-requester"
_ABOUT = """\
What the sidecars may do at the Kubernetes API, and no more: never approve, never sign.

RBAC cannot tie a request to a signer or to whoever made it: every service account of these
namespaces may ask for any identity. Who approves must compare spec.username with the SPIFFE ID.
"""


def access(values: Values) -> Sequence[Document]:
    """A role and who has it; nothing where istiod or istio-csr signs."""
    if not authority_pod(values).uses_api:
        return ()
    return (Document("cluster/access.yaml", _ABOUT, (_role(values), _binding(values))),)


def _role(values: Values) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": metadata(_ROLE),
        "rules": list(_rules(values)),
    }


def _rules(values: Values) -> Iterator[Mapping[str, Sequence[str]]]:
    yield {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests"],
        "verbs": ["create", "get", "watch", "delete"],
    }
    if values.ca.trust_bundle:
        yield {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["clustertrustbundles"],
            "resourceNames": [values.ca.trust_bundle],
            "verbs": ["get"],
        }


def _binding(values: Values) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata(_ROLE),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _ROLE},
        "subjects": [
            {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Group",
                "name": f"system:serviceaccounts:{namespace}",
            }
            for namespace in values.signer_namespaces
        ],
    }
