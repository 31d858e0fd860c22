"""Peers that are listed in a file, which is replaced as the kubelet replaces a ConfigMap."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.at_once import OK
from tests.e2e.lab import HTTP1_TO_SERVER, OTHER, Lab, bootstrap, companion_peers
from tests.e2e.peers import TlsServer, ask_on, call, client_context, connect, server_context
from tests.e2e.record import Record, gauge

ENTRY = "server.demo.svc.cluster.local"
LISTED = f'peers: {{file: "${{PEERS_FILE}}", entry: {ENTRY}}}'
ANY_MAY_CALL = {'string_match: {exact: "${ALLOWED_PEER}"}': 'string_match: {prefix: "spiffe://"}'}
LISTENER = {'peers: {trust_domain: "${TRUST_DOMAIN}"}': LISTED, **ANY_MAY_CALL}
CLUSTER = {'peers: {spiffe_ids: ["${PEER}"]}': LISTED, **HTTP1_TO_SERVER}
COMPANION = {**companion_peers(LISTED.removeprefix("peers: ")), **ANY_MAY_CALL}


class Volume:
    """A ConfigMap's mount: `file` leads through a symbolic link, which is what is replaced."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.file = directory / "peers.json"
        self.file.symlink_to("..data/peers.json")
        self._generations = (directory / f"..{number}" for number in count())

    def publish(self, text: str) -> None:
        generation = next(self._generations)
        generation.mkdir()
        (generation / "peers.json").write_text(text, encoding="utf-8")
        link = generation.with_name("..data_tmp")
        link.symlink_to(generation.name)
        link.replace(generation.with_name("..data"))

    def publish_peers(self, *peers: str) -> None:
        self.publish(json.dumps({ENTRY: peers, "other": [SERVER]}))


@pytest.fixture
def volume(lab: Lab) -> Volume:
    return Volume(lab.short_path("cm"))


class Caller:
    """Makes connections to one listener as one workload."""

    def __init__(self, lab: Lab, server: Envoy, spiffe_id: str) -> None:
        self._port = server.port("mtls")
        self._context = client_context(lab.credentials(spiffe_id), "http/1.1")

    def is_let_in(self) -> bool:
        return call(self._port, self._context).status == 200

    def waits_to_be_let_in(self) -> None:
        wait_for(self.is_let_in, "it is let in")

    def waits_to_be_refused(self) -> None:
        wait_for(lambda: not self.is_let_in(), "it is refused")


def configuration(envoy: Envoy) -> tuple[object, dict[str, int]]:
    """What Envoy has been configured with, and how often that has changed."""
    return json.loads(envoy.admin("/config_dump")), envoy.stats("^(listener|cluster)_manager[.]")


def test_a_listener_follows_the_list_without_a_change_of_its_configuration(
    lab: Lab, application: Application, volume: Volume
) -> None:
    text = bootstrap("server", LISTENER)
    with lab.server(application.port, text, PEERS_FILE=volume.file) as server:
        client, other = (Caller(lab, server, each) for each in (CLIENT, OTHER))
        before = configuration(server)
        record = Record(server)
        assert not client.is_let_in()
        record.wait_for_handshakes(server__failed__peer_unexpected=1)
        why = f'peers file "{volume.file}", entry "{ENTRY}": cannot be read: No such file'
        assert f"server handshake failed: peer {CLIENT} is not accepted: {why}" in "".join(
            record.logged()
        )
        assert gauge(server, "peers.lists_missing") == 1

        volume.publish_peers(CLIENT)
        client.waits_to_be_let_in()
        assert gauge(server, "peers.lists_missing") == 0
        assert not other.is_let_in()

        volume.publish_peers(CLIENT, OTHER)
        other.waits_to_be_let_in()
        assert client.is_let_in()

        volume.publish_peers(OTHER)
        client.waits_to_be_refused()
        assert other.is_let_in()
        assert configuration(server) == before


