"""The content that a TLS 1.2 ServerKeyExchange signs (RFC 5246 7.4.3, RFC 8422 5.4)."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.der import refuse_der
from sidecar.core.ecdh_parameters import EcdhParameters
from sidecar.core.tls_bytes import Reader

_RANDOM_BYTES = 32
# RFC 8446 section 4.1.3: how a server that speaks TLS 1.3 ends its random when it chooses 1.2.
TLS12_SENTINEL = b"DOWNGRD\x01"


@dataclass(frozen=True)
class ServerKeyExchangeContent:
    """The client's random, the server's random, the server's ephemeral ECDH key.

    The server's random ends with the downgrade sentinel. RFC 8446 section 4.1.3 has every
    server that speaks TLS 1.3 set it, and every client that speaks TLS 1.3 end a handshake
    in which it stands. So a signature for TLS 1.2, whoever obtained it, deceives nobody who
    speaks TLS 1.3.
    """

    client_random: bytes
    server_random: bytes
    parameters: EcdhParameters

    @classmethod
    def parse(cls, message: bytes) -> ServerKeyExchangeContent:
        """Accepts `message` only if it is exactly that structure.

        Raises:
            ValueError: with the part that differs; never with bytes of the message.
        """
        # The client chooses its random, and who sits in the proxy both randoms and the whole
        # X25519 key: what else a key signs could be shaped like this, so it is named.
        refuse_der(message)
        reader = Reader(message, "ServerKeyExchange")
        client_random = reader.take(_RANDOM_BYTES)
        server_random = reader.take(_RANDOM_BYTES)
        if not server_random.endswith(TLS12_SENTINEL):
            raise ValueError(
                "the server's random does not end with the sentinel for TLS 1.2: let the server "
                "offer TLS 1.3 too (RFC 8446 section 4.1.3)"
            )
        parameters = EcdhParameters.read(reader)
        reader.end()
        return cls(client_random, server_random, parameters)

    def encode(self) -> bytes:
        """100, 133 or 165 bytes."""
        return self.client_random + self.server_random + self.parameters.encode()
