"""What Istio's CAs sign, refuse and answer, as their source of 2026-08 has it.

istiod: security/pkg/pki/ca/ca.go. RA mode: security/pkg/pki/ra and security/pkg/k8s/chiron.
istio-csr: pkg/server, and what cert-manager (pkg/util/pki) makes of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidecar.core.public_key import PublicKey, algorithm_of
from sidecar.core.unreadable import UNREADABLE
from tests.fakes.istio_pki import MeshPki, pem

_MAX_LIFETIME = timedelta(days=90)
_DEFAULT_LIFETIME = timedelta(days=1)


class Refused(Exception):
    """What the client is told, and the reason in the CA's own log."""

    def __init__(self, code: grpc.StatusCode, told: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.told = told
        self.reason = reason


@dataclass(frozen=True)
class Asked:
    """A request whose sender is known to be `caller`, a SPIFFE ID."""

    caller: str
    csr: str
    lifetime: timedelta
    signer: str = ""


@dataclass
class Rules(ABC):
    """One kind of CA."""

    pki: MeshPki = field(default_factory=MeshPki)

    @abstractmethod
    def chain(self, asked: Asked) -> list[str]:
        """PEM elements of the answer.

        Raises:
            Refused: with the rule that the request breaks.
        """

    @property
    def _root(self) -> str:
        return pem(self.pki.root.certificate)

    @property
    def _intermediate(self) -> str:
        return pem(self.pki.intermediate.certificate)


@dataclass
class Istiod(Rules):
    """Its own CA: of a request it takes the key, and that a common name is wished."""

    def chain(self, asked: Asked) -> list[str]:
        request = _proven(asked.csr, _invalid)
        _require_lifetime(asked.lifetime)
        lifetime = asked.lifetime if asked.lifetime > timedelta(0) else _DEFAULT_LIFETIME
        wishes_name = bool(request.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        name = x509.NameAttribute(NameOID.COMMON_NAME, asked.caller)
        leaf = self.pki.leaf(
            _key(request, _invalid),
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(asked.caller)]),
            lifetime,
            subject=x509.Name([name] if wishes_name else []),
        )
        # cert-chain.pem, as Istio's own recipe makes it, ends with the root.
        return [leaf, self._intermediate, self._root, self._root]


@dataclass
class IstiodRa(Rules):
    """Its RA mode: a signer of the Kubernetes CSR API behind it."""

    since_1_26: bool = True
    signer_domain: str = ""
    signers: tuple[str, ...] = ()

    def chain(self, asked: Asked) -> list[str]:
        request = _proven(asked.csr, _invalid)
        self._require_only_identities(request, asked.caller)
        _require_lifetime(asked.lifetime)
        self._require_signer(asked.signer)
        if asked.lifetime and asked.lifetime < timedelta(minutes=10):
            raise _internal("the Kubernetes API refuses expirationSeconds below 600")
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        leaf = self.pki.leaf(_key(request, _invalid), names, asked.lifetime or _DEFAULT_LIFETIME)
        # With a signer the root comes from the mesh configuration; without, from a file that is
        # also appended to what was signed.
        signed = [leaf, self._intermediate] + ([] if asked.signer else [self._root])
        return [*(signed if self.since_1_26 else ["".join(signed)]), self._root]

    def _require_only_identities(
        self, request: x509.CertificateSigningRequest, caller: str
    ) -> None:
        extensions = list(request.extensions)
        names = [e.value for e in extensions if isinstance(e.value, x509.SubjectAlternativeName)]
        if not names:
            raise _invalid("no subject alternative name")
        if any(name.value != caller for name in names[0]):
            raise _invalid("a name that is not the caller's")
        if len(names[0]) > 1:
            raise _invalid("more than one URI")
        if len(extensions) > 1:
            raise _invalid("another extension")
        self._require_no_subject(request.subject)

    def _require_no_subject(self, subject: x509.Name) -> None:
        if not len(subject) and not self.since_1_26:
            raise _invalid("no organization in the subject")
        if any(attribute.oid != NameOID.ORGANIZATION_NAME for attribute in subject):
            raise _invalid("more than an organization in the subject")
        if any(attribute.value for attribute in subject):
            raise _invalid("the organization is not empty")

    def _require_signer(self, signer: str) -> None:
        if signer and not self.signer_domain:
            raise _internal("a signer needs a signer domain")
        if signer and signer not in self.signers:
            raise _internal("nobody signed in time")


