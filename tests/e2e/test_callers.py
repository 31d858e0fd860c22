"""A real Envoy is served by what it is: the user that it runs as."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.admin.client import AdminClient
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Served
from sidecar.demo.softhsm import SoftHsmStore
from tests.e2e.application import Application
from tests.e2e.lab import Lab, bootstrap
from tests.e2e.peers import call, client_context
from tests.e2e.record import Record
from tests.fixtures.rules import this_user

ANOTHER = 3_999_999_991
# Which is all that it is told.
_REFUSED = "this process may not use this socket; the log of the sidecar says why"


class Ruled(Served):
    """The demo's server's sidecar, for whoever runs as `uid`."""

    def __init__(self, lab: Lab, store: SoftHsmStore, directory: Path, uid: int) -> None:
        self.socket = directory / "signer.sock"
        super().__init__(
            "ruled",
            {
                "token": {"label": "mesh", "pin_file": store.directory / "mesh.pin"},
                "identity": {"spiffe_id": SERVER, "trust_bundle": lab.roots},
                "ca": {"socket": lab.mesh.ca.socket},
                "signer": {"socket": self.socket, "allow_own_user": True},
                "caller": {**this_user(), "uid": uid},
            },
            directory,
            store.environment,
        )

    def change_user(self, old: int, new: int) -> None:
        """In the rule, by a reload."""
        text = self.configuration.read_text(encoding="utf-8")
        assert text.count(f"uid = {old}\n") == 1
        self.configuration.write_text(text.replace(f"uid = {old}\n", f"uid = {new}\n"), "utf-8")
        with AdminClient(self.admin_socket) as client:
            client.reload()


@pytest.fixture
def directory(lab: Lab) -> Path:
    made = lab.short_path("rule")
    made.mkdir(mode=0o700)
    return made


def test_an_envoy_is_served_while_a_rule_is_for_its_user(
    lab: Lab, application: Application, directory: Path
) -> None:
    context = client_context(lab.credentials(CLIENT))
    with ExitStack() as stack:
        sidecar = stack.enter_context(Ruled(lab, lab.store(), directory, ANOTHER))
        sidecar.ready()
        sidecar.wait_until(sidecar.certified, "a certificate")
        values = {**lab.server_values(application.port), "SIGNER_SOCKET": sidecar.socket}
        server = stack.enter_context(lab.unready_envoy(bootstrap("server"), values))
        server.ready()
        wait_for(lambda: _REFUSED in server.log.read_text("utf-8"), "it is told")
        port, record = server.port("mtls"), Record(server)
        assert call(port, context).octets == b""
        assert record.handshakes() == {"server.failed.no_signer": 1}
        assert f"no [[caller]] is for user {os.getuid()}" in sidecar.log.read_text(encoding="utf-8")
        assert application.requests == []
        sidecar.change_user(ANOTHER, os.getuid())
        wait_for(lambda: call(port, context).status == 200, "it is let in")
        sidecar.change_user(os.getuid(), ANOTHER)
        wait_for(lambda: call(port, context).octets == b"", "it is put out")