def test_a_damaged_file_keeps_the_lists_and_a_missing_entry_does_not(
    lab: Lab, application: Application, volume: Volume
) -> None:
    volume.publish_peers(CLIENT)
    text = bootstrap("server", LISTENER)
    with lab.server(application.port, text, PEERS_FILE=volume.file) as server:
        client = Caller(lab, server, CLIENT)
        # From the first handshake on.
        assert client.is_let_in()
        record = Record(server)
        volume.publish('{"' + ENTRY)
        said = "what was read before stays in force"
        wait_for(lambda: said in "".join(record.logged()), "it is noticed")
        assert client.is_let_in()
        assert gauge(server, "peers.lists_missing") == 0

        volume.publish(json.dumps({"other": [CLIENT]}))
        client.waits_to_be_refused()
        assert gauge(server, "peers.lists_missing") == 1
        missing = f'peers file "{volume.file}" has no entry "{ENTRY}"'
        logged = record.logged()
        assert f"{missing}; nobody is accepted until it is there" in logged
        assert f"server handshake failed: peer {CLIENT} is not accepted: {missing}" in logged
        assert sum(said in line for line in logged) == 1


def test_a_connection_ends_when_its_peer_is_taken_off_the_list(
    lab: Lab, application: Application, volume: Volume
) -> None:
    volume.publish_peers(CLIENT, OTHER)
    text = bootstrap("server", LISTENER)
    with (
        lab.server(application.port, text, PEERS_FILE=volume.file) as server,
        connect(server.port("mtls"), client_context(lab.credentials(CLIENT))) as removed,
        connect(server.port("mtls"), client_context(lab.credentials(OTHER))) as kept,
    ):
        record = Record(server)
        assert ask_on(removed).startswith(OK)
        assert ask_on(kept).startswith(OK)
        volume.publish_peers(OTHER)
        record.wait_for_closed(server__peer_unexpected=1)
        assert removed.recv(1024) == b""
        why = f'peer {CLIENT} is not in entry "{ENTRY}" of peers file "{volume.file}"'
        assert f"server connection closed: {why}" in record.logged()
        assert ask_on(kept).startswith(OK)


def test_a_cluster_follows_the_list_of_who_may_answer(lab: Lab, volume: Volume) -> None:
    volume.publish_peers(OTHER)
    context = server_context(lab.credentials(SERVER), lab.roots, "http/1.1")
    with (
        TlsServer(context) as peer,
        lab.client(peer.port, bootstrap("client", CLUSTER), PEERS_FILE=volume.file) as client,
    ):
        before = configuration(client)
        record = Record(client)
        assert get(client.port("outbound"))[0] == 503
        record.wait_for_handshakes(client__failed__peer_unexpected=1)
        why = f'peer {SERVER} is not in entry "{ENTRY}" of peers file "{volume.file}"'
        assert f"client handshake failed: {why}" in record.logged()

        volume.publish_peers(OTHER, SERVER)
        wait_for(lambda: get(client.port("outbound"))[0] == 200, "the server may answer")

        volume.publish_peers(OTHER)
        record.wait_for_closed(client__peer_unexpected=1)
        assert get(client.port("outbound"))[0] == 503
        assert configuration(client) == before


def test_the_companion_follows_the_list_for_new_connections(
    lab: Lab, application: Application, volume: Volume
) -> None:
    text = bootstrap("server", COMPANION)
    with lab.server(application.port, text, PEERS_FILE=volume.file) as server:
        record = Record(server)
        client = Caller(lab, server, CLIENT)
        assert not client.is_let_in()
        assert record.peers() == {"denied": 1}
        said = f"meshkey_peer closed a connection: peer {CLIENT} is not accepted: peers file"
        assert any(line.startswith(said) for line in record.logged())
        volume.publish_peers(CLIENT)
        client.waits_to_be_let_in()
        volume.publish_peers(OTHER)
        client.waits_to_be_refused()
