"""Two Envoys under load whose identities rotate all the time, and what is seen of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from sidecar.demo.application import Application
from sidecar.demo.mesh import CLIENT, SERVER
from sidecar.demo.processes import Process, wait_for
from sidecar.demo.traffic import Traffic
from tests.e2e.forge import Forge
from tests.e2e.lab import Lab
from tests.e2e.record import Record
from tests.e2e.rotating import Rotating
from tests.e2e.shim import Shim
from tests.e2e.usage import Sample, Usage, trends

CALLERS = 2
REQUESTS_PER_CONNECTION = 2
# After so many rotations a second root comes, after as many more it goes.
ROOTS_EVERY = 5
_SAMPLES = 100
_STEP_BOUND_S = 60.0
_PROGRESS_S = 10.0


class Soak:
    """The server's sidecar keeps its identity for its next start, the client's does not."""

    def __init__(self, lab: Lab, stack: ExitStack, say: Callable[[str], None]) -> None:
        self.directory = lab.short_path("soak")
        self.directory.mkdir()
        state = self.directory / "state"
        state.mkdir(mode=0o700)
        self.bundle = self.directory / "roots.pem"
        root = load_der_x509_certificate(lab.local_root_der)
        self._lasting = root.public_bytes(Encoding.PEM)
        self._trust(self._lasting)
        shim = Shim.build(self.directory)
        trusted = {"trust_bundle": self.bundle}
        self.client = Rotating(lab, stack, CLIENT, shim, trusted)
        self.server = Rotating(lab, stack, SERVER, shim, {**trusted, "state": state})
        application = stack.enter_context(Application())
        self.server_envoy = stack.enter_context(
            lab.server(application.port, SIGNER_SOCKET=self.server.sidecar.socket)
        )
        self.client_envoy = stack.enter_context(
            lab.client(
                self.server_envoy.port("mtls"),
                SIGNER_SOCKET=self.client.sidecar.socket,
                REQUESTS_PER_CONNECTION=REQUESTS_PER_CONNECTION,
            )
        )
        self.processes: dict[str, Process] = {
            "client's sidecar": self.client.sidecar,
            "server's sidecar": self.server.sidecar,
            "client's Envoy": self.client_envoy,
            "server's Envoy": self.server_envoy,
            "local CA": lab.mesh.ca,
        }
        self.rotating = {"client's sidecar": self.client, "server's sidecar": self.server}
        self.samples: list[Sample] = []
        self.server_handshakes = Record(self.server_envoy)
        self.client_handshakes = Record(self.client_envoy)
        port = self.client_envoy.port("outbound")
        self._traffic = [Traffic(port) for _ in range(CALLERS)]
        self.visits = 0
        self.say = say
        self._began = self._said = 0.0

    def __enter__(self) -> Soak:
        self._traffic_open = ExitStack()
        for traffic in self._traffic:
            self._traffic_open.enter_context(traffic)
        self._began = self._said = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._traffic_open.close()

    @property
    def rotations(self) -> int:
        """Of the identity that has had fewer."""
        return min(each.ledger.read_on().rotations for each in self.rotating.values())

    @property
    def requests(self) -> int:
        return sum(traffic.answered for traffic in self._traffic)

    @property
    def lost(self) -> list[str]:
        return [why for traffic in self._traffic for why in traffic.lost]

    def run(self, rotations: int) -> None:
        """Until both identities have had so many, or a request is lost."""
        step = max(rotations // _SAMPLES, 1)
        for target in range(step, rotations + 1, step):
            self._wait_for(target)
            if self.lost:
                return
            self.samples.append(self._sample())
            if target % ROOTS_EVERY == 0:
                self._trust(self._lasting + self._visitor(target // ROOTS_EVERY))
            self._progress()
        self._trust(self._lasting)

    def summary(self) -> str:
        """A table in Markdown."""
        last = self.samples[-1]
        lines = [
            f"{last.rotations} rotations of each identity in {self._seconds} s, "
            f"{self.requests} requests, {len(self.lost)} lost, "
            f"{sum(self.server_handshakes.handshakes().values())} handshakes, "
            f"roots published {self.client.ledger.roots} and {self.server.ledger.roots} times.",
            "",
            "| Process | Files open | Threads | Memory, KiB | KiB a rotation | Resident, KiB |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        found = {(trend.process, trend.measure): trend for trend in trends(self.samples)}
        for process in last.usages:
            files, threads, memory = (
                found[process, measure] for measure in ("descriptors", "threads", "memory_kib")
            )
            # Between the middles of two thirds.
            slope = (memory.late - memory.early) / (last.rotations / 3)
            lines.append(
                f"| {process} | {files.early} → {files.late} | {threads.early} → {threads.late} "
                f"| {memory.early:,} → {memory.late:,} | {slope:+.2f} "
                f"| {last.usages[process].resident_kib:,} |"
            )
        return "\n".join(lines)

    def _wait_for(self, rotations: int) -> None:
        before = self.requests
        wait_for(
            lambda: bool(self.lost) or (self.rotations >= rotations and self.requests > before),
            f"rotation {rotations} under load",
            _STEP_BOUND_S,
        )

    def _sample(self) -> Sample:
        return Sample(
            self.rotations,
            self.requests,
            {name: each.store.keys for name, each in self.rotating.items()},
            {name: each.sessions for name, each in self.rotating.items()},
            {name: Usage.of(process) for name, process in self.processes.items()},
        )

    def _visitor(self, number: int) -> bytes:
        """Each a root that nobody has seen yet, and between them none."""
        if not number % 2:
            return b""
        self.visits += 1
        return Forge(self.directory, f"visitor-{number}").root_pem

    def _trust(self, roots: bytes) -> None:
        new = self.bundle.with_suffix(".new")
        new.write_bytes(roots)
        new.replace(self.bundle)

    @property
    def _seconds(self) -> int:
        return round(time.monotonic() - self._began)

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._said < _PROGRESS_S:
            return
        self._said = now
        last = self.samples[-1]
        self.say(
            f"{self._seconds:4} s  {last.rotations:3} rotations  {last.requests:6} requests"
            f"  keys {_listed(last.keys.values())}  sessions {_listed(last.sessions.values())}"
            f"  files {_listed(usage.descriptors for usage in last.usages.values())}"
            f"  KiB {_listed(usage.memory_kib for usage in last.usages.values())}"
        )


def _listed(numbers: Iterable[float]) -> str:
    return "/".join(f"{number:.9g}" for number in numbers)
