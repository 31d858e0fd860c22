"""What a sidecar costs: before anyone asks it for anything, and while it is asked."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from sidecar.demo.mesh import Mesh
from sidecar.demo.sidecars import Sidecar

_SAMPLE_S = 0.05


def start(mesh: Mesh, spiffe_id: str) -> tuple[dict[str, float], Sidecar]:
    """Starts a sidecar; the time until it has its certificate, and its memory then."""
    started = time.monotonic()
    sidecar = mesh.start_sidecar("server", spiffe_id)
    ready = time.monotonic() - started
    return {"start_to_ready_s": ready, "sidecar_idle_mb": sidecar.resident_mb}, sidecar


class Watched:
    """The most memory that a sidecar has while the context is open."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_mb = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self.most_mb = max(self.most_mb, self._sidecar.resident_mb)
