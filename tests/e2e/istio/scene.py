"""A mesh that runs: pods of a plan, with what istiod renders from Istio's objects and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from sidecar.demo.mesh import TRUST_DOMAIN
from sidecar.demo.processes import wait_for
from sidecar.istio.names import PEERS_DIRECTORY
from tests.e2e.istio.ours import NOTHING, Object, Ours
from tests.e2e.istio.plan import Injected, Plan, Pod
from tests.e2e.istio.pod import (
    RunningPod,
    make_mounts,
    redirect,
    start_applications,
    start_proxy,
)
from tests.e2e.istio.proxy import IstioProxy
from tests.e2e.istio.relay import Relays
from tests.e2e.istio.rendering import render
from tests.e2e.istio.secrets import AgentSecrets
from tests.e2e.istio.sidecar import PodSidecar
from tests.e2e.lab import Lab
from tests.fixtures.istiod import Given


@dataclass(frozen=True)
class Configuration:
    """What the operator has applied.

    `values` are what `meshkey istio generate` was given, with the policies among `istio`, which
    are the mesh's own objects. Of those that are there `besides` it was not told; one of a
    generated one's name is there in its place.
    """

    values: Mapping[str, Any] | None
    istio: Sequence[Object] = ()
    besides: Sequence[Object] = ()


class Scene:
    """Starts pods and pushes configuration; `roots` is the PEM file of whom all trust at first.

    Services move to other pods only with `moving`.
    """

    def __init__(
        self,
        lab: Lab,
        plan: Plan,
        configuration: Configuration,
        roots: Path | None = None,
        *,
        moving: bool = False,
    ) -> None:
        self.plan = plan
        self._lab = lab
        self._moving = moving
        self._roots = roots or lab.roots
        self._roots_of_agents = self._roots.read_bytes()
        self._stack = ExitStack()
        self._pods: dict[str, RunningPod] = {}
        self._ours = NOTHING
        self._render(configuration)

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

    def push(self, configuration: Configuration) -> None:
        """istiod renders the plan as it is now; every proxy that runs has it on return."""
        self._render(configuration)
        for running in self._pods.values():
            if running.sidecar:
                self._ours.mount_peers(running.pod.namespace, running.mounts[PEERS_DIRECTORY])
            if running.proxy:
                running.proxy.push(self._rendered[running.pod.name])

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
                wait_for(partial(_has_identity, each), f"{each.pod.name} has an identity")

    def end(self, pod: Pod) -> None:
        """As the kubelet ends a pod that no service has any more: drained, then stopped."""
        running = self._pods.pop(pod.name)
        self.plan.pods.remove(pod)
        running.envoy.drain()
        running.envoy.stop()
        if running.sidecar:
            running.sidecar.stop()

    def list_peers(self, namespace: str, host: str, *spiffe_ids: str) -> None:
        """The kubelet brings a namespace's pods a new list of who may answer for a host."""
        self._ours = self._ours.with_peers(namespace, host, spiffe_ids)
        for running in self._pods.values():
            if running.sidecar and running.pod.namespace == namespace:
                self._ours.mount_peers(namespace, running.mounts[PEERS_DIRECTORY])

    def begin_sidecar(self, name: str) -> None:
        """Another one in place of one that has ended; returns when it serves."""
        running = self._pods[name]
        sidecar = self._sidecar(running.pod, running.mounts)
        self._pods[name] = replace(running, sidecar=sidecar)
        sidecar.ready()
        sidecar.wait_until(sidecar.certified, "a certificate")

    def trust(self, roots: bytes) -> None:
        """PEM: the sidecars and the agents are given these."""
        self.trust_at_sidecars(roots)
        self.trust_at_agents(roots)

    def trust_at_sidecars(self, roots: bytes) -> None:
        """PEM: those that are to come, too."""
        new = self._roots.with_suffix(".new")
        new.write_bytes(roots)
        new.rename(self._roots)

    def trust_at_agents(self, roots: bytes) -> None:
        """PEM: those that are to come, too. On return the proxies go by them."""
        self._roots_of_agents = roots
        for running in self._pods.values():
            if running.secrets:
                running.envoy.give_roots(partial(running.secrets.trust, roots))

    def _render(self, configuration: Configuration) -> None:
        istio, besides = configuration.istio, configuration.besides
        policies = [each for each in istio if each["kind"] == "AuthorizationPolicy"]
        self._ours = NOTHING
        if configuration.values:
            directory = self._lab.short_path("generated")
            self._ours = Ours.generated(configuration.values, policies, directory)
        applied = {_identity(each): each for each in (*istio, *self._ours.istio, *besides)}
        self._rendered: Mapping[str, Given] = render(self.plan, [*applied.values()], TRUST_DOMAIN)

    def _started(self, pod: Pod) -> RunningPod:
        mounts = make_mounts(self._lab.short_path("pod"))
        running = self._injected(pod, mounts)
        start_applications(self._stack, running)
        if running.proxy and not pod.gateway:
            redirect(running)
        self._pods[pod.name] = running
        return running

    def _injected(self, pod: Pod, mounts: Mapping[str, Path]) -> RunningPod:
        bare = RunningPod(pod, self.plan, self._relays, mounts)
        match pod.injected:
            case Injected.NOTHING:
                return bare
            case Injected.ISTIO:
                secrets = self._agent(pod, mounts)
                proxy = self._proxy(pod, mounts, secrets)
                return replace(bare, proxy=proxy, secrets=secrets)
            case Injected.MESHKEY:
                sidecar = self._sidecar(pod, mounts)
                return replace(bare, proxy=self._proxy(pod, mounts), sidecar=sidecar)

    def _proxy(
        self, pod: Pod, mounts: Mapping[str, Path], secrets: AgentSecrets | None = None
    ) -> IstioProxy:
        rendered = self._rendered[pod.name]
        return self._stack.enter_context(
            start_proxy(pod, rendered, mounts, secrets, moving=self._moving)
        )

    def _agent(self, pod: Pod, mounts: Mapping[str, Path]) -> AgentSecrets:
        secrets = AgentSecrets(mounts[PEERS_DIRECTORY].parent / "agent")
        secrets.trust(self._roots_of_agents)
        secrets.certify(self._lab.forge.certify(pod.spiffe_id(TRUST_DOMAIN)))
        return secrets

    def _sidecar(self, pod: Pod, mounts: Mapping[str, Path]) -> PodSidecar:
        self._ours.mount_peers(pod.namespace, mounts[PEERS_DIRECTORY])
        spiffe_id = pod.spiffe_id(TRUST_DOMAIN)
        return self._stack.enter_context(
            PodSidecar(self._lab, pod.name, spiffe_id, mounts, self._roots)
        )


def _identity(each: Object) -> tuple[str, str, str]:
    """What `kubectl apply` goes by."""
    return each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]


def _has_identity(running: RunningPod) -> bool:
    return ", generation 1: " in running.envoy.log.read_text(encoding="utf-8")
