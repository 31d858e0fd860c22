"""The mesh that most tests share: a namespace of each kind, and something of everything in it.

- demo, STRICT, with meshkey: `client`, `server` (services `server` of three ports, and `headless`).
- soft, PERMISSIVE, with meshkey: `soft`.
- old, with Istio's own proxies and their keys in memory: `old`, as client and server; who expects
  somebody else as service `imposed`; and whom nobody has listed as service `unlisted`.
- demo, without a proxy: `bare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sidecar.demo.mesh import TRUST_DOMAIN
from tests.e2e.istio.ours import values
from tests.e2e.istio.plan import Injected, Plan
from tests.e2e.istio.pod import RunningPod
from tests.e2e.istio.scene import Scene
from tests.e2e.lab import Lab

CLIENT = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/client"
SERVER = f"spiffe://{TRUST_DOMAIN}/ns/demo/sa/server"
SOFT = f"spiffe://{TRUST_DOMAIN}/ns/soft/sa/soft"
OLD = f"spiffe://{TRUST_DOMAIN}/ns/old/sa/old"


@dataclass(frozen=True)
class SharedMesh:
    """The pods, running."""

    plan: Plan
    client: RunningPod
    server: RunningPod
    soft: RunningPod
    old: RunningPod


@contextmanager
def shared_mesh(lab: Lab) -> Iterator[SharedMesh]:
    with ExitStack() as stack:
        plan = stack.enter_context(Plan())
        client = plan.pod("client", "demo")
        server = plan.pod("server", "demo")
        soft = plan.pod("soft", "soft")
        old = plan.pod("old", "old", Injected.ISTIO)
        bare = plan.pod("bare", "demo", Injected.NOTHING)
        ports = {"http-web": 8000, "tcp-echo": 9000, "grpc-say": 8080}
        plan.service("server", "demo", ports, server)
        plan.service("headless", "demo", {"http-web": 8000, "tcp-echo": 9000}, server, headless=True)
        plan.service("soft", "soft", {"http-web": 8000, "tcp-echo": 9000}, soft)
        plan.service("old", "old", {"http-web": 8000}, old)
        imposed = plan.service("imposed", "old", {"http-web": 8000}, old)
        unlisted = plan.service("unlisted", "old", {"http-web": 8000}, old)
        plan.service("bare", "demo", {"http-web": 8000}, bare)
        document = values(
            plan,
            {"demo": "strict", "soft": "permissive"},
            unlisted=[unlisted],
            accounts={imposed.host: ["old/expected"]},
        )
        scene = stack.enter_context(Scene(lab, plan, document))
        scene.start(*plan.pods)
        yield SharedMesh(plan, scene["client"], scene["server"], scene["soft"], scene["old"])
