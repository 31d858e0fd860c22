"""A signer that asks its callers for a token, before a real Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Served
from sidecar.demo.traffic import get
from tests.e2e.application import Application
from tests.e2e.at_once import OK
from tests.e2e.lab import Lab, bootstrap
from tests.e2e.peers import ask_on, call, client_context, connect
from tests.e2e.record import Record, wait_for_identity
from tests.fixtures.bearers import AUDIENCE, SUBJECT, Issuer, issuer, key_set
from tests.fixtures.rules import this_user

REFUSED = "the signer refuses this process: "


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def with_token(name: str, file: Path) -> str:
    identity = "identity: default\n"
    text = bootstrap(name)
    (line,) = [line for line in text.splitlines(keepends=True) if line.endswith(identity)]
    return text.replace(line, line + line.replace(identity, f'token_file: "{file}"\n'))


def test_a_token_is_presented_renewed_and_never_logged(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    file = lab.short_path("token")
    file.write_text("first-secret\n", encoding="ascii")
    signer = lab.fake_signer(stack, SERVER, token="first-secret")
    text = with_token("server", file)
    server = stack.enter_context(lab.server(application.port, text, SIGNER_SOCKET=signer.socket))
    wait_for_identity(server)
    port, context = server.port("mtls"), client_context(lab.credentials(CLIENT))
    record = Record(server)
    assert call(port, context).status == 200

    signer.demand("second-secret")
    wait_for(lambda: any(REFUSED in line for line in record.logged()), "it has expired")
    assert call(port, context).octets == b""
    failed = f"server handshake failed: no signer at {signer.socket}: {REFUSED}no valid token"
    wait_for(lambda: failed in record.logged(), "the reason")

    file.write_text("second-secret", encoding="ascii")
    wait_for(lambda: call(port, context).status == 200, "the new token")
    # Told once, whatever the number of attempts.
    told = [line for line in record.logged() if line.endswith("reconnecting")]
    assert told == [
        f"no signer at {signer.socket} (identity default): {REFUSED}no valid token; reconnecting"
    ]
    assert "-secret" not in server.log.read_text(encoding="utf-8")


class Asking(Served):
    """The demo's server's sidecar, for callers with a token of `issuer`."""

    def __init__(self, lab: Lab, issuer: Issuer) -> None:
        store, directory = lab.store(), lab.short_path("ask")
        directory.mkdir(mode=0o700)
        self.socket, self.revoked = directory / "signer.sock", directory / "revoked"
        self.revoked.write_text("", encoding="utf-8")
        jwks = directory / "jwks.json"
        jwks.write_bytes(key_set(issuer.entry))
        super().__init__(
            "asking",
            {
                "token": {"label": "mesh", "pin_file": store.directory / "mesh.pin"},
                "identity": {"spiffe_id": SERVER, "trust_bundle": lab.roots},
                "ca": {"socket": lab.mesh.ca.socket},
                "signer": {"socket": self.socket, "allow_own_user": True},
                "caller": {**this_user(), "bearer_subject": SUBJECT},
                "bearer": {"jwks": jwks, "audience": AUDIENCE, "revoked": self.revoked},
            },
            directory,
            store.environment,
        )


def test_a_real_sidecar_takes_the_token_and_the_next_one_while_connections_go_on(
    lab: Lab, application: Application, stack: ExitStack
) -> None:
    issues, file = issuer(), lab.short_path("token")
    sidecar = stack.enter_context(Asking(lab, issues))
    sidecar.ready()
    sidecar.wait_until(sidecar.certified, "a certificate")
    file.write_text(issues.token(datetime.now(UTC), jti="first"), encoding="ascii")
    text = with_token("server", file)
    server = stack.enter_context(lab.server(application.port, text, SIGNER_SOCKET=sidecar.socket))
    wait_for_identity(server)
    port, context, record = (
        server.port("mtls"),
        client_context(lab.credentials(CLIENT)),
        Record(server),
    )
    established = stack.enter_context(connect(port, context))
    assert ask_on(established).startswith(OK)

    sidecar.revoked.write_text("first\n", encoding="utf-8")
    wait_for(lambda: any(REFUSED in line for line in record.logged()), "it is put out")
    assert ask_on(established).startswith(OK)
    file.write_text(issues.token(datetime.now(UTC), jti="second"), encoding="ascii")
    wait_for(lambda: call(port, context).status == 200, "it is back")
    assert ask_on(established).startswith(OK)
    assert issues.token(datetime.now(UTC))[:20] not in server.log.read_text(encoding="utf-8")


def test_a_caller_that_may_watch_but_not_sign_does_not_fill_the_log(
    lab: Lab, server: Envoy, stack: ExitStack
) -> None:
    signer = lab.fake_signer(stack, CLIENT, signs=False)
    # It is let in and put out again and again, so nobody waits for it to stay.
    values = {**lab.client_values(server.port("mtls")), "SIGNER_SOCKET": signer.socket}
    client = stack.enter_context(lab.unready_envoy(bootstrap("client"), values))
    client.ready()
    wait_for(lambda: signer.streams > 6, "attempts")
    assert get(client.port("outbound"))[0] == 503
    lines = client.log.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if "reconnecting" in line]) == 1
    assert any(REFUSED + "no purpose is allowed" in line for line in lines)
