"""The name of the SDS socket: under the agent's own default it serves keys of its own."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Set

from sidecar.istio.check.finding import Finding, error
from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.objects import Object
from sidecar.istio.check.pods import PROXY, Pod
from sidecar.istio.names import CONFIG_MAP, SDS_DIRECTORY, SDS_SOCKET_FILE

DEFAULT = error("default-sds-socket", "The proxy's agent is not told another socket than its own.")
PATH = error("sds-socket-path", "The name of the agent's socket is a path.")
OTHER = error("sds-socket-differs", "The sidecar's SDS socket is not the one the agent looks for.")

_VARIABLE = "WORKLOAD_IDENTITY_SOCKET_FILE"
_AGENTS_OWN = "socket"
_FILE = "meshkey.toml"


def sockets(mesh: Mesh) -> Iterator[Finding]:
    """Of each proxy with the sidecar, and of each sidecar's configuration."""
    named = [(each, _name(mesh, each)) for each in mesh.signer_pods]
    for pod, name in named:
        yield from _agent(pod, name)
    for each in mesh.objects.of("ConfigMap"):
        if each.name == CONFIG_MAP:
            here = {name.text for pod, name in named if pod.namespace in {"", each.namespace}}
            yield from _sidecar(each, here - {""})


def _name(mesh: Mesh, pod: Pod) -> Node:
    """From the proxy's environment, else from what the whole mesh's proxies have."""
    proxy = pod.containers.get(PROXY) or Node(pod.place)
    for each in proxy.at("env").items:
        if each.at("name").text == _VARIABLE:
            return each.at("value")
    for config in mesh.mesh_configs:
        name = config.at("defaultConfig", "proxyMetadata", _VARIABLE)
        if name.present:
            return name
    return Node(proxy.place)


def _agent(pod: Pod, name: Node) -> Iterator[Finding]:
    if name.text in {"", _AGENTS_OWN}:
        yield DEFAULT.at(
            name.place,
            f"{pod.owner}: if the sidecar is late or gone, the agent serves keys of its own, "
            "in the proxy's memory",
            f"set {_VARIABLE}={SDS_SOCKET_FILE} in container {PROXY}",
        )
    elif "/" in name.text:
        yield PATH.at(
            name.place,
            f"{pod.owner}: the agent does not start, it takes a file name in {SDS_DIRECTORY}",
            f"set {_VARIABLE}={SDS_SOCKET_FILE}",
        )


def _sidecar(config: Object, names: Set[str]) -> Iterator[Finding]:
    text = config.node.at("data", _FILE)
    try:
        socket = tomllib.loads(text.text).get("sds", {}).get("socket")
    except (ValueError, RecursionError, AttributeError) as problem:
        yield OTHER.at(text.place, f"the sidecar does not start: {problem}", f"correct {_FILE}")
        return
    expected = sorted(f"{SDS_DIRECTORY}/{name}" for name in names)
    if expected and socket not in expected:
        yield OTHER.at(
            _line(text, str(socket)),
            f"{config}: the agent looks for {' or '.join(expected)}, and does not start",
            f'set socket = "{expected[0]}" in [sds]',
        )


def _line(text: Node, value: str) -> Place:
    """Where the file in a text has the value, else where the text starts."""
    lines = text.text.splitlines() if text.block else []
    for index, line in enumerate(lines):
        if value in line:
            return Place(text.place.file, text.place.line + 1 + index)
    return text.place
