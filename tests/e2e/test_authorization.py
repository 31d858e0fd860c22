"""Who may do what once the handshake is done, and what the application is told of him."""

from __future__ import annotations

import pytest

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from tests.e2e.application import Application
from tests.e2e.forge import Credentials
from tests.e2e.lab import OTHER, Lab
from tests.e2e.peers import Http2Client, call, client_context
from tests.e2e.programs import curl
from tests.e2e.record import Record, access_to

ADMIN = 'URI="spiffe://demo.mesh/ns/demo/sa/admin"'


@pytest.fixture(scope="module")
def credentials(lab: Lab) -> Credentials:
    return lab.forge.certify(CLIENT)


def expected(credentials: Credentials) -> list[str]:
    from cryptography.hazmat.primitives import hashes

    digest = credentials.certificate.fingerprint(hashes.SHA256()).hex()
    return [f'By={SERVER};Hash={digest};URI="{CLIENT}"']


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_another_workload_of_the_trust_domain_is_denied(
    lab: Lab, server: Envoy, application: Application, version: str
) -> None:
    record = Record(server)
    url = f"https://127.0.0.1:{server.port('mtls')}/denied{version}"
    answer = curl(url, version, credentials=lab.credentials(OTHER))
    assert (answer.code, answer.status, answer.body) == (0, 403, "RBAC: access denied")
    # It is who it says it is; it may not come in all the same.
    record.wait_for_handshakes(server__ok=1)
    assert application.requests == []
    entry = access_to(server, f"/denied{version}")
    assert (entry["peer"], entry["code"]) == (OTHER, 403)
    assert "rbac_access_denied" in entry["details"]


def test_a_denied_workload_does_not_get_in_with_an_allowed_ones_header(
    lab: Lab, server: Envoy, application: Application
) -> None:
    answer = curl(
        f"https://127.0.0.1:{server.port('mtls')}/",
        *("--header", f'x-forwarded-client-cert: URI="{CLIENT}"'),
        credentials=lab.credentials(OTHER),
    )
    assert answer.status == 403
    assert application.requests == []


@pytest.mark.parametrize(
    "hostile",
    [
        [ADMIN],
        [ADMIN, ADMIN],
        [f"By=x;Hash=y;{ADMIN},{ADMIN}"],
        ['"', "'", "\\"],
        ['"";URI="spiffe://demo.mesh/x";Subject="\\"'],
        ["%FILTER_STATE(meshkey.peer:PLAIN)%"],
        ["\t", ""],
        ["\xff\xfe"],
        ["x" * 8000],
        [f"a\r\n {ADMIN}"],
        [f"a\r{ADMIN}"],
    ],
    ids=[
        *("spoofed", "twice", "list", "quotes", "nested", "format", "blank", "octets", "long"),
        *("folded", "return"),
    ],
)
@pytest.mark.parametrize("name", ["x-forwarded-client-cert", "X-Forwarded-Client-Cert"])
def test_what_a_caller_says_of_itself_is_replaced(
    server: Envoy,
    application: Application,
    credentials: Credentials,
    name: str,
    hostile: list[str],
) -> None:
    headers = "".join(f"{name}: {value}\r\n" for value in hostile)
    request = f"GET / HTTP/1.1\r\nhost: server\r\n{headers}connection: close\r\n\r\n"
    answer = call(server.port("mtls"), client_context(credentials), request.encode("latin-1"))
    assert answer.status == 200
    (seen,) = application.requests
    assert seen.values("x-forwarded-client-cert") == expected(credentials)


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_the_scheme_that_a_caller_claims_is_replaced(
    server: Envoy, application: Application, credentials: Credentials, version: str
) -> None:
    answer = curl(
        f"https://127.0.0.1:{server.port('mtls')}/",
        version,
        *("--header", "x-forwarded-proto: http", "--header", "x-forwarded-proto: gopher"),
        credentials=credentials,
    )
    assert answer.status == 200
    (seen,) = application.requests
    assert seen.values("x-forwarded-proto") == ["https"]


@pytest.mark.parametrize(
    "line",
    [
        f"x-forwarded-client-cert: a\n{ADMIN}\r\n",
        "x-forwarded-client-cert: a\0b\r\n",
        f"x-forwarded-client-cert : {ADMIN}\r\n",
    ],
    ids=["newline", "zero", "space"],
)
def test_a_header_that_http_1_does_not_allow_never_reaches_the_application(
    server: Envoy, application: Application, credentials: Credentials, line: str
) -> None:
    request = f"GET / HTTP/1.1\r\nhost: server\r\n{line}connection: close\r\n\r\n"
    answer = call(server.port("mtls"), client_context(credentials), request.encode())
    assert answer.status == 400
    assert application.requests == []


@pytest.mark.parametrize(
    "value", [f"a\n{ADMIN}", f"a\r\n{ADMIN}", "a\0b"], ids=["newline", "lines", "zero"]
)
def test_a_header_that_http_2_does_not_allow_never_reaches_the_application(
    server: Envoy, application: Application, credentials: Credentials, value: str
) -> None:
    with Http2Client(server.port("mtls"), client_context(credentials, "h2")) as http2:
        assert http2.get("/", ("x-forwarded-client-cert", value)) in (0, 400)
    assert application.requests == []


def test_the_header_is_replaced_in_http_2_too(
    server: Envoy, application: Application, credentials: Credentials
) -> None:
    with Http2Client(server.port("mtls"), client_context(credentials, "h2")) as http2:
        spoofed = [("x-forwarded-client-cert", ADMIN)] * 2
        assert http2.get("/", *spoofed, ("x-forwarded-proto", "http")) == 200
    (seen,) = application.requests
    assert seen.values("x-forwarded-client-cert") == expected(credentials)
    assert seen.values("x-forwarded-proto") == ["https"]
