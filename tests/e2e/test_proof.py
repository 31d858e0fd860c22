"""Keys never reach proxy memory: the proof, and everything that must make it fail."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.demo.credentials import FileCredentials
from sidecar.demo.envoy import REPOSITORY, Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.proof import ProofFailed, learn_values, prove
from sidecar.demo.traffic import get, get_mutual_tls
from sidecar.proof.memory import MemoryUnreadable, Scan, scan
from sidecar.proof.needles import Needle
from tests.e2e.application import Application
from tests.e2e.lab import Lab, bootstrap
from tests.e2e.record import Record
from tests.e2e.watching import leaf_of, rotate


@pytest.fixture(scope="module")
def given(lab: Lab) -> FileCredentials:
    """What the control is given."""
    return lab.credentials(SERVER)


@pytest.fixture(scope="module")
def control(lab: Lab, shared_application: Application, given: FileCredentials) -> Iterator[Envoy]:
    """An Envoy with its key in a file, so in its memory."""
    values = {
        "PEER": CLIENT,
        "APP_PORT": shared_application.port,
        "CHAIN": given.chain,
        "KEY": given.key,
        "ROOTS": lab.roots,
    }
    with lab.envoy(bootstrap("server-native"), values) as envoy:
        assert get_mutual_tls(envoy.port("mtls"), lab.credentials(CLIENT))[0] == 200
        yield envoy


def current_values(lab: Lab) -> dict[str, bytes]:
    sidecars = (lab.client_sidecar, lab.server_sidecar)
    return {
        name: value
        for sidecar in sidecars
        for name, value in learn_values(lab.mesh.store, sidecar).items()
    }


def random_value() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_numbers().private_value.to_bytes(32, "big")


def pem(value: bytes) -> bytes:
    key = ec.derive_private_key(int.from_bytes(value, "big"), ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_no_key_is_in_either_envoy_after_handshakes_and_a_rotation(
    lab: Lab,
    server: Envoy,
    application: Application,
    control: Envoy,
    given: FileCredentials,
) -> None:
    values = current_values(lab)
    # One request a connection: each is a handshake with both keys.
    with lab.client(server.port("mtls"), REQUESTS_PER_CONNECTION=1) as client:
        ours, theirs = Record(client), Record(server)
        for _ in range(10):
            assert get(client.port("outbound"))[0] == 200
        for sidecar in (lab.client_sidecar, lab.server_sidecar):
            rotate(sidecar)
        values |= current_values(lab)
        for _ in range(10):
            assert get(client.port("outbound"))[0] == 200
        assert ours.signatures() == {"asked": 20, "made": 20}
        assert theirs.signatures() == {"asked": 20, "made": 20}
        proof = prove([client, server], values, control, given.private_value)
    assert (proof.keys, proof.processes) == (4, 2)
    assert proof.control_hits >= 1
    assert proof.octets > 2 * 50 * 2**20


def test_the_values_that_are_searched_are_the_keys_that_sign(lab: Lab) -> None:
    (value,) = learn_values(lab.mesh.store, lab.server_sidecar).values()
    key = ec.derive_private_key(int.from_bytes(value, "big"), ec.SECP256R1())
    assert key.public_key() == leaf_of(lab.server_sidecar).public_key()


def test_a_scan_that_does_not_find_the_controls_key_proves_nothing(
    lab: Lab, server: Envoy, control: Envoy
) -> None:
    with pytest.raises(ProofFailed, match="the scan did not find the key that Envoy was given"):
        prove([server], current_values(lab), control, random_value())


def test_a_control_without_a_key_proves_nothing(
    lab: Lab, server: Envoy, given: FileCredentials
) -> None:
    with pytest.raises(ProofFailed, match="the scan did not find the key that Envoy was given"):
        prove([server], current_values(lab), server, given.private_value)


def in_node_metadata(value: bytes) -> str:
    text = pem(value).decode().replace("\n", "\\n")
    return f'node: {{id: x, cluster: x, metadata: {{note: "{text}"}}}}\n\n'


def in_a_response(value: bytes) -> str:
    """As it is: Envoy decodes the body that it is to answer with."""
    return base64.b64encode(value).decode()


@pytest.mark.parametrize("where", ["node metadata", "a response", "the environment"])
def test_a_key_that_is_in_an_envoy_is_found(
    lab: Lab,
    application: Application,
    control: Envoy,
    given: FileCredentials,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    (value,) = learn_values(lab.mesh.store, lab.server_sidecar).values()
    text = bootstrap("server")
    if where == "node metadata":
        text = in_node_metadata(value) + text
    elif where == "a response":
        route = "route: {cluster: app, timeout: 60s}"
        body = f"{{status: 200, body: {{inline_bytes: {in_a_response(value)}}}}}"
        text = bootstrap("server", {route: f"direct_response: {body}"})
    else:
        monkeypatch.setenv("SOMETHING", base64.b64encode(pem(value)).decode())
        monkeypatch.setenv("SOMETHING_ELSE", pem(value).decode())
    with (
        lab.server(application.port, text) as envoy,
        pytest.raises(ProofFailed, match=f"at 0x[0-9a-f]+ of {envoy.name}, "),
    ):
        prove([envoy], {"planted": value}, control, given.private_value)


def test_an_envoy_that_has_ended_proves_nothing(
    lab: Lab, application: Application, control: Envoy, given: FileCredentials
) -> None:
    with lab.server(application.port) as envoy:
        assert envoy.stop() == 0
        with pytest.raises(MemoryUnreadable, match=f"process {envoy.pid}"):
            prove([envoy], current_values(lab), control, given.private_value)


@pytest.mark.parametrize("tries", [1, 99])
def test_memory_that_was_seen_in_part_proves_nothing(
    lab: Lab,
    server: Envoy,
    control: Envoy,
    given: FileCredentials,
    monkeypatch: pytest.MonkeyPatch,
    tries: int,
) -> None:
    partial: list[int] = []

    def scan_with_holes(pid: int, wanted: Iterable[Needle]) -> Scan:
        result = scan(pid, wanted)
        if pid != server.pid or len(partial) >= tries:
            return result
        partial.append(pid)
        return replace(result, octets_unreadable=4096)

    monkeypatch.setattr("sidecar.demo.proof.scan", scan_with_holes)
    if tries == 1:  # memory that was given back while it was searched: another try sees all
        prove([server], current_values(lab), control, given.private_value)
        return
    with pytest.raises(ProofFailed, match="4096 octets of its memory could not be read"):
        prove([server], current_values(lab), control, given.private_value)


SCAN = """
import sys
from sidecar.proof.memory import MemoryUnreadable, scan
from sidecar.proof.needles import needles
try:
    scan(int(sys.argv[1]), needles(bytes(range(32))))
except MemoryUnreadable as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root's capabilities away")
def test_memory_that_may_not_be_read_proves_nothing(server: Envoy) -> None:
    without_capabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    command = [sys.executable, "-c", SCAN, str(server.pid)]
    allowed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (allowed.returncode, allowed.stderr) == (0, "")
    denied = subprocess.run(
        [*without_capabilities, *command],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert denied.returncode == 1
    assert f"cannot open the memory of process {server.pid} (Permission denied)" in denied.stderr
