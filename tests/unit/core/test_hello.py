"""The two hellos: of a first TLS 1.2 handshake, with the extended master secret."""

from __future__ import annotations

import pytest

from sidecar.core.hello import ClientHello, ServerHello
from tests.fixtures import tls12

EMS = (23, b"")
FIRST = (0xFF01, b"\0")
GCM = 0xC02B
BOTH_VERSIONS = (43, b"\x04\x03\x04\x03\x03")
Extension = tuple[int, bytes]


def _extensions(*extensions: Extension) -> bytes:
    content = b"".join(n.to_bytes(2) + len(d).to_bytes(2) + d for n, d in extensions)
    return len(content).to_bytes(2) + content


def client(
    *extensions: Extension,
    version: bytes = b"\x03\x03",
    session_id: bytes = b"",
    suites: tuple[int, ...] = (GCM, 0xC02F),
    compression: bytes = b"\x01\x00",
) -> bytes:
    """A ClientHello's body; each argument makes one thing differ."""
    listed = b"".join(suite.to_bytes(2) for suite in suites)
    return (
        version
        + b"c" * 32
        + bytes([len(session_id)])
        + session_id
        + len(listed).to_bytes(2)
        + listed
        + compression
        + _extensions(*(extensions or (EMS, FIRST)))
    )


def server(
    *extensions: Extension,
    version: bytes = b"\x03\x03",
    random: bytes = b"s" * 32,
    session_id: bytes = b"",
    suite: int = GCM,
    compression: bytes = b"\x00",
) -> bytes:
    """A ServerHello's body; each argument makes one thing differ."""
    return (
        version
        + random
        + bytes([len(session_id)])
        + session_id
        + suite.to_bytes(2)
        + compression
        + _extensions(*(extensions or (EMS, FIRST)))
    )


def test_hellos_are_read_and_written_alike() -> None:
    hello = ClientHello.parse(client(EMS, (13, b"\0\2\4\3"), FIRST, session_id=b"i" * 32))
    assert hello.encode() == client(EMS, (13, b"\0\2\4\3"), FIRST, session_id=b"i" * 32)
    answer = ServerHello.parse(server(session_id=b"j"), hello)
    assert answer.encode() == server(session_id=b"j")
    assert (hello.cipher_suites, answer.cipher_suite) == ((GCM, 0xC02F), GCM)
    assert (hello.session_id, answer.session_id) == (b"i" * 32, b"j")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (client(version=b"\x03\x02"), r"version is not TLS 1\.2"),
        (client(version=b"\x03\x04"), r"version is not TLS 1\.2"),
        (client(version=b"\xfe\xfd"), r"version is not TLS 1\.2"),
        (client(session_id=b"i" * 33), "session ID has 33 bytes"),
        (client(suites=()), "a list of 0 bytes, at least 2"),
        (client()[:36] + b"\x03" + client()[37:], "list of cipher suites is cut short"),
        (client(compression=b"\x02\x00\x01"), "offers compression"),
        (client(compression=b"\x01\x01"), "offers compression"),
        (client(compression=b"\x00"), "a list of 0 bytes"),
        (client(FIRST), "no extended_master_secret"),
        (client((23, b"\0"), FIRST), "no extended_master_secret"),
        (client((24, b""), FIRST), "no extended_master_secret"),
        (client(EMS, EMS, FIRST), "extension 23 twice"),
        (client(EMS, (13, b""), (13, b"")), "extension 13 twice"),
        (client(EMS, (0xFF01, b"\x0c" + b"v" * 12)), "is of a renegotiation"),
        (client(EMS, (0xFF01, b"")), "is of a renegotiation"),
        (client() + b"\0", "1 bytes follow the ClientHello"),
        (client()[:-11], "cut short"),
    ],
)
def test_other_client_hellos_are_refused(body: bytes, refusal: str) -> None:
    with pytest.raises(ValueError, match=refusal):
        ClientHello.parse(body)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (server(version=b"\x03\x01"), r"version is not TLS 1\.2"),
        (server(version=b"\x03\x04"), r"version is not TLS 1\.2"),
        (server(session_id=b"i" * 33), "session ID has 33 bytes"),
        (server(compression=b"\x01"), "chooses compression"),
        (server(suite=0xC030), "none that the client offered"),
        (server(suite=0x009E), "cipher suite 0x009e is not served"),
        (server(suite=0x009C), "cipher suite 0x009c is not served"),
        (server(suite=0xC013), "cipher suite 0xc013 is not served"),
        (server(suite=0x1301), "cipher suite 0x1301 is not served"),
        (server(FIRST), "the ServerHello has no extended_master_secret"),
        (server((23, b"\0"), FIRST), "the ServerHello has no extended_master_secret"),
        (server(EMS, FIRST, (43, b"\x03\x04")), "it chooses no TLS 1.2"),
        (server(EMS, FIRST, (16, b"\0")), "extension 16, which nobody asked for"),
        (server(EMS), "not of a first handshake"),
        (server(EMS, (0xFF01, b"\x18" + b"v" * 24)), "not of a first handshake"),
        (server(EMS, FIRST, EMS), "extension 23 twice"),
        (server() + b"\0", "1 bytes follow the ServerHello"),
        (server(random=b"s" * 24 + b"DOWNGRD\x01"), "a downgrade"),
        (server(random=b"s" * 24 + b"DOWNGRD\x00"), "a downgrade"),
    ],
)
def test_other_server_hellos_are_refused(body: bytes, refusal: str) -> None:
    suites = (GCM, 0x009E, 0x009C, 0xC013, 0x1301)
    hello = ClientHello.parse(client(EMS, FIRST, BOTH_VERSIONS, suites=suites))
    assert ServerHello.parse(server(), hello)
    with pytest.raises(ValueError, match=refusal):
        ServerHello.parse(body, hello)


def test_a_client_of_tls12_alone_may_see_the_sentinel() -> None:
    marked = server(random=b"s" * 24 + b"DOWNGRD\x01")
    for extensions in ((EMS, FIRST), (EMS, FIRST, (43, b"\x02\x03\x03"))):
        assert ServerHello.parse(marked, ClientHello.parse(client(*extensions)))


@pytest.mark.parametrize("wrong", [b"", b"\x03\x03\x04", b"\x01\x03", b"\x02\x03\x04\x03"])
def test_a_list_of_versions_that_is_none_is_refused(wrong: bytes) -> None:
    hello = ClientHello.parse(client(EMS, FIRST, (43, wrong)))
    with pytest.raises(ValueError, match=r"cut short|follow the"):
        ServerHello.parse(server(), hello)


def test_a_suite_may_ask_for_the_renegotiation_info() -> None:
    # RFC 5746 section 3.3; a server answers with the extension.
    hello = ClientHello.parse(client(EMS, suites=(GCM, 0x00FF)))
    assert ServerHello.parse(server(), hello)
    with pytest.raises(ValueError, match="extension 65281, which nobody asked for"):
        ServerHello.parse(server(), ClientHello.parse(client(EMS)))


def test_openssls_hellos_are_read_and_written_alike() -> None:
    for kind in ("ec-p256", "rsa", "ed25519"):
        shaken = tls12.handshake(kind, None)
        hello = ClientHello.parse(shaken.body(tls12.CLIENT_HELLO))
        answer = ServerHello.parse(shaken.body(tls12.SERVER_HELLO), hello)
        assert hello.encode() == shaken.body(tls12.CLIENT_HELLO)
        assert answer.encode() == shaken.body(tls12.SERVER_HELLO)
        assert not hello.offers_tls13
