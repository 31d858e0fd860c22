"""What the real API server checks when a CertificateSigningRequest is created.

After kubernetes/kubernetes, pkg/apis/certificates/validation/validation.go and
pkg/apis/core/validation (names), and the strict field validation of API machinery.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from cryptography import x509

from sidecar.core.unreadable import UNREADABLE

_FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "metadata": {"name", "labels", "annotations"},
    "spec": {"request", "signerName", "expirationSeconds", "usages"},
}
_USAGES = {
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
}
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_PEM = re.compile(
    rb"\s*-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/=\n]+)"
    rb"-----END CERTIFICATE REQUEST-----\s*"
)


def unknown_fields(body: dict[str, Any]) -> list[str]:
    """Fields that nobody may set on creation; the status is one."""
    parts = {"": body, "metadata": body.get("metadata", {}), "spec": body.get("spec", {})}
    return [f"{path}.{name}" for path in parts for name in parts[path].keys() - _FIELDS[path]]


def broken_rules(body: dict[str, Any]) -> list[str]:
    """Each as `field: what is wrong`."""
    metadata, spec = body.get("metadata", {}), body.get("spec", {})
    found = [
        (body.get("apiVersion") != "certificates.k8s.io/v1", "apiVersion: wrong"),
        (body.get("kind") != "CertificateSigningRequest", "kind: wrong"),
        (not _is_subdomain(metadata.get("name")), "metadata.name: Invalid value"),
        (not _is_signer_name(spec.get("signerName")), "spec.signerName: Invalid value"),
        (not spec.get("usages"), "spec.usages: Required value"),
        (not set(spec.get("usages", [])) <= _USAGES, "spec.usages: Unsupported value"),
        (len(set(spec.get("usages", []))) < len(spec.get("usages", [])), "spec.usages: Duplicate"),
        (
            not _is_lifetime(spec.get("expirationSeconds", 600)),
            "spec.expirationSeconds: Invalid value: may not specify a duration less than 600 "
            "seconds (10 minutes)",
        ),
        (request_of(body) is None, "spec.request: Invalid value"),
    ]
    return [text for broken, text in found if broken]


def request_of(body: dict[str, Any]) -> x509.CertificateSigningRequest | None:
    """The signed request in base64 of PEM; `None` if it is anything else."""
    try:
        pem = base64.b64decode(body["spec"]["request"], validate=True)
        if not _PEM.fullmatch(pem):
            return None
        request = x509.load_pem_x509_csr(pem)
        signed = request.is_signature_valid
    except (KeyError, TypeError, binascii.Error, *UNREADABLE):
        return None
    return request if signed else None


def _is_subdomain(name: object) -> bool:
    return isinstance(name, str) and len(name) <= 253 and bool(_SUBDOMAIN.fullmatch(name))


def _is_signer_name(name: object) -> bool:
    if not isinstance(name, str) or name == "kubernetes.io/legacy-unknown":
        return False
    domain, slash, path = name.partition("/")
    return bool(slash) and _is_subdomain(domain) and "." in domain and _is_subdomain(path)


def _is_lifetime(seconds: object) -> bool:
    return isinstance(seconds, int) and 600 <= seconds < 2**31
