"""Who may answer: lists of SPIFFE IDs, in filters and in the ConfigMap that the module watches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sidecar.core.spiffe import SpiffeId
from sidecar.istio.check.finding import Finding, error, warning
from sidecar.istio.check.loader import DUPLICATE, load
from sidecar.istio.check.located import Node, Place
from sidecar.istio.check.mesh import Mesh
from sidecar.istio.check.objects import Object
from sidecar.istio.check.templates import within
from sidecar.istio.names import PEERS_CONFIG_MAP, PEERS_FILE

MALFORMED = error("malformed-peers", "A list of peers, or a SPIFFE ID in it, is malformed.")
UNKNOWN = error(
    "unknown-service-account",
    "Nothing runs as a peer's service account, though the set has workloads of its namespace.",
)
FOREIGN = warning("foreign-peer", "A peer is of another trust domain than the mesh.")
OPEN = error("no-exact-peers", "A call is patched without an exact list of who may answer.")
ANY = error("any-workload-allowed", "`allow_any_workload` is set.")
ENTRY = error("missing-peers-entry", "A call's entry is not in the ConfigMap of its namespace.")
DOMAIN = error(
    "wrong-trust-domain", "An inbound filter accepts another trust domain than the mesh."
)

_KEY = PEERS_FILE.rpartition("/")[2]


@dataclass(frozen=True)
class _List:
    """`where` is for people."""

    where: str
    node: Node


def peers(mesh: Mesh) -> Iterator[Finding]:
    """Each list, wherever it is written."""
    for each in mesh.objects.of("ConfigMap"):
        if each.name == PEERS_CONFIG_MAP:
            yield from _config_map(mesh, each)
    for patch in mesh.patches:
        for socket in patch.sockets:
            inline = socket.settings.at("peers", "spiffe_ids")
            yield from _listed(mesh, _List(str(patch.filter), inline))


def _config_map(mesh: Mesh, found: Object) -> Iterator[Finding]:
    text = found.node.at("data", _KEY)
    if not text.present:
        happens = f"{found} has no {_KEY}: none of its calls is answered by anybody accepted"
        yield MALFORMED.at(found.place, happens, f"give it {_KEY}, a JSON object")
        return
    if problem := _not_json(text):
        yield problem
        return
    yield from _twice(text)
    for host, node in _entries(text).items():
        yield from _entry(mesh, _List(f"the entry {host}", node))


def _not_json(text: Node) -> Finding | None:
    line, said = 0, "it is no JSON object"
    try:
        if isinstance(json.loads(text.text), dict):
            return None
    except json.JSONDecodeError as problem:
        line, said = problem.lineno - 1, problem.msg
    except (ValueError, RecursionError):
        pass
    place = within(text)
    here = Place(place.file, place.line + line * text.block)
    return MALFORMED.at(here, f"{_KEY} is refused whole: {said}", "write a JSON object of lists")


def _twice(text: Node) -> Iterator[Finding]:
    for each in _read(text):
        if isinstance(each, Finding) and each.rule is DUPLICATE:
            happens = f"{_KEY} is refused whole: {each.happens}"
            yield MALFORMED.at(each.place, happens, "make one list of both")


def _entries(text: Node) -> Mapping[str, Node]:
    return next((each.fields for each in _read(text) if isinstance(each, Node)), {})


def _read(text: Node) -> Iterator[Node | Finding]:
    """JSON is YAML too, but for tabs; and YAML knows its lines."""
    return load(text.text.replace("\t", " "), within(text))


def _entry(mesh: Mesh, entry: _List) -> Iterator[Finding]:
    if not entry.node.items:
        yield MALFORMED.at(
            entry.node.place,
            f"{_KEY} is refused whole: {entry.where} has no list, or an empty one",
            "list its SPIFFE IDs, or remove the entry",
        )
    yield from _listed(mesh, entry)


def _listed(mesh: Mesh, entry: _List) -> Iterator[Finding]:
    for node in entry.node.items:
        try:
            yield from _peer(mesh, entry.where, node, SpiffeId.parse(node.text))
        except ValueError as problem:
            yield MALFORMED.at(
                node.place,
                f"the list is refused: {problem}",
                "write spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/NAME",
            )


def _peer(mesh: Mesh, where: str, node: Node, peer: SpiffeId) -> Iterator[Finding]:
    if mesh.trust_domain and peer.trust_domain != mesh.trust_domain:
        yield FOREIGN.at(
            node.place,
            f"{where} accepts {peer}, and the mesh is {mesh.trust_domain}: "
            "nobody here has such a certificate",
            "correct it, unless the other trust domain is federated with this one",
        )
        return
    match peer.path.split("/"):
        case ["", "ns", namespace, "sa", name]:
            known = _accounts(mesh, namespace)
            if known and name not in known:
                yield UNKNOWN.at(
                    node.place,
                    f"{where} accepts {peer}, and nothing of namespace {namespace} in the set "
                    f"runs as {name}: calls would fail",
                    f"use one of {', '.join(sorted(known))}, or add what runs as {name}",
                )


def _accounts(mesh: Mesh, namespace: str) -> frozenset[str]:
    """Nothing where the set has no workload of the namespace: then it does not tell."""
    running = {each.service_account for each in mesh.workloads if each.namespace == namespace}
    made = {each.name for each in mesh.objects.within(namespace, "ServiceAccount")}
    return frozenset(running | made if running else ())


def expectations(mesh: Mesh) -> Iterator[Finding]:
    """What sockets accept: exactly whom, on calls; the mesh's trust domain, on listeners."""
    for patch in mesh.patches:
        for socket in patch.sockets:
            settings, whom = socket.settings, socket.settings.at("peers")
            if settings.at("allow_any_workload").value is True:
                yield ANY.at(
                    settings.at("allow_any_workload").place,
                    "any workload of the trust domain may answer in place of the service",
                    "remove it and list the service's accounts",
                )
            if patch.apply_to == "CLUSTER":
                yield from _exact(mesh, patch.filter, whom)
            elif (domain := whom.at("trust_domain")).present and domain.text != mesh.trust_domain:
                yield DOMAIN.at(
                    domain.place,
                    f"connections from {mesh.trust_domain}, the mesh's trust domain, are refused",
                    f"use {mesh.trust_domain}",
                )


def _exact(mesh: Mesh, where: Object, whom: Node) -> Iterator[Finding]:
    entry = whom.at("entry")
    if whom.at("file").present and entry.present:
        yield from _in_file(mesh, where, entry)
    elif whom.at("trust_domain").present or not whom.at("spiffe_ids").items:
        yield OPEN.at(
            whom.place,
            "the module refuses the patch, or lets any workload answer: no exact list of peers",
            "give peers the service's spiffe_ids, or a file and an entry",
        )


def _in_file(mesh: Mesh, where: Object, entry: Node) -> Iterator[Finding]:
    if not any(each.name == PEERS_CONFIG_MAP for each in mesh.objects.of("ConfigMap")):
        return  # it is in other files than these
    found = mesh.objects.named("ConfigMap", where.namespace, PEERS_CONFIG_MAP)
    text = found.node.at("data", _KEY) if found else Node(entry.place)
    if entry.text not in _entries(text):
        yield ENTRY.at(
            entry.place,
            f"calls to {entry.text} fail: ConfigMap {where.namespace}/{PEERS_CONFIG_MAP} "
            "has no such entry",
            "add the host and its service accounts to the values and generate again",
        )
