"""Builds Envoy's `Secret` messages. Equal content gives equal bytes, in every process."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Sequence

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue

from sidecar._proto.meshkey.sds.v1 import private_key_pb2
from sidecar._proto.third_party import envoy_sds_pb2 as pb
from sidecar.core.trust import TrustBundle
from sidecar.identity.snapshot import Snapshot

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
SECRET = f"{_TLS}.Secret"
_SPIFFE_CONFIG = f"{_TLS}.SPIFFECertValidatorConfig"
_SPIFFE_VALIDATOR = "envoy.tls.cert_validator.spiffe"
# One that Envoy knows: it hides what is in a provider's configuration from its config_dump, and
# of a type that it does not know also the name, with which it then can dump nothing at all.
_BYTES = "type.googleapis.com/google.protobuf.BytesValue"
_PROVIDER = "meshkey"
_VERSION_DIGITS = 16


def tls_certificate(name: str, snapshot: Snapshot) -> bytes:
    """The chain, leaf first, and for the key a message that says where it is, as bytes."""
    key = private_key_pb2.PrivateKey(
        key_id=snapshot.key_id.value, schemes=[int(scheme) for scheme in snapshot.schemes]
    )
    certificate = pb.TlsCertificate(
        certificate_chain=_pem(snapshot.chain.certificates),
        private_key_provider=pb.PrivateKeyProvider(
            provider_name=_PROVIDER,
            typed_config=_any(_BYTES, BytesValue(value=_bytes(key))),
        ),
    )
    return _bytes(pb.Secret(name=name, tls_certificate=certificate))


def trusted_ca(name: str, bundle: TrustBundle) -> bytes:
    """The roots of one trust domain, for Envoy's default validator.

    That one takes every certificate under them; what may be in it is for the configuration
    that refers to this secret to say (`match_typed_subject_alt_names`).
    """
    context = pb.CertificateValidationContext(trusted_ca=_pem(bundle.der()))
    return _bytes(pb.Secret(name=name, validation_context=context))


def spiffe_validator(name: str, bundles: Sequence[TrustBundle]) -> bytes:
    """The roots of each trust domain, for Envoy's SPIFFE validator.

    It takes a certificate under the roots of the trust domain in its SPIFFE ID only.
    """
    config = pb.SPIFFECertValidatorConfig(
        trust_domains=[
            pb.SPIFFECertValidatorConfig.TrustDomain(
                name=bundle.trust_domain, trust_bundle=_pem(bundle.der())
            )
            for bundle in bundles
        ]
    )
    validator = pb.TypedExtensionConfig(
        name=_SPIFFE_VALIDATOR, typed_config=_any(_SPIFFE_CONFIG, config)
    )
    context = pb.CertificateValidationContext(custom_validator_config=validator)
    return _bytes(pb.Secret(name=name, validation_context=context))


def as_any(secret: bytes) -> Any:
    """A secret as responses carry it."""
    return Any(type_url=SECRET, value=secret)


def version(secrets: Iterable[bytes]) -> str:
    """Of these secrets together: of their content alone, so that a restart changes nothing."""
    return hashlib.sha256(b"".join(secrets)).hexdigest()[:_VERSION_DIGITS]


def is_version(text: str) -> bool:
    """Whether `text` can be a version of ours: no long one is kept."""
    return len(text) == _VERSION_DIGITS


def _pem(certificates: Iterable[bytes]) -> pb.DataSource:
    text = "".join(ssl.DER_cert_to_PEM_cert(der) for der in certificates)
    return pb.DataSource(inline_bytes=text.encode())


def _any(type_url: str, message: Message) -> Any:
    return Any(type_url=type_url, value=_bytes(message))


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
