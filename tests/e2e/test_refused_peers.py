"""Peers that must be refused, in both roles.

Each refusal is checked from every side: what the peer is told, that nothing got through,
the reason in Envoy's log, and the one counter.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER, TRUST_DOMAIN
from sidecar.demo.processes import wait_for
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.fake_signer import FakeSigner
from tests.e2e.forge import Credentials
from tests.e2e.lab import OTHER, Lab
from tests.e2e.peers import GET, TlsServer, call, client_context, server_context
from tests.e2e.record import Record, access_to

_paths = count(1)
ELSEWHERE = "spiffe://other.mesh/ns/demo/sa/client"


@dataclass(frozen=True)
class Odd:
    """A certificate with one thing wrong, and what comes of it.

    `{peer}` stands for the SPIFFE ID that the certificate would otherwise be good for.
    """

    name: str
    reason: str
    detail: str
    alert: str
    uris: tuple[str, ...] = ("{peer}",)
    changes: dict[str, Any] = field(default_factory=dict)
    unknown_root: bool = False

    def made_for(self, lab: Lab, peer: str) -> Credentials:
        forge = lab.strangers if self.unknown_root else lab.forge
        return forge.certify(*(uri.format(peer=peer) for uri in self.uris), **self.changes)

    def says(self, peer: str) -> str:
        return self.detail.format(peer=re.escape(peer))


def _purpose(role: str) -> dict[str, Any]:
    # The other side's.
    wrong = {
        "server": ExtendedKeyUsageOID.SERVER_AUTH,
        "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    return {"purposes": (wrong[role],)}


ODD = [
    Odd(
        "another trust domain",
        "peer_issuer",
        "no trusted roots for the peer's trust domain other[.]mesh",
        "CERTIFICATE_UNKNOWN",
        uris=("spiffe://other.mesh/ns/demo/sa/client",),
    ),
    Odd(
        "two URI SANs",
        "peer_identity",
        "peer certificate has 2 URI SANs, exactly one SPIFFE ID is required",
        "CERTIFICATE_UNKNOWN",
        uris=("{peer}", "spiffe://demo.mesh/ns/demo/sa/admin"),
    ),
    Odd(
        "no URI SAN",
        "peer_identity",
        "peer certificate has 0 URI SANs, exactly one SPIFFE ID is required",
        "CERTIFICATE_UNKNOWN",
        uris=(),
        changes={"dns": ("server.demo.mesh",)},
    ),
    Odd(
        "a URI that is no SPIFFE ID",
        "peer_identity",
        "peer certificate: .*https://demo[.]mesh/ns/demo/sa/client.*",
        "CERTIFICATE_UNKNOWN",
        uris=("https://demo.mesh/ns/demo/sa/client",),
    ),
    Odd(
        "a CA certificate",
        "peer_usage",
        "peer certificate is a CA certificate, a leaf is required",
        "CERTIFICATE_UNKNOWN",
        changes={"ca": True, "usages": ("digital_signature", "key_cert_sign")},
    ),
    Odd(
        "a leaf that may sign certificates",
        "peer_usage",
        "peer certificate may sign certificates or CRLs, a leaf must not",
        "CERTIFICATE_UNKNOWN",
        changes={"usages": ("digital_signature", "key_cert_sign")},
    ),
    Odd(
        "an expired leaf",
        "peer_expired",
        "peer certificate of {peer} expired [0-9]+ s ago",
        "CERTIFICATE_UNKNOWN",
        changes={"valid_from": timedelta(hours=-2), "valid_for": timedelta(minutes=-5)},
    ),
    Odd(
        "a leaf of tomorrow",
        "peer_expired",
        "peer certificate of {peer} is not valid for another [0-9]+ s",
        "CERTIFICATE_UNKNOWN",
        changes={"valid_from": timedelta(hours=12), "valid_for": timedelta(hours=13)},
    ),
    Odd(
        "unknown roots",
        "peer_issuer",
        "peer certificate of {peer} has an unknown issuer",
        "CERTIFICATE_UNKNOWN",
        unknown_root=True,
    ),
]
WRONG_PURPOSE = {
    role: Odd(
        "the other side's extended key usage",
        "peer_usage",
        "peer certificate of {peer} lacks the extended key usage for its side",
        "CERTIFICATE_UNKNOWN",
        changes=_purpose(role),
    )
    for role in ("server", "client")
}


def _named(odd: Odd) -> str:
    return odd.name


def check_client_is_refused(
    server: Envoy,
    application: Application,
    credentials: Credentials | None,
    *,
    reason: str,
    detail: str,
    alert: str,
) -> None:
    record = Record(server)
    answer = call(server.port("mtls"), client_context(credentials))
    assert (answer.octets, answer.end) == (b"", alert)
    record.wait_for_handshakes(**{f"server__failed__{reason}": 1})
    check_log(record, f"server handshake failed: {detail}")
    assert application.requests == []


def check_server_is_refused(
    client: Envoy, peer: TlsServer, *, reason: str, detail: str, alert: str
) -> None:
    record, seen = Record(client), len(peer.visits)
    path = f"/{next(_paths)}"
    assert get(client.port("outbound"), path)[0] == 503
    wait_for(lambda: len(peer.visits) > seen, "the end of the connection")
    (visit,) = peer.visits[seen:]
    assert (visit.error, visit.octets) == (alert, b"")
    record.wait_for_handshakes(**{f"client__failed__{reason}": 1})
    check_log(record, f"client handshake failed: {detail}")
    entry = access_to(client, path)
    # Envoy writes details without blanks.
    assert re.fullmatch(detail, entry["failure"].replace("_", " ")), entry


def check_log(record: Record, line: str) -> None:
    (failure,) = [logged for logged in record.logged() if "handshake failed" in logged]
    assert re.fullmatch(line, failure), failure


@pytest.mark.parametrize("odd", [*ODD, WRONG_PURPOSE["server"]], ids=_named)
def test_a_server_refuses_a_client_with(
    lab: Lab, server: Envoy, application: Application, odd: Odd
) -> None:
    check_client_is_refused(
        server,
        application,
        odd.made_for(lab, CLIENT),
        reason=odd.reason,
        detail=odd.says(CLIENT),
        alert=f"SSLV3_ALERT_{odd.alert}",
    )


def test_a_server_refuses_a_client_without_a_certificate(
    server: Envoy, application: Application
) -> None:
    check_client_is_refused(
        server,
        application,
        None,
        reason="no_peer_certificate",
        detail="the peer presented no certificate",
        alert="TLSV13_ALERT_CERTIFICATE_REQUIRED",
    )


def test_a_server_takes_the_same_certificate_with_nothing_wrong(
    lab: Lab, server: Envoy, application: Application
) -> None:
    answer = call(server.port("mtls"), client_context(lab.forge.certify(CLIENT)))
    assert answer.status == 200
    assert len(application.requests) == 1


@dataclass(frozen=True)
class Impostor:
    """A server that says it is somebody, and the client Envoy that asks it."""

    envoy: Envoy
    peer: TlsServer


@pytest.fixture
def impostor(lab: Lab) -> Iterator[Impostor]:
    context = server_context(lab.credentials(SERVER), lab.roots)
    with TlsServer(context) as peer, lab.client(peer.port) as envoy:
        yield Impostor(envoy, peer)


@pytest.mark.parametrize("odd", [*ODD, WRONG_PURPOSE["client"]], ids=_named)
def test_a_client_refuses_a_server_with(lab: Lab, impostor: Impostor, odd: Odd) -> None:
    impostor.peer.context = server_context(odd.made_for(lab, SERVER), lab.roots, "h2")
    check_server_is_refused(
        impostor.envoy,
        impostor.peer,
        reason=odd.reason,
        detail=odd.says(SERVER),
        alert=f"SSLV3_ALERT_{odd.alert}",
    )


@pytest.mark.parametrize("whose", [OTHER, CLIENT])
def test_a_client_refuses_another_workloads_valid_certificate(
    lab: Lab, impostor: Impostor, whose: str
) -> None:
    impostor.peer.context = server_context(lab.credentials(whose), lab.roots, "h2")
    check_server_is_refused(
        impostor.envoy,
        impostor.peer,
        reason="peer_unexpected",
        detail=f"peer {whose} is not among the expected peers",
        alert="SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    )


def test_a_client_takes_the_same_certificate_with_nothing_wrong(
    lab: Lab, impostor: Impostor
) -> None:
    record = Record(impostor.envoy)
    impostor.peer.context = server_context(lab.forge.certify(SERVER), lab.roots, "h2")
    with socket.create_connection(("127.0.0.1", impostor.envoy.port("outbound"))) as caller:
        caller.sendall(GET)  # nobody answers: the server speaks no HTTP/2
        record.wait_for_handshakes(client__ok=1)


# Two trust domains, each with its own roots; only a signer of the tests' own hands out two.


@contextmanager
def federated(lab: Lab, identity: Credentials, spiffe_id: str) -> Iterator[FakeSigner]:
    bundles = {TRUST_DOMAIN: [lab.forge.root_der], "other.mesh": [lab.strangers.root_der]}
    with FakeSigner(
        lab.short_path("sign"),
        [identity.certificate],
        identity.private_key,
        bundles,
        spiffe_id=spiffe_id,
    ) as signer:
        yield signer


def test_a_server_refuses_a_valid_client_of_another_trusted_domain(
    lab: Lab, application: Application
) -> None:
    with (
        federated(lab, lab.forge.certify(SERVER), SERVER) as signer,
        lab.server(application.port, SIGNER_SOCKET=signer.socket) as server,
    ):
        check_client_is_refused(
            server,
            application,
            lab.strangers.certify(ELSEWHERE),
            reason="peer_unexpected",
            detail=f"peer {ELSEWHERE} is not in the trust domain demo[.]mesh",
            alert="SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        )
        # One domain's root does not vouch for another's workloads.
        check_client_is_refused(
            server,
            application,
            lab.strangers.certify(CLIENT),
            reason="peer_issuer",
            detail=f"peer certificate of {CLIENT} has an unknown issuer",
            alert="SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        )


def test_a_client_refuses_a_valid_server_of_another_trusted_domain(lab: Lab) -> None:
    elsewhere = "spiffe://other.mesh/ns/demo/sa/server"
    server_roots = lab.roots
    with (
        federated(lab, lab.forge.certify(CLIENT), CLIENT) as signer,
        TlsServer(server_context(lab.strangers.certify(elsewhere), server_roots, "h2")) as peer,
        lab.client(peer.port, SIGNER_SOCKET=signer.socket) as client,
    ):
        check_server_is_refused(
            client,
            peer,
            reason="peer_unexpected",
            detail=f"peer {elsewhere} is not among the expected peers",
            alert="SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        )
        peer.context = server_context(lab.strangers.certify(SERVER), server_roots, "h2")
        check_server_is_refused(
            client,
            peer,
            reason="peer_issuer",
            detail=f"peer certificate of {SERVER} has an unknown issuer",
            alert="SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        )


# A chain is public: whoever has seen a handshake of TLS 1.2, or has stolen it, can present
# it. openssl and Python refuse to load it with another key, so our own module is the thief,
# with a signer that signs with a key of its own.


@contextmanager
def chain_thief(
    lab: Lab, stolen: Credentials, spiffe_id: str, *, with_its_key: bool
) -> Iterator[FakeSigner]:
    own = ec.generate_private_key(ec.SECP256R1())
    with FakeSigner(
        lab.short_path("sign"),
        [stolen.certificate],
        stolen.private_key if with_its_key else own,
        {TRUST_DOMAIN: [lab.local_root_der, lab.forge.root_der]},
        spiffe_id=spiffe_id,
    ) as signer:
        yield signer


NOT_ITS_KEY = "the peer's CertificateVerify was not made with the key of its certificate"


@pytest.mark.parametrize("with_its_key", [True, False])
def test_a_server_refuses_a_client_with_a_stolen_chain(
    lab: Lab, server: Envoy, application: Application, with_its_key: bool
) -> None:
    with (
        chain_thief(lab, lab.forge.certify(CLIENT), CLIENT, with_its_key=with_its_key) as thief,
        lab.client(server.port("mtls"), SIGNER_SOCKET=thief.socket) as envoy,
    ):
        record = Record(server)
        status, _ = get(envoy.port("outbound"))
        if with_its_key:
            assert status == 200
            record.wait_for_handshakes(server__ok=1)
            assert len(application.requests) == 1
            return
        assert status == 503
        record.wait_for_handshakes(server__failed__peer_signature=1)
        check_log(record, f"server handshake failed: {NOT_ITS_KEY}")
        assert application.requests == []


@pytest.mark.parametrize("with_its_key", [True, False])
def test_a_client_refuses_a_server_with_a_stolen_chain(
    lab: Lab, application: Application, with_its_key: bool
) -> None:
    with (
        chain_thief(lab, lab.forge.certify(SERVER), SERVER, with_its_key=with_its_key) as thief,
        lab.server(application.port, SIGNER_SOCKET=thief.socket) as server,
        lab.client(server.port("mtls")) as client,
    ):
        record = Record(client)
        status, _ = get(client.port("outbound"))
        if with_its_key:
            assert status == 200
            record.wait_for_handshakes(client__ok=1)
            assert len(application.requests) == 1
            return
        assert status == 503
        record.wait_for_handshakes(client__failed__peer_signature=1)
        check_log(record, f"client handshake failed: {NOT_ITS_KEY}")
        assert application.requests == []