@dataclass
class IstioCsr(Rules):
    """cert-manager's; an issuer of the kind CA behind it."""

    max_lifetime: timedelta = timedelta(hours=1)

    def chain(self, asked: Asked) -> list[str]:
        request = _proven(asked.csr, unauthenticated)
        self._require_exact_identity(request, asked.caller)
        if asked.lifetime <= timedelta(0):
            raise _unsigned("the certificate would be expired")
        self._require_usages_of_the_issuer(request)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        leaf = self.pki.leaf(
            _key(request, unauthenticated),
            names,
            min(asked.lifetime, self.max_lifetime),
            usages=(),
            backdated=timedelta(0),
            subject=request.subject,
        )
        return [leaf, self._intermediate, self._root]

    def _require_exact_identity(self, request: x509.CertificateSigningRequest, caller: str) -> None:
        if request.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            raise unauthenticated("a common name")
        uris: list[str] = []
        for extension in request.extensions:
            value = extension.value
            if isinstance(value, x509.SubjectAlternativeName):
                uris = value.get_values_for_type(x509.UniformResourceIdentifier)
                if len(uris) != len(value):
                    raise unauthenticated("a name that is no URI")
            elif not _is_usage_of_tls(value):
                raise unauthenticated("a forbidden extension")
        if uris != [caller]:
            raise unauthenticated("the URIs are not the caller's")

    def _require_usages_of_the_issuer(self, request: x509.CertificateSigningRequest) -> None:
        asked_for = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        values = [extension.value for extension in request.extensions]
        usages = [usage for v in values if isinstance(v, x509.ExtendedKeyUsage) for usage in v]
        plain = any(isinstance(value, x509.KeyUsage) for value in values)
        if plain or (usages and usages != asked_for):
            raise _unsigned("cert-manager wants the request's usages to be those of its object")


def unauthenticated(reason: str) -> Refused:
    return Refused(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure", reason)


def _invalid(reason: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, f"CSR signing error ({reason})", reason)


def _internal(reason: str) -> Refused:
    return Refused(grpc.StatusCode.INTERNAL, f"CSR signing error ({reason})", reason)


def _unsigned(reason: str) -> Refused:
    return Refused(grpc.StatusCode.INTERNAL, "failed to sign certificate request", reason)


def _proven(csr: str, refusal: Callable[[str], Refused]) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        proven = request.is_signature_valid
        list(request.extensions)
    except UNREADABLE as error:
        raise refusal("the CSR cannot be parsed") from error
    if not proven:
        raise refusal("the CSR is not signed by its key")
    return request


def _key(request: x509.CertificateSigningRequest, refusal: Callable[[str], Refused]) -> PublicKey:
    key = request.public_key()
    if algorithm_of(key) is None:  # crypto/x509 reads few curves
        raise refusal("the CSR's key is of an unknown kind")
    assert isinstance(key, PublicKey)
    return key


def _require_lifetime(lifetime: timedelta) -> None:
    if lifetime > _MAX_LIFETIME:
        raise _invalid("the TTL is above the maximum")


def _is_usage_of_tls(value: x509.ExtensionType) -> bool:
    if isinstance(value, x509.ExtendedKeyUsage):
        tls = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
        return set(value) <= tls
    allowed = {"digital_signature", "key_encipherment"}
    return isinstance(value, x509.KeyUsage) and all(
        not getattr(value, name) for name in _USAGES if name not in allowed
    )


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
