"""TLS 1.2 of BoringSSL, which gRPC brings and which is Envoy's, against OpenSSL's."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.core import public_key
from sidecar.core.client_handshake import ClientHandshake
from sidecar.core.server_key_exchange import ServerKeyExchangeContent
from tests.fixtures import tls12

_TIMEOUT_S = 20


class _Pair:
    """A private key and its certificate."""

    def __init__(self) -> None:
        self.key = tls12.private_key("ec-p256")
        self.certificate = tls12.self_signed(self.key)
        self.key_pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.pem = self.certificate.public_bytes(Encoding.PEM)


SERVER, CLIENT = _Pair(), _Pair()


def test_what_boringssl_signs_as_a_client_is_understood() -> None:
    openssl = tls12.context(
        ssl.PROTOCOL_TLS_SERVER, SERVER.key, SERVER.certificate, CLIENT.certificate
    )
    openssl.maximum_version = ssl.TLSVersion.TLSv1_2
    credentials = grpc.ssl_channel_credentials(SERVER.pem, CLIENT.key_pem, CLIENT.pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT_S)
        target = f"localhost:{listener.getsockname()[1]}"
        with grpc.secure_channel(target, credentials) as channel:
            channel.subscribe(lambda _: None, try_to_connect=True)
            connection, _ = listener.accept()
            with connection:
                shaken = _shaken(connection, openssl, server_side=True)
    scheme, signature = shaken.client_signature
    content = ClientHandshake.parse(shaken.client_content, (shaken.leaf,), scheme)
    # It speaks TLS 1.3 and the server does not, so there is no sentinel.
    assert content.client_hello.offers_tls13
    public_key.verify(shaken.client_key, scheme, signature, content.encode())
    with pytest.raises(ValueError, match="sentinel"):
        ServerKeyExchangeContent.parse(shaken.server_content)


def test_what_boringssl_signs_as_a_server_is_understood() -> None:
    openssl = tls12.context(
        ssl.PROTOCOL_TLS_CLIENT, CLIENT.key, CLIENT.certificate, SERVER.certificate
    )
    openssl.maximum_version = ssl.TLSVersion.TLSv1_2
    server = grpc.server(ThreadPoolExecutor(1))
    pair = (SERVER.key_pem, SERVER.pem)
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([pair], CLIENT.pem, require_client_auth=True)
    )
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            shaken = _shaken(connection, openssl, server_side=False)
    finally:
        server.stop(None).wait()
    scheme, signature = shaken.server_signature
    server_content = ServerKeyExchangeContent.parse(shaken.server_content)
    public_key.verify(shaken.server_key, scheme, signature, server_content.encode())
    scheme, signature = shaken.client_signature
    client_content = ClientHandshake.parse(shaken.client_content, (shaken.leaf,), scheme)
    public_key.verify(shaken.client_key, scheme, signature, client_content.encode())


def _shaken(
    connection: socket.socket, openssl: ssl.SSLContext, *, server_side: bool
) -> tls12.Handshake:
    connection.settimeout(_TIMEOUT_S)
    openssl.set_alpn_protocols(["h2"])
    assert isinstance(SERVER.key, ec.EllipticCurvePrivateKey)
    assert isinstance(CLIENT.key, ec.EllipticCurvePrivateKey)
    return tls12.Handshake(
        tuple(_messages(connection, openssl, server_side=server_side)),
        SERVER.key.public_key(),
        CLIENT.key.public_key(),
        CLIENT.certificate.public_bytes(Encoding.DER),
    )


def _messages(
    connection: socket.socket, openssl: ssl.SSLContext, *, server_side: bool
) -> Iterator[tls12.Message]:
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = openssl.wrap_bio(received, sent, server_side=server_side)
    ours, theirs, done = True, True, False
    while not done:
        try:
            end.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        flight = sent.read()
        connection.sendall(flight)
        content, ours = tls12.in_clear(flight) if ours else (b"", False)
        yield from tls12.read(content)
        if not done:
            flight = _whole_record(connection)
            received.write(flight)
            content, theirs = tls12.in_clear(flight) if theirs else (b"", False)
            yield from tls12.read(content)


def _whole_record(connection: socket.socket) -> bytes:
    header = _exactly(connection, 5)
    return header + _exactly(connection, int.from_bytes(header[3:]))


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = connection.recv(length, socket.MSG_WAITALL)
    assert len(data) == length, "the peer is gone"
    return data
