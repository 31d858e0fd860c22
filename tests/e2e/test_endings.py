"""What an operator ends at a real sidecar ends in a real Envoy, and what it reinstates is back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sidecar.admin.client import AdminClient
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Sidecar
from tests.e2e.application import Application
from tests.e2e.lab import Lab
from tests.e2e.record import Record, wait_for_identity
from tests.e2e.test_closing import Callers

_SOME = 6


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sidecar(lab: Lab, stack: ExitStack) -> Sidecar:
    state = {"state": lab.short_path("state")}
    return stack.enter_context(lab.sidecar(SERVER, lab.store(), identity=state))


def _key_in_use(sidecar: Sidecar) -> bytes:
    return sidecar.status().identities[0].key_id


def test_a_deprovisioned_identity_loses_its_connections_and_traffic_is_back_when_it_is_reinstated(
    lab: Lab, application: Application, stack: ExitStack, sidecar: Sidecar
) -> None:
    server = stack.enter_context(lab.server(application.port, SIGNER_SOCKET=sidecar.socket))
    wait_for_identity(server)
    callers = Callers(stack, server.port("mtls"), lab.credentials(CLIENT))
    wait_for(lambda: not callers.refused(), "it serves")
    record = Record(server)
    callers.connect(_SOME)
    callers.ask()
    before = _key_in_use(sidecar)
    with AdminClient(sidecar.admin_socket) as admin:
        assert not admin.deprovision("default").problems
        record.wait_for_closed(server__identity_withdrawn=_SOME)
        assert callers.are_told()
        assert callers.refused()
        assert record.signatures() == {"asked": _SOME, "made": _SOME}
        admin.reinstate("default")
    wait_for(lambda: not callers.refused(), "traffic is back")
    assert _key_in_use(sidecar) not in {b"", before}
    assert record.connections() == {"server.closed.identity_withdrawn": _SOME}


def test_a_revoked_key_takes_its_connections_with_it_and_its_successor_serves(
    lab: Lab, application: Application, stack: ExitStack, sidecar: Sidecar
) -> None:
    server = stack.enter_context(lab.server(application.port, SIGNER_SOCKET=sidecar.socket))
    wait_for_identity(server)
    callers = Callers(stack, server.port("mtls"), lab.credentials(CLIENT))
    wait_for(lambda: not callers.refused(), "it serves")
    record = Record(server)
    callers.connect(_SOME)
    callers.ask()
    revoked = _key_in_use(sidecar)
    with AdminClient(sidecar.admin_socket) as admin:
        assert not admin.revoke(revoked).problems
    record.wait_for_closed(server__key_revoked=_SOME)
    assert callers.are_told()
    wait_for(lambda: not callers.refused(), "its successor serves")
    assert _key_in_use(sidecar) != revoked
    # What the successor made is left alone.
    callers.connections.clear()
    callers.connect(1)
    callers.ask()
    assert record.connections() == {"server.closed.key_revoked": _SOME}
