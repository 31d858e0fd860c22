"""The main job on one machine, step by step, and what came out of it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from sidecar.demo.envoy import Envoy
from sidecar.demo.mesh import CLIENT, SERVER, Mesh
from sidecar.demo.processes import wait_for
from sidecar.demo.proof import learn_values, prove
from sidecar.demo.sidecars import Sidecar
from sidecar.demo.summary import summarise
from sidecar.demo.traffic import Traffic, get, get_mutual_tls
from sidecar.errors import MeshkeyError, StartFailed
from sidecar.hardening.memory import protect_memory

_STEPS = 8
# Requests that must succeed on either side of a rotation.
_ENOUGH = 50


def run(*, keep: bool) -> int:
    """Runs the demo; returns the exit status. With `keep` it stays up until interrupted."""
    started = time.monotonic()
    protect_memory()
    # SIGTERM takes the way of Ctrl-C: everything is stopped and removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Mesh() as mesh:
        try:
            demo = _Demo(mesh)
            demo.run()
        except MeshkeyError as error:
            mesh.keep_files()
            print(
                f"\nmeshkey demo: {error}\nlogs and configurations: {mesh.directory}",
                file=sys.stderr,
            )
            return 1
        print(f"\ndone in {time.monotonic() - started:.1f} s")
        if keep:
            demo.stay()
    return 0


class _Demo:
    """Each step prints what it does and how long it took."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._step = 0

    def run(self) -> None:
        mesh = self._mesh
        with self._progress("two tokens, mesh and ca, in SoftHSM2"):
            mesh.initialise_tokens()
        with self._progress("the local CA, its key in the ca token"):
            ca = mesh.start_ca()
        with self._progress("two sidecars: key pair, CSR, certificate"):
            self._client = mesh.start_sidecar("client", CLIENT)
            self._server = mesh.start_sidecar("server", SERVER)
        with self._progress("two stock Envoys, an application behind them"):
            self._start_envoys()
        with self._progress("a request: client Envoy, mutual TLS, server Envoy, application"):
            answer = self._first_answer()
        with self._progress("both identities rotated under running requests"):
            traffic = self._rotate_under_traffic()
        with self._progress("the proof: no key in either Envoy's memory"):
            proof = prove(self._envoys, self._values, *self._control())
        with self._progress("the summary"):
            summary = summarise(ca, [self._client, self._server], self._server_envoy)
        print(f"\n  {'the application said':<24}{answer.strip()}")
        print(
            f"  {'requests in rotation':<24}{traffic.answered} answered, {len(traffic.lost)} lost"
        )
        for name, value in summary.items():
            print(f"  {name:<24}{value}")
        print(f"  {'proof':<24}{proof}")

    def stay(self) -> None:
        """Prints what to try, and waits for SIGINT or SIGTERM."""
        files = self._mesh.file_credentials(CLIENT, "you")
        mutual = self._server_envoy.port("mtls")
        print(
            f"""
everything is still running; Ctrl-C stops it. Try:
  curl http://127.0.0.1:{self._client_envoy.port("outbound")}/
  curl --cacert {self._mesh.ca.root_file} --cert {files.chain} --key {files.key} \\
      --insecure https://127.0.0.1:{mutual}/
  openssl s_client -connect 127.0.0.1:{mutual} -CAfile {self._mesh.ca.root_file} \\
      -cert {files.chain} -key {files.key}
  .venv/bin/meshkey status --config {self._server.configuration}
  .venv/bin/meshkey rotate --config {self._server.configuration}
sockets, logs and configurations: {self._mesh.directory}"""
        )
        with suppress(KeyboardInterrupt):
            while True:  # signal.pause would sleep on if the signal came just before it
                time.sleep(1)

    def _start_envoys(self) -> None:
        self._application = self._mesh.start_application()
        self._server_envoy = self._mesh.start_server_envoy(self._server, self._application.port)
        self._client_envoy = self._mesh.start_client_envoy(
            self._client,
            self._server_envoy.port("mtls"),
            # So that requests meet new handshakes before, during and after a rotation.
            requests_per_connection=3,
        )
        self._envoys = [self._client_envoy, self._server_envoy]

    def _first_answer(self) -> str:
        status, body = get(self._client_envoy.port("outbound"))
        if status != 200 or CLIENT not in body:
            raise StartFailed(f"the application answered {status} {body!r}, expected {CLIENT}")
        return body

    def _rotate_under_traffic(self) -> Traffic:
        self._values = self._learn()
        with Traffic(self._client_envoy.port("outbound")) as traffic:
            wait_for(lambda: traffic.answered >= _ENOUGH, "requests before the rotation")
            for sidecar in (self._client, self._server):
                generation = sidecar.rotate()
                wait_for(partial(_in_use, sidecar, generation), "the new certificate")
            enough = traffic.answered + _ENOUGH
            wait_for(lambda: traffic.answered >= enough, "requests after the rotation")
        if traffic.lost:
            raise StartFailed(f"{len(traffic.lost)} requests were lost: {traffic.lost[0]}")
        self._values |= self._learn()
        return traffic

    def _learn(self) -> dict[str, bytes]:
        return learn_values(self._mesh.store, self._client) | learn_values(
            self._mesh.store, self._server
        )

    def _control(self) -> tuple[Envoy, bytes]:
        server = self._mesh.file_credentials(SERVER, "control")
        client = self._mesh.file_credentials(CLIENT, "control-client")
        envoy = self._mesh.start_native_envoy(server, self._application.port)
        get_mutual_tls(envoy.port("mtls"), client)
        return envoy, server.private_value

    @contextmanager
    def _progress(self, what: str) -> Iterator[None]:
        self._step += 1
        print(f"[{self._step}/{_STEPS}] {what:<66}", end="", flush=True)
        started = time.monotonic()
        yield
        print(f"{time.monotonic() - started:5.1f} s", flush=True)


def _in_use(sidecar: Sidecar, generation: int) -> bool:
    subscribers = sidecar.status().identities[0].subscribers
    return bool(subscribers) and all(s.acked_generation >= generation for s in subscribers)
