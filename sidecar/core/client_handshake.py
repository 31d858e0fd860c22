"""The content that a TLS 1.2 client's CertificateVerify signs (RFC 5246 section 7.4.8)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from sidecar.core.ecdh_parameters import EcdhParameters, EcPoint
from sidecar.core.hello import ClientHello, ServerHello
from sidecar.core.schemes import SignatureScheme
from sidecar.core.tls_bytes import Reader, listed, numbers, vector, vectors

_MOST_BYTES = 64 * 1024
_OCSP = b"\x01"


class _Type(IntEnum):
    """HandshakeType, and how messages spell it."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CLIENT_KEY_EXCHANGE = 16
    CERTIFICATE_STATUS = 22


@dataclass(frozen=True)
class SignedParameters:
    """The body of a ServerKeyExchange; whose signature it is, the client checked."""

    parameters: EcdhParameters
    scheme: int
    signature: bytes

    @classmethod
    def parse(cls, body: bytes) -> SignedParameters:
        reader = Reader(body, "ServerKeyExchange")
        parameters = EcdhParameters.read(reader)
        scheme = reader.number(2)
        signature = reader.vector(2, least=1)
        reader.end()
        return cls(parameters, scheme, signature)

    def encode(self) -> bytes:
        return self.parameters.encode() + self.scheme.to_bytes(2) + vector(self.signature, 2)


@dataclass(frozen=True)
class CertificateRequest:
    """The body of a CertificateRequest (RFC 5246 section 7.4.4)."""

    certificate_types: bytes
    schemes: tuple[int, ...]
    authorities: tuple[bytes, ...]

    @classmethod
    def parse(cls, body: bytes) -> CertificateRequest:
        reader = Reader(body, "CertificateRequest")
        types = reader.vector(1, least=1)
        schemes = numbers(reader.vector(2, least=2), "CertificateRequest's list of schemes")
        authorities = vectors(reader.vector(2), "CertificateRequest's list of authorities", 2)
        reader.end()
        return cls(types, schemes, authorities)

    def encode(self) -> bytes:
        schemes = listed(self.schemes)
        authorities = b"".join(vector(name, 2) for name in self.authorities)
        return vector(self.certificate_types, 1) + vector(schemes, 2) + vector(authorities, 2)


@dataclass(frozen=True)
class ClientHandshake:
    """Every message of one full handshake, from ClientHello to ClientKeyExchange."""

    client_hello: ClientHello
    server_hello: ServerHello
    server_certificates: tuple[bytes, ...]
    # What CertificateStatus holds; `None` if the server sent none.
    ocsp_response: bytes | None
    server_key_exchange: SignedParameters
    certificate_request: CertificateRequest
    client_certificates: tuple[bytes, ...]
    client_key: EcPoint

    @classmethod
    def parse(
        cls, message: bytes, leaves: Collection[bytes], scheme: SignatureScheme
    ) -> ClientHandshake:
        """Accepts exactly that, where it asks for `scheme` and shows one of `leaves` (DER).

        Raises:
            ValueError: with the part that differs; never with bytes of the message.
        """
        if len(message) > _MOST_BYTES:
            raise ValueError(f"the handshake has {len(message)} bytes, at most {_MOST_BYTES}")
        reader = Reader(message, "handshake")
        hello = ClientHello.parse(_body(reader, _Type.CLIENT_HELLO))
        server_hello = ServerHello.parse(_body(reader, _Type.SERVER_HELLO), hello)
        server_certificates = _certificates(reader)
        ocsp_response = _ocsp_response(reader)
        exchange = SignedParameters.parse(_body(reader, _Type.SERVER_KEY_EXCHANGE))
        request = CertificateRequest.parse(_body(reader, _Type.CERTIFICATE_REQUEST))
        Reader(_body(reader, _Type.SERVER_HELLO_DONE), "ServerHelloDone").end()
        client_certificates = _certificates(reader)
        client_key = _client_key(reader, exchange.parameters)
        reader.end()
        if scheme not in request.schemes:
            raise ValueError(f"the CertificateRequest does not list scheme 0x{scheme:04x}")
        if client_certificates[0] not in leaves:
            raise ValueError("the client's first certificate is none of this key's")
        return cls(
            hello,
            server_hello,
            server_certificates,
            ocsp_response,
            exchange,
            request,
            client_certificates,
            client_key,
        )

    def encode(self) -> bytes:
        """At most 64 KiB."""
        messages = [
            (_Type.CLIENT_HELLO, self.client_hello.encode()),
            (_Type.SERVER_HELLO, self.server_hello.encode()),
            (_Type.CERTIFICATE, _certificate_list(self.server_certificates)),
            (_Type.SERVER_KEY_EXCHANGE, self.server_key_exchange.encode()),
            (_Type.CERTIFICATE_REQUEST, self.certificate_request.encode()),
            (_Type.SERVER_HELLO_DONE, b""),
            (_Type.CERTIFICATE, _certificate_list(self.client_certificates)),
            (_Type.CLIENT_KEY_EXCHANGE, self.client_key.encode()),
        ]
        if self.ocsp_response is not None:
            status = _OCSP + vector(self.ocsp_response, 3)
            messages.insert(3, (_Type.CERTIFICATE_STATUS, status))
        return b"".join(bytes([kind]) + vector(body, 3) for kind, body in messages)


def _body(reader: Reader, kind: _Type) -> bytes:
    if not reader.is_next(kind):
        raise ValueError(f"the handshake has no {_name(kind)} where it belongs")
    reader.take(1)
    return reader.vector(3)


def _name(kind: _Type) -> str:
    return "".join(word.capitalize() for word in kind.name.split("_"))


def _certificates(reader: Reader) -> tuple[bytes, ...]:
    inner = Reader(_body(reader, _Type.CERTIFICATE), "Certificate")
    # RFC 5246 section 7.4.6: a client without one sends an empty list, and signs nothing.
    certificates = vectors(inner.vector(3, least=1), "Certificate's list", 3)
    inner.end()
    return certificates


def _certificate_list(certificates: tuple[bytes, ...]) -> bytes:
    return vector(b"".join(vector(each, 3) for each in certificates), 3)


def _ocsp_response(reader: Reader) -> bytes | None:
    # RFC 6066 section 8: directly after the server's Certificate, or not at all.
    if not reader.is_next(_Type.CERTIFICATE_STATUS):
        return None
    inner = Reader(_body(reader, _Type.CERTIFICATE_STATUS), "CertificateStatus")
    if inner.take(1) != _OCSP:
        raise ValueError("the CertificateStatus holds no OCSP answer")
    response = inner.vector(3, least=1)
    inner.end()
    return response


def _client_key(reader: Reader, parameters: EcdhParameters) -> EcPoint:
    # RFC 8422 section 5.7: a point on the curve that the server chose.
    inner = Reader(_body(reader, _Type.CLIENT_KEY_EXCHANGE), "ClientKeyExchange")
    point = EcPoint.read(inner, parameters.public.curve)
    inner.end()
    return point
