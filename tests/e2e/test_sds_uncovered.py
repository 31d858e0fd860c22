"""What an Istio proxy that signs through the module does with what no EnvoyFilter covers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.demo.application import Application
from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import wait_for
from sidecar.demo.sidecars import Served
from sidecar.demo.softhsm import SoftHsmStore
from tests.e2e.lab import Lab, bootstrap
from tests.e2e.peers import call, client_context
from tests.e2e.tcp import TcpServer, plaintext
from tests.fixtures.rules import this_user


@dataclass
class Pod:
    """A stock Envoy with SDS of `meshkey serve`, and where its uncovered cluster leads."""

    sidecar: Served
    start_again: Callable[[], Served]
    envoy: Envoy
    store: SoftHsmStore
    upstream: TcpServer

    def has_keys(self, number: int) -> bool:
        """SoftHSM2 has a file for each half of a pair, and one for the token."""
        return len(list(self.store.tokens.glob("*/*.object"))) == 2 * number + 1

    def number(self, secret: str, name: str) -> int:
        return self.envoy.stats(f"^sds[.]{secret}[.]{name}$").get(f"sds.{secret}.{name}", 0)


@pytest.fixture
def pod(lab: Lab) -> Iterator[Pod]:
    directory, store = lab.short_path("un"), lab.store()
    directory.mkdir(mode=0o700)
    socket = directory / "sds.sock"
    sections: dict[str, dict[str, Any]] = {
        "token": {"label": "mesh", "pin_file": store.directory / "mesh.pin"},
        "identity": {"spiffe_id": SERVER, "trust_bundle": lab.roots},
        "ca": {"socket": lab.mesh.ca.socket},
        "signer": {"socket": directory / "signer.sock", "allow_own_user": True},
        "caller": this_user(),
        "sds": {"socket": socket, "refused_certificates": "expected"},
    }
    with ExitStack() as stack:
        upstream, application = TcpServer(), stack.enter_context(Application())
        stack.enter_context(upstream)

        def start() -> Served:
            served = Served("web", sections, directory, store.environment)
            return stack.enter_context(served)

        sidecar = start()
        values = {
            "SDS_SOCKET": socket,
            "PEER": CLIENT,
            "APP_PORT": application.port,
            "UPSTREAM_PORT": upstream.port,
        }
        # Its start waits for an answer about each secret, a refused one included.
        envoy = stack.enter_context(lab.envoy(bootstrap("sds-uncovered"), values))
        yield Pod(sidecar, start, envoy, store, upstream)


def test_the_start_goes_on_and_what_is_uncovered_is_closed_in_both_directions(
    lab: Lab, pod: Pod
) -> None:
    wait_for(lambda: pod.number("default", "update_rejected") > 0, "a refusal")
    assert pod.number("ROOTCA", "update_success") > 0
    assert plaintext(pod.envoy.port("to-plain")).startswith(b"HTTP/1.1 200")
    # Outwards: an answer of Envoy's own, and not an octet has left, encrypted or not.
    assert plaintext(pod.envoy.port("to-uncovered")).startswith(b"HTTP/1.1 503")
    assert pod.upstream.octets == b""
    # Inwards: neither mutual TLS nor plaintext reaches the application.
    uncovered = pod.envoy.port("uncovered")
    assert call(uncovered, client_context(lab.forge.certify(CLIENT))).status == 0
    assert plaintext(uncovered) == b""


def test_a_rotation_destroys_the_old_key_while_such_an_envoy_refuses_every_certificate(
    pod: Pod,
) -> None:
    wait_for(lambda: pod.number("default", "update_rejected") == 1, "a refusal")
    assert pod.has_keys(1)
    pod.sidecar.rotate()
    wait_for(lambda: pod.number("default", "update_rejected") == 2, "another refusal")
    wait_for(lambda: "key destroyed" in pod.sidecar.log.read_text(encoding="utf-8"), "its end")
    assert pod.has_keys(1)
    log = pod.sidecar.log.read_text(encoding="utf-8")
    assert log.count("certificate refused by subscriber, as is expected") == 1
    assert "secret refused by subscriber" not in log
    assert pod.sidecar.status().sds.refused == 0


def test_after_a_crash_of_the_sidecar_its_streams_are_back_and_all_is_as_before(pod: Pod) -> None:
    wait_for(lambda: pod.number("default", "update_rejected") == 1, "a refusal")
    pod.sidecar.kill()
    assert plaintext(pod.envoy.port("to-plain")).startswith(b"HTTP/1.1 200")
    assert plaintext(pod.envoy.port("to-uncovered")).startswith(b"HTTP/1.1 503")
    again = pod.start_again()
    again.ready()
    wait_for(lambda: again.status().sds.streams == 2, "both streams")
    wait_for(lambda: pod.number("default", "update_rejected") == 2, "the new certificate's refusal")
    wait_for(lambda: again.status().sds.acknowledged == 1, "the roots")
    assert pod.number("ROOTCA", "update_rejected") == 0
    assert again.status().sds.refused == 0
    assert plaintext(pod.envoy.port("to-uncovered")).startswith(b"HTTP/1.1 503")
    assert pod.upstream.octets == b""


def test_its_configuration_can_be_dumped_and_has_a_reference_where_a_key_would_be(
    pod: Pod,
) -> None:
    """An Envoy dumps nothing at all if a secret that it was given has a type unknown to it."""
    wait_for(lambda: pod.number("default", "update_rejected") > 0, "a refusal")
    dump = json.loads(pod.envoy.admin("/config_dump"))
    secrets = [
        secret["secret"]["tls_certificate"]
        for each in dump["configs"]
        for kind in ("dynamic_active_secrets", "dynamic_warming_secrets")
        for secret in each.get(kind, [])
        if "tls_certificate" in secret["secret"]
    ]
    assert secrets
    for each in secrets:
        assert each["private_key_provider"]["provider_name"] == "meshkey"
        assert "private_key" not in each
