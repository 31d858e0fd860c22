"""Mutual TLS in both directions, with a stock Envoy and programs that users have."""

from __future__ import annotations

import re
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.lab import HTTP1_TO_SERVER, Lab, bootstrap
from tests.e2e.peers import GET, TlsServer, call, client_context, connect, server_context
from tests.e2e.programs import SServer, curl, s_client
from tests.e2e.record import Record, access_to

# Those that the other tests do not use.
KINDS = {
    "ec-p384": ("ECPublicKey", 384),
    "ec-p521": ("ECPublicKey", 521),
    "rsa-2048": ("RSAPublicKey", 2048),
    "ed25519": ("Ed25519PublicKey", None),
}
NO_REQUESTS_TOGETHER = {"${REQUESTS_PER_CONNECTION}": "1"}


@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
def test_curl_with_a_certificate_reaches_the_application(
    lab: Lab, server: Envoy, application: Application, option: str, version: str
) -> None:
    credentials = lab.credentials(CLIENT)
    record = Record(server)
    answer = curl(f"https://127.0.0.1:{server.port('mtls')}/x", option, credentials=credentials)
    assert (answer.code, answer.status, answer.version) == (0, 200, version)
    (request,) = application.requests
    leaf = x509.load_pem_x509_certificate(credentials.chain.read_bytes())
    digest = leaf.fingerprint(hashes.SHA256()).hex()
    assert request.values("x-forwarded-client-cert") == [
        f'By={SERVER};Hash={digest};URI="{CLIENT}"'
    ]
    record.wait_for_handshakes(server__ok=1)
    assert record.signatures() == {"asked": 1, "made": 1}


@pytest.mark.parametrize("version", ["h2", "http/1.1"])
def test_two_envoys_speak_mutual_tls_with_keys_from_the_token(
    lab: Lab, server: Envoy, application: Application, version: str
) -> None:
    text = bootstrap("client", HTTP1_TO_SERVER if version == "http/1.1" else {})
    theirs = Record(server)
    with lab.client(server.port("mtls"), text) as client:
        ours = Record(client)
        path = f"/two-envoys/{version}"
        assert get(client.port("outbound"), path)[0] == 200
        ours.wait_for_handshakes(client__ok=1)
        assert ours.signatures() == {"asked": 1, "made": 1}
    theirs.wait_for_handshakes(server__ok=1)
    assert theirs.signatures() == {"asked": 1, "made": 1}
    (request,) = application.requests
    (forwarded,) = request.values("x-forwarded-client-cert")
    assert re.fullmatch(f'By={SERVER};Hash=[0-9a-f]{{64}};URI="{CLIENT}"', forwarded)
    entry = access_to(server, path)
    assert entry["peer"] == CLIENT
    assert entry["tls"] == "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768"
    assert entry["protocol"] == {"h2": "HTTP/2", "http/1.1": "HTTP/1.1"}[version]


@pytest.mark.parametrize("algorithm", KINDS)
def test_two_envoys_prove_themselves_with_keys_of_another_kind(
    lab: Lab, application: Application, algorithm: str
) -> None:
    kind = {"key_algorithm": algorithm}
    with (
        lab.sidecar(SERVER, lab.store(), identity=kind) as servers,
        lab.sidecar(CLIENT, lab.store(), identity=kind) as clients,
        lab.server(application.port, SIGNER_SOCKET=servers.socket) as server,
        lab.client(server.port("mtls"), SIGNER_SOCKET=clients.socket) as client,
    ):
        ours, theirs = Record(client), Record(server)
        assert get(client.port("outbound"), "/any-kind")[0] == 200
        ours.wait_for_handshakes(client__ok=1)
        theirs.wait_for_handshakes(server__ok=1)
        assert ours.signatures() == theirs.signatures() == {"asked": 1, "made": 1}
        assert [sidecar.status().signed for sidecar in (servers, clients)] == [1, 1]
        (request,) = application.requests
        assert f'URI="{CLIENT}"' in request.values("x-forwarded-client-cert")[0]
        # And OpenSSL believes them, too.
        with connect(server.port("mtls"), client_context(lab.credentials(CLIENT))) as direct:
            leaf = x509.load_der_x509_certificate(direct.getpeercert(binary_form=True) or b"")
        key = leaf.public_key()
        assert (type(key).__name__, getattr(key, "key_size", None)) == KINDS[algorithm]


