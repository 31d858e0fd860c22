"""Our container: who it runs as, what it may, when it starts, and who sees what it stores."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sidecar.istio.check.finding import Finding, Rule, error
from sidecar.istio.check.located import Node
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.pods import SETUP, SIGNER, Pod
from sidecar.istio.names import PROXY_GROUP, PROXY_USER, SIGNER_USER
from sidecar.istio.pods.volumes import SOCKETS, STORE

USER = error(
    "signer-user", "The sidecar runs as root, as the proxy's user, or as nobody says whom."
)
GROUP = error(
    "signer-group", "The sidecar's group is not the one whose traffic passes by the proxy."
)
PROBE = error("no-startup-probe", "The sidecar has no startup probe.")
ORDER = error("signer-not-first", "The sidecar is no init container that goes on running.")
PRIVILEGES = error("signer-privileges", "The sidecar may gain privileges or has capabilities.")
ROOT = error("writable-root", "The sidecar's root file system is writable.")
SHARED = error("store-shared", "Another container mounts the token's store or the admin socket.")
SECRET = error("secret-in-environment", "A PIN or another secret is in the sidecar's environment.")

# With the tokens and PINs that TPM and SGX have outside of the pod.
_PRIVATE = {STORE["name"], "meshkey-token", "meshkey-pin"}
_SECRET = re.compile(r"(?:^|_)(?:PIN|PASSWORD|PASSPHRASE|SECRET|TOKEN)$")


@dataclass(frozen=True)
class _Setting:
    """Of a security context: `wrong` says of its node what is."""

    rule: Rule
    key: str
    wrong: Callable[[Node], bool]
    happens: str
    advice: str


_SETTINGS = (
    _Setting(
        USER,
        "runAsUser",
        lambda node: node.text in {"", "0", str(PROXY_USER)},
        "the proxy could act as the sidecar and read the token's store, or root could",
        f"set runAsUser: {SIGNER_USER}",
    ),
    _Setting(
        GROUP,
        "runAsGroup",
        lambda node: node.text != str(PROXY_GROUP),
        "its calls to the CA are sent into the proxy, which waits for their result",
        f"set runAsGroup: {PROXY_GROUP}",
    ),
    _Setting(
        PRIVILEGES,
        "allowPrivilegeEscalation",
        lambda node: node.value is not False,
        "what breaks into it can become root",
        "set allowPrivilegeEscalation: false",
    ),
    _Setting(
        PRIVILEGES,
        "privileged",
        lambda node: node.value is True,
        "it is root on the node",
        "remove privileged",
    ),
    _Setting(
        ROOT,
        "readOnlyRootFilesystem",
        lambda node: node.value is not True,
        "what breaks into it can replace its program and library",
        "set readOnlyRootFilesystem: true",
    ),
)


def security(mesh: Mesh) -> Iterator[Finding]:
    """Users, groups and privileges of what holds the key, also of the step that prepares it."""
    for pod in mesh.signer_pods:
        for name in (SIGNER, SETUP):
            if container := pod.containers.get(name):
                yield from _security(pod, container)


def _security(pod: Pod, container: Node) -> Iterator[Finding]:
    own = container.at("securityContext")
    for each in _SETTINGS:
        inherited = pod.node.at("spec", "securityContext", each.key)
        node = own.at(each.key) if own.at(each.key).present or not inherited.present else inherited
        if each.wrong(node):
            yield each.rule.at(node.place, f"{_named(pod, container)}: {each.happens}", each.advice)
    capabilities = own.at("capabilities")
    dropped = {each.text for each in capabilities.at("drop").items}
    if capabilities.at("add").items or "ALL" not in dropped:
        yield PRIVILEGES.at(
            capabilities.place,
            f"{_named(pod, container)}: it has capabilities, and needs none",
            "drop ALL, and add none",
        )


def starts(mesh: Mesh) -> Iterator[Finding]:
    """Before the proxy, and until the proxy ends."""
    for pod in mesh.signer_pods:
        container = pod.containers[SIGNER]
        if container not in pod.init_containers or container.at("restartPolicy").text != "Always":
            yield ORDER.at(
                container.place,
                f"{_named(pod, container)}: the proxy starts before it, or it ends with the init "
                "containers",
                "make it an init container with restartPolicy: Always",
            )
        elif not container.at("startupProbe").present:
            yield PROBE.at(
                container.place,
                f"{_named(pod, container)}: the proxy starts before the certificates are there, "
                "and its agent gives up",
                "add a startupProbe with the command meshkey health",
            )


def mounts(mesh: Mesh) -> Iterator[Finding]:
    """Of every container but ours."""
    for pod in mesh.signer_pods:
        for name, container in pod.containers.items():
            if name in {SIGNER, SETUP}:
                continue
            for mount in container.at("volumeMounts").items:
                if _is_ours(mount):
                    yield SHARED.at(
                        mount.place,
                        f"{_named(pod, container)}: it can read the token's store, or administer "
                        "the sidecar",
                        f"remove the mount; of {SOCKETS['name']} others mount subPath signer alone",
                    )


def _is_ours(mount: Node) -> bool:
    volume = mount.at("name").text
    # The whole volume, and every other spelling of a path in it, has the admin socket.
    beyond_signer = volume == SOCKETS["name"] and mount.at("subPath").text != "signer"
    return volume in _PRIVATE or beyond_signer


def environment(mesh: Mesh) -> Iterator[Finding]:
    """A process's environment is inherited, listed and logged."""
    for pod in mesh.signer_pods:
        for name in (SIGNER, SETUP):
            container = pod.containers.get(name) or Node(pod.place)
            found = [each for each in container.at("env").items if _is_secret(each)]
            found += [
                each for each in container.at("envFrom").items if each.at("secretRef").present
            ]
            for each in found:
                yield SECRET.at(
                    each.place,
                    f"{_named(pod, container)}: the secret is in /proc, in dumps and in what "
                    "inherits the environment",
                    "give it in a file, and name the file",
                )


def _is_secret(variable: Node) -> bool:
    from_secret = variable.at("valueFrom", "secretKeyRef").present
    named = _SECRET.search(variable.at("name").text.upper()) and variable.at("value").present
    return from_secret or bool(named)


def _named(pod: Pod, container: Node) -> str:
    return f"{container.at('name').text} of {pod.owner}"
