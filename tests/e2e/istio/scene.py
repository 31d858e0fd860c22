"""A mesh that runs: pods of a plan, with what istiod renders from Istio's objects and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from sidecar.demo.mesh import TRUST_DOMAIN
from sidecar.demo.processes import wait_for
from sidecar.istio.names import PEERS_DIRECTORY
from tests.e2e.istio.ours import Ours
from tests.e2e.istio.plan import Injected, Plan, Pod
from tests.e2e.istio.pod import (
    RunningPod,
    make_mounts,
    redirect,
    start_applications,
    start_proxy,
)
from tests.e2e.istio.relay import Relays
from tests.e2e.istio.rendering import render
from tests.e2e.istio.secrets import AgentSecrets
from tests.e2e.istio.sidecar import PodSidecar
from tests.e2e.lab import Lab


class Scene:
    """`values` are what `meshkey istio generate` is given; `istio` are the mesh's own objects."""

    def __init__(
        self, lab: Lab, plan: Plan, values: Mapping[str, Any], istio: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.lab = lab
        self.plan = plan
        policies = [each for each in istio if each["kind"] == "AuthorizationPolicy"]
        self._ours = Ours.generated(values, policies, lab.short_path("generated"))
        self._rendered = render(plan, [*istio, *self._ours.istio], TRUST_DOMAIN)
        self._stack = ExitStack()
        self._pods: dict[str, RunningPod] = {}

    def __enter__(self) -> Scene:
        self._relays = self._stack.enter_context(Relays())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> RunningPod:
        return self._pods[name]

    def start(self, *pods: Pod) -> None:
        """Starts them together; returns when all serve."""
        started = [self._started(pod) for pod in pods]
        for each in started:
            if each.sidecar:
                each.sidecar.ready()
                each.sidecar.wait_until(each.sidecar.certified, "a certificate")
        for each in started:
            if each.proxy:
                each.proxy.ready()
            if each.sidecar:
                wait_for(lambda it=each: _has_identity(it), f"{each.pod.name} has an identity")

    def _started(self, pod: Pod) -> RunningPod:
        mounts = make_mounts(self.lab.short_path("pod"))
        start_applications(self._stack, self.plan, pod)
        running = self._injected(pod, mounts)
        if running.proxy and not pod.gateway:
            redirect(self.plan, pod, running.proxy, self._relays)
        self._pods[pod.name] = running
        return running

    def _injected(self, pod: Pod, mounts: Mapping[str, Path]) -> RunningPod:
        rendered, spiffe_id = self._rendered[pod.name], pod.spiffe_id(TRUST_DOMAIN)
        if pod.injected is Injected.NOTHING:
            return RunningPod(pod, self.plan, self._relays, mounts)
        if pod.injected is Injected.ISTIO:
            secrets = AgentSecrets(mounts[PEERS_DIRECTORY].parent / "agent")
            secrets.trust(self.lab.roots.read_bytes())
            secrets.certify(self.lab.forge.certify(spiffe_id))
            proxy = start_proxy(self._stack, pod, rendered, mounts, secrets.directory)
            return RunningPod(pod, self.plan, self._relays, mounts, proxy, None, secrets)
        self._ours.mount_peers(pod.namespace, mounts[PEERS_DIRECTORY])
        sidecar = self._stack.enter_context(
            PodSidecar(self.lab, pod.name, spiffe_id, mounts, self.lab.roots)
        )
        proxy = start_proxy(self._stack, pod, rendered, mounts, None)
        return RunningPod(pod, self.plan, self._relays, mounts, proxy, sidecar)


def _has_identity(running: RunningPod) -> bool:
    return ", generation 1: " in running.envoy.log.read_text(encoding="utf-8")
