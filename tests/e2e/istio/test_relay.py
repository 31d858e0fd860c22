"""The relay that stands for iptables."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from tests.e2e.istio.relay import Relays, header

_TIMEOUT_S = 30.0
DESTINATION = ("127.9.2.1", 8000)


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(_TIMEOUT_S)
    server.bind(str(path))
    server.listen()
    return server


def received(connection: socket.socket, number: int) -> bytes:
    octets = b""
    while len(octets) < number and (part := connection.recv(number - len(octets))):
        octets += part
    return octets


def test_it_tells_where_the_connection_came_from_and_went_and_passes_each_end_on(
    short_dir: Path,
) -> None:
    with listening(short_dir / "proxy") as proxy, Relays() as relays:
        where = relays.relay(("127.0.0.1", 0), short_dir / "proxy", DESTINATION)
        with socket.create_connection(where, _TIMEOUT_S) as client:
            accepted, _ = proxy.accept()
            with accepted:
                said = header(client.getsockname(), DESTINATION) + b"hello"
                client.sendall(b"hello")
                assert received(accepted, len(said)) == said
                client.shutdown(socket.SHUT_WR)
                assert accepted.recv(1) == b""
                # The other way goes on.
                accepted.sendall(b"answer")
                accepted.shutdown(socket.SHUT_WR)
                assert received(client, 100) == b"answer"


def test_without_a_proxy_connections_are_refused(short_dir: Path) -> None:
    with Relays() as relays:
        where = relays.relay(("127.0.0.1", 0), short_dir / "nobody", DESTINATION)
        client = socket.create_connection(where, _TIMEOUT_S)
        # An end, or a reset.
        with client, suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_the_header_is_that_of_the_proxy_protocol() -> None:
    told = header(("127.0.0.1", 40000), ("127.1.3.1", 8000))
    assert told == b"PROXY TCP4 127.0.0.1 127.1.3.1 40000 8000\r\n"