def test_openssl_verifies_the_servers_chain_and_sees_tls_1_3(lab: Lab, server: Envoy) -> None:
    said = s_client(
        server.port("mtls"),
        *("-CAfile", str(lab.roots), "-verify_return_error", "-alpn", "http/1.1"),
        credentials=lab.credentials(CLIENT),
    )
    assert "Verify return code: 0 (ok)" in said.text
    assert "New, TLSv1.3, Cipher is TLS_" in said.text
    assert "ALPN protocol: http/1.1" in said.text
    assert "HTTP/1.1 200 OK" in said.text


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_the_client_envoy_proves_itself_to_openssl_s_server(lab: Lab, alpn: str) -> None:
    text = bootstrap("client", HTTP1_TO_SERVER if alpn == "http/1.1" else {})
    options = [
        *("-Verify", "1", "-verify_return_error", "-CAfile", str(lab.roots)),
        *("-tls1_3", "-alpn", alpn),
    ]
    with (
        SServer(lab.short_path("s").with_suffix(".log"), lab.credentials(SERVER), *options) as peer,
        lab.client(peer.port, text) as client,
        socket.create_connection(("127.0.0.1", client.port("outbound")), 30) as caller,
    ):
        record = Record(client)
        caller.sendall(GET)
        record.wait_for_handshakes(client__ok=1)
        peer.wait_for(f"ALPN protocols selected: {alpn}")
        peer.wait_for("CIPHER is TLS_AES_128_GCM_SHA256")
        assert f"ALPN protocols advertised by the client: {alpn}\n" in peer.text
        assert "Shared groups: x25519:secp256r1:secp384r1" in peer.text
        assert "verify error" not in peer.text
        if alpn == "http/1.1":  # s_server leaves HTTP to us; HTTP/2 cannot be typed
            peer.wait_for("GET /reached HTTP/1.1")
            peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            assert caller.recv(1024).startswith(b"HTTP/1.1 200 OK")


def test_a_client_with_tls_1_2_is_refused(
    lab: Lab, server: Envoy, application: Application
) -> None:
    record = Record(server)
    said = s_client(server.port("mtls"), "-tls1_2", credentials=lab.credentials(CLIENT))
    assert said.code == 1
    assert "alert protocol version" in said.text
    record.wait_for_handshakes(server__failed__protocol=1)
    assert application.requests == []


