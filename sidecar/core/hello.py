"""ClientHello and ServerHello of a TLS 1.2 handshake (RFC 5246 section 7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.core.server_key_exchange import TLS12_SENTINEL
from sidecar.core.tls_bytes import Reader, listed, numbers, vector

_TLS12 = b"\x03\x03"
_TLS13 = b"\x03\x04"
_NO_COMPRESSION = b"\x00"
_RANDOM_BYTES = 32
_MOST_SESSION_ID_BYTES = 32

# Extensions, as IANA numbers them.
_EXTENDED_MASTER_SECRET = 23  # RFC 7627
_SUPPORTED_VERSIONS = 43  # RFC 8446 section 4.2.1
_RENEGOTIATION_INFO = 0xFF01  # RFC 5746
# RFC 5746 section 3.3: a cipher suite that stands for an empty renegotiation_info.
_RENEGOTIATION_SCSV = 0x00FF
# A vector without content: there is no handshake before this one.
_FIRST_HANDSHAKE = b"\x00"

# RFC 8446 section 4.1.3: the server speaks TLS 1.3 and was made to choose 1.2, or 1.1 and below.
_DOWNGRADES = (TLS12_SENTINEL, b"DOWNGRD\x00")

# ECDHE with an AEAD: what RFC 9325 section 4.2 recommends, with ChaCha20 (RFC 7905). The key
# exchange of others is not signed, or not of this shape.
_SUITES = frozenset(
    {
        0xC02B,  # ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        0xC02C,  # ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        0xC02F,  # ECDHE_RSA_WITH_AES_128_GCM_SHA256
        0xC030,  # ECDHE_RSA_WITH_AES_256_GCM_SHA384
        0xCCA8,  # ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        0xCCA9,  # ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    }
)


@dataclass(frozen=True)
class Extensions:
    """Extensions by number, in the order in which they were sent (RFC 5246 section 7.4.1.4)."""

    by_number: Mapping[int, bytes]

    @classmethod
    def read(cls, reader: Reader, name: str) -> Extensions:
        """A list of extensions: what the hello `name` ends with."""
        inner = Reader(reader.vector(2), f"{name}'s extensions")
        found: dict[int, bytes] = {}
        while inner.has_more:
            number = inner.number(2)
            if number in found:
                raise ValueError(f"the {name} has extension {number} twice")
            found[number] = inner.vector(2)
        # RFC 7627 section 5.1: the extension has no content. Without it a man in the middle
        # can give two connections one master secret, and one of them this signature.
        if found.get(_EXTENDED_MASTER_SECRET) != b"":
            raise ValueError(f"the {name} has no extended_master_secret (RFC 7627)")
        return cls(found)

    def encode(self) -> bytes:
        return vector(
            b"".join(
                number.to_bytes(2) + vector(data, 2) for number, data in self.by_number.items()
            ),
            2,
        )


@dataclass(frozen=True)
class ClientHello:
    """The body of a ClientHello that offers TLS 1.2, maybe among other versions."""

    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    extensions: Extensions

    @classmethod
    def parse(cls, body: bytes) -> ClientHello:
        """Accepts the hello of a first handshake with the extended master secret.

        Raises:
            ValueError: with the part that differs.
        """
        reader = Reader(body, "ClientHello")
        random, session_id = _beginning(reader, "ClientHello")
        suites = numbers(reader.vector(2, least=2), "ClientHello's list of cipher suites")
        # RFC 9325 section 3.3; a client that offers TLS 1.3 must do so (RFC 8446 4.1.2).
        if reader.vector(1, least=1) != _NO_COMPRESSION:
            raise ValueError("the ClientHello offers compression")
        extensions = Extensions.read(reader, "ClientHello")
        reader.end()
        renegotiation = extensions.by_number.get(_RENEGOTIATION_INFO, _FIRST_HANDSHAKE)
        if renegotiation != _FIRST_HANDSHAKE:
            raise ValueError("the ClientHello is of a renegotiation (RFC 5746)")
        return cls(random, session_id, suites, extensions)

    def encode(self) -> bytes:
        return (
            _TLS12
            + self.random
            + vector(self.session_id, 1)
            + vector(listed(self.cipher_suites), 2)
            + vector(_NO_COMPRESSION, 1)
            + self.extensions.encode()
        )

    @property
    def offers_tls13(self) -> bool:
        versions = Reader(self.extensions.by_number.get(_SUPPORTED_VERSIONS, b"\0"), "versions")
        offered = numbers(versions.vector(1), "ClientHello's list of versions")
        versions.end()
        return int.from_bytes(_TLS13) in offered

    def asked_for(self, extension: int) -> bool:
        """Whether a server may answer with `extension` (RFC 5246 section 7.4.1.4)."""
        by_suite = extension == _RENEGOTIATION_INFO and _RENEGOTIATION_SCSV in self.cipher_suites
        return by_suite or extension in self.extensions.by_number


@dataclass(frozen=True)
class ServerHello:
    """The body of a ServerHello that chooses TLS 1.2."""

    random: bytes
    session_id: bytes
    cipher_suite: int
    extensions: Extensions

    @classmethod
    def parse(cls, body: bytes, client: ClientHello) -> ServerHello:
        """Accepts an answer to `client` that leads to a handshake which a client may sign.

        Raises:
            ValueError: with the part that differs.
        """
        reader = Reader(body, "ServerHello")
        random, session_id = _beginning(reader, "ServerHello")
        suite = reader.number(2)
        if reader.take(1) != _NO_COMPRESSION:
            raise ValueError("the ServerHello chooses compression")
        extensions = Extensions.read(reader, "ServerHello")
        reader.end()
        _check_suite(suite, client)
        _check_answer(extensions, client)
        # RFC 8446 section 4.1.3: such a client ends the handshake.
        if client.offers_tls13 and random.endswith(_DOWNGRADES):
            raise ValueError("both sides speak TLS 1.3 and 1.2 was chosen: a downgrade")
        return cls(random, session_id, suite, extensions)

    def encode(self) -> bytes:
        return (
            _TLS12
            + self.random
            + vector(self.session_id, 1)
            + self.cipher_suite.to_bytes(2)
            + _NO_COMPRESSION
            + self.extensions.encode()
        )


def _beginning(reader: Reader, name: str) -> tuple[bytes, bytes]:
    if reader.take(2) != _TLS12:
        raise ValueError(f"the {name}'s version is not TLS 1.2")
    random = reader.take(_RANDOM_BYTES)
    session_id = reader.vector(1)
    if len(session_id) > _MOST_SESSION_ID_BYTES:
        raise ValueError(f"the {name}'s session ID has {len(session_id)} bytes, at most 32")
    return random, session_id


def _check_suite(suite: int, client: ClientHello) -> None:
    if suite not in client.cipher_suites:
        raise ValueError("the ServerHello's cipher suite is none that the client offered")
    if suite not in _SUITES:
        raise ValueError(
            f"cipher suite 0x{suite:04x} is not served in TLS 1.2; use one with ECDHE and "
            "AES-GCM or ChaCha20-Poly1305"
        )


def _check_answer(extensions: Extensions, client: ClientHello) -> None:
    if _SUPPORTED_VERSIONS in extensions.by_number:
        raise ValueError("the ServerHello has supported_versions: it chooses no TLS 1.2")
    for number in extensions.by_number:
        if not client.asked_for(number):
            raise ValueError(f"the ServerHello has extension {number}, which nobody asked for")
    # RFC 5746 section 3.4. One without the extension could be of a renegotiation.
    if extensions.by_number.get(_RENEGOTIATION_INFO) != _FIRST_HANDSHAKE:
        raise ValueError("the ServerHello is not of a first handshake (RFC 5746)")
