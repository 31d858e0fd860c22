"""What istiod renders, for a stock Envoy on this machine: pure, and every change is one of these.

1. Istio's own filters, which a stock Envoy does not have, are left out: `ISTIO_FILTERS`. They carry
   telemetry and metadata, and `istio.alpn` sets a request's ALPN: without it a stock Istio client
   offers what its cluster says. A filter of Istio's that is not in the list is an error, and so is,
   when Envoy reads it, whatever else Envoy does not know.
2. `original_dst` asks the kernel where iptables took a connection from. `proxy_protocol` is in its
   place, which has it from a relay (`relay.py`).
3. Listeners that iptables redirects to are Unix sockets instead of ports 15001 and 15006, those of
   gateways are at their pod's address: pods share one network here.
4. What is fetched from istiod over ADS is where it is used: routes in listeners, endpoints in
   clusters. Where they move while the proxy runs, endpoints are files, which it follows as it
   follows EDS. Not always: each costs Envoy an inotify instance, and a user may have but 128.
5. What a stock Istio proxy gets from its agent over SDS is a file too, with a key in it. A proxy
   with meshkey asks the sidecar's SDS socket, as in a pod.
6. Paths that are mounted into a pod are below a directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fixtures.istiod import Given

Resource = dict[str, Any]

ISTIO_FILTERS = frozenset(
    {
        "istio.alpn",
        "istio.metadata_exchange",
        "istio.stats",
    }
)
_FILTER_LISTS = frozenset({"filters", "http_filters", "listener_filters"})
_ORIGINAL_DST = "envoy.filters.listener.original_dst"
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_PROXY_PROTOCOL = {
    "name": "envoy.filters.listener.proxy_protocol",
    "typed_config": {"@type": f"{_EXTENSIONS}.filters.listener.proxy_protocol.v3.ProxyProtocol"},
}
_REDIRECTED = frozenset({"virtualInbound", "virtualOutbound"})


class NotAdapted(Exception):
    """istiod has given something that no rule here speaks of."""


@dataclass(frozen=True)
class Place:
    """Where a proxy runs.

    `mounts` are directories of the pod by what is mounted there; `secrets` is the directory of a
    stock Istio proxy's key and roots, None for a proxy with meshkey. `moving`: whether endpoints
    move while it runs.
    """

    directory: Path
    address: str
    mounts: Mapping[str, Path]
    secrets: Path | None = None
    moving: bool = False

    def listener(self, name: str) -> Path:
        """The Unix socket of a listener that iptables would redirect to."""
        return self.directory / f"{name}.sock"


def adapted(given: Given, place: Place) -> Mapping[str, str]:
    """The texts of files by their names: lds.json, cds.json, and eds-*.json where they move.

    Raises:
        NotAdapted: naming what no rule speaks of.
    """
    return _Adapter(given, place).files()


class _Adapter:
    """One proxy's."""

    def __init__(self, given: Given, place: Place) -> None:
        self._given = given
        self._place = place
        self._routes = {each["name"]: each for each in given.routes}
        self._endpoints = {each["cluster_name"]: each for each in given.endpoints}

    def files(self) -> Mapping[str, str]:
        listeners = [self._adapted(_listener(each, self._place)) for each in self._given.listeners]
        clusters = [self._adapted(self._cluster(each)) for each in self._given.clusters]
        moving = self._given.endpoints if self._place.moving else []
        return {
            "lds.json": _response("envoy.config.listener.v3.Listener", listeners),
            "cds.json": _response("envoy.config.cluster.v3.Cluster", clusters),
            **{
                _file(name): _response("envoy.config.endpoint.v3.ClusterLoadAssignment", [each])
                for each in moving
                for name in [each["cluster_name"]]
            },
        }

    def _cluster(self, cluster: Resource) -> Resource:
        """Rule 4."""
        if cluster.get("type") != "EDS":
            return cluster
        eds = cluster["eds_cluster_config"]
        name = eds["service_name"]
        if self._place.moving:
            source = _from_file(self._place.directory / _file(name))
            return {**cluster, "eds_cluster_config": {**eds, "eds_config": source}}
        fixed = {key: each for key, each in cluster.items() if key != "eds_cluster_config"}
        return {**fixed, "type": "STATIC", "load_assignment": self._endpoints[name]}

    def _adapted(self, value: Any) -> Any:
        """Rules 1, 4, 5 and 6, all the way down."""
        match value:
            case dict():
                return self._replaced({key: self._field(key, each) for key, each in value.items()})
            case list():
                return [self._adapted(each) for each in value]
            case str():
                return self._mounted(value)
            case _:
                return value

    def _field(self, key: str, value: Any) -> Any:
        if key in _FILTER_LISTS and isinstance(value, list):
            value = [each for each in value if not _is_istios(each)]
        return self._adapted(value)

    def _replaced(self, value: Resource) -> Resource:
        if "rds" in value:
            # Clusters come when they come: as with RDS.
            routes = {**self._routes[value["rds"]["route_config_name"]], "validate_clusters": False}
            rest = {key: each for key, each in value.items() if key != "rds"}
            return {**rest, "route_config": self._adapted(routes)}
        if self._place.secrets and "sds_config" in value:
            file = self._place.secrets / f"{value['name']}.json"
            return {**value, "sds_config": _from_file(file)}
        return value

    def _mounted(self, text: str) -> str:
        for mounted, directory in self._place.mounts.items():
            if text == mounted or text.startswith(f"{mounted}/"):
                return str(directory) + text.removeprefix(mounted)
        return text


def _response(kind: str, resources: Sequence[Resource]) -> str:
    url = f"type.googleapis.com/{kind}"
    whole = [{"@type": url, **each} for each in resources]
    return json.dumps({"type_url": url, "resources": whole}, indent=1)


def _file(cluster: str) -> str:
    return f"eds-{re.sub(r'[^a-zA-Z0-9.-]', '_', cluster)}.json"


def _listener(listener: Resource, place: Place) -> Resource:
    """Rules 2 and 3."""
    if listener.get("bind_to_port") is False or "pipe" in listener["address"]:
        return listener
    if listener["name"] not in _REDIRECTED:
        own = {**listener["address"]["socket_address"], "address": place.address}
        return {**listener, "address": {"socket_address": own}}
    filters = listener.get("listener_filters", [])
    asking = [each for each in filters if each["name"] != _ORIGINAL_DST]
    return {
        **listener,
        "address": {"pipe": {"path": str(place.listener(listener["name"]))}},
        "listener_filters": [_PROXY_PROTOCOL, *asking],
    }


def _is_istios(each: Any) -> bool:
    """Rule 1."""
    name = each.get("name", "") if isinstance(each, dict) else ""
    if name.startswith("istio.") and name not in ISTIO_FILTERS:
        raise NotAdapted(f"filter {name!r}: add it to ISTIO_FILTERS, with the reason")
    return name in ISTIO_FILTERS


def _from_file(file: Path) -> Resource:
    return {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