def test_a_server_with_tls_1_2_is_refused(lab: Lab) -> None:
    context = server_context(lab.credentials(SERVER), lab.roots, "h2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsServer(context) as peer, lab.client(peer.port) as client:
        record = Record(client)
        assert get(client.port("outbound"))[0] == 503
        # The server gives up first: the client offers nothing but 1.3.
        record.wait_for_handshakes(client__failed__peer_alert=1)
        wait_for(lambda: bool(peer.visits), "the visit")
        assert [visit.error for visit in peer.visits] == ["UNSUPPORTED_PROTOCOL"]


def test_the_server_gives_no_session_tickets(lab: Lab, server: Envoy) -> None:
    session = lab.short_path("session")
    credentials = lab.credentials(CLIENT)
    # A server that gives tickets shows that the test would see one.
    log = lab.short_path("s").with_suffix(".log")
    with SServer(log, lab.credentials(SERVER), "-www") as other:
        said = s_client(other.port, "-sess_out", str(session), "-msg")
        assert "NewSessionTicket" in said.text
        assert session.stat().st_size
    session.unlink()
    said = s_client(server.port("mtls"), "-sess_out", str(session), "-msg", credentials=credentials)
    assert "HTTP/1.1 200 OK" in said.text
    assert "NewSessionTicket" not in said.text
    assert not session.exists()


def test_every_connection_to_the_server_is_a_full_handshake(lab: Lab, server: Envoy) -> None:
    # One context, as a client that wants to resume has.
    context = client_context(lab.credentials(CLIENT))
    record = Record(server)
    session = None
    for _ in range(3):
        plain = socket.create_connection(("127.0.0.1", server.port("mtls")), 30)
        with context.wrap_socket(plain, session=session) as connection:
            connection.sendall(GET)
            assert connection.recv(1024).startswith(b"HTTP/1.1 200 OK")
            # Whatever the server wanted to give has arrived with the answer.
            assert not connection.session_reused
            session = connection.session
            assert session
            assert not session.has_ticket
    record.wait_for_handshakes(server__ok=3)
    assert record.signatures() == {"asked": 3, "made": 3}


def test_early_data_is_refused_and_reaches_nobody(
    lab: Lab, server: Envoy, application: Application
) -> None:
    session, early = lab.short_path("session"), lab.short_path("early")
    early.write_bytes(b"GET /early HTTP/1.1\r\nhost: server\r\n\r\n")
    credentials = lab.credentials(CLIENT)
    log = lab.short_path("s").with_suffix(".log")
    # A ticket that allows early data has to come from elsewhere.
    with (
        SServer(log, lab.credentials(SERVER), "-early_data") as other,
        ThreadPoolExecutor(1) as pool,
    ):
        asking = pool.submit(s_client, other.port, "-sess_out", str(session))
        other.wait_for("GET /reached")
        other.say(b"Q\n")
        assert "Max Early Data: 16384" in asking.result().text
    said = s_client(
        server.port("mtls"),
        *("-sess_in", str(session), "-early_data", str(early)),
        credentials=credentials,
    )
    assert "Early data was rejected" in said.text
    assert "HTTP/1.1 200 OK" in said.text
    assert [request.path for request in application.requests] == ["/reached"]


def test_the_client_envoy_never_resumes_a_session(lab: Lab) -> None:
    text = bootstrap("client", {**HTTP1_TO_SERVER, **NO_REQUESTS_TOGETHER})
    context = server_context(lab.credentials(SERVER), lab.roots, "http/1.1")
    with TlsServer(context) as peer, lab.client(peer.port, text) as client:
        record = Record(client)
        for _ in range(3):
            assert get(client.port("outbound"))[0] == 200
        wait_for(lambda: len(peer.visits) == 3, "three connections")
        assert [visit.resumed for visit in peer.visits] == [False] * 3
        assert all(visit.certificate for visit in peer.visits)
        assert record.signatures() == {"asked": 3, "made": 3}
        # The tickets were good ones: another client resumes with them.
        resuming = client_context(lab.credentials(CLIENT))
        with connect(peer.port, resuming) as first:
            first.sendall(b"GET / HTTP/1.1\r\n\r\n")
            first.recv(1024)
            session = first.session
        plain = socket.create_connection(("127.0.0.1", peer.port))
        with resuming.wrap_socket(plain, session=session) as second:
            assert second.session_reused


@pytest.mark.parametrize("sni", ["server.demo.mesh", None])
def test_the_client_envoy_names_the_server_only_if_it_is_told_to(lab: Lab, sni: str | None) -> None:
    identity = "            identity: default\n"
    changes = {identity: f"{identity}            sni: {sni}\n"} if sni else {}
    text = bootstrap("client", {**HTTP1_TO_SERVER, **changes})
    context = server_context(lab.credentials(SERVER), lab.roots, "http/1.1")
    with TlsServer(context) as peer:
        with lab.client(peer.port, text) as client:
            assert get(client.port("outbound"))[0] == 200
        wait_for(lambda: bool(peer.visits), "the visit")
        assert [visit.sni for visit in peer.visits] == [sni]


def test_a_client_that_offers_no_common_protocol_speaks_http_1(
    lab: Lab, server: Envoy, application: Application
) -> None:
    # As with Envoy's own TLS.
    answer = call(server.port("mtls"), client_context(lab.credentials(CLIENT), "spdy/1"))
    assert answer.status == 200
    assert [request.path for request in application.requests] == ["/reached"]


def test_a_client_without_alpn_speaks_http_1(
    lab: Lab, server: Envoy, application: Application
) -> None:
    assert call(server.port("mtls"), client_context(lab.credentials(CLIENT))).status == 200
    assert [request.path for request in application.requests] == ["/reached"]
