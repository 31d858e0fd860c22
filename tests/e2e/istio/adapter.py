"""What istiod renders, for a stock Envoy on this machine: pure, and every change is one of these.

1. Istio's own filters, which a stock Envoy does not have, are left out: `ISTIO_FILTERS`. They carry
   telemetry and metadata, and `istio.alpn` sets a request's ALPN: without it a stock Istio client
   offers what its cluster says. A filter of Istio's that is not in the list is an error, and so is,
   when Envoy reads it, whatever else Envoy does not know.
2. `original_dst` asks the kernel where iptables took a connection from. `proxy_protocol` is in its
   place, which has it from a relay (`relay.py`).
3. Listeners that iptables redirects to are Unix sockets instead of ports 15001 and 15006, those of
   gateways are at their pod's address: pods share one network here.
4. What is fetched from istiod over ADS (routes, endpoints) is a file.
5. What a stock Istio proxy gets from its agent over SDS is a file too, with a key in it. A proxy
   with meshkey asks the sidecar's SDS socket, as in a pod.
6. Paths that are mounted into a pod are below a directory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
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
    stock Istio proxy's key and roots, None for a proxy with meshkey.
    """

    directory: Path
    address: str
    mounts: Mapping[str, Path]
    secrets: Path | None = None

    def listener(self, name: str) -> Path:
        """The Unix socket of a listener that iptables would redirect to."""
        return self.directory / f"{name}.sock"


@dataclass(frozen=True)
class Adapted:
    """Files by their names: discovery responses as Envoy reads them."""

    files: Mapping[str, str]


def adapted(given: Given, place: Place) -> Adapted:
    """The files for one proxy: lds.json, cds.json, and one for each route and endpoint list.

    Raises:
        NotAdapted: naming what no rule speaks of.
    """
    listeners = [_adapted(_listener(each, place), place) for each in given.listeners]
    clusters = [_adapted(each, place) for each in given.clusters]
    routes = {_file("rds", each["name"]): [_adapted(each, place)] for each in given.routes}
    files = {
        "lds.json": _response("envoy.config.listener.v3.Listener", listeners),
        "cds.json": _response("envoy.config.cluster.v3.Cluster", clusters),
        **{
            name: _response("envoy.config.route.v3.RouteConfiguration", each)
            for name, each in routes.items()
        },
        **endpoint_files(given.endpoints),
    }
    return Adapted(files)


def endpoint_files(endpoints: Sequence[Resource]) -> dict[str, str]:
    """The files with where clusters have their endpoints: they alone change while a proxy runs."""
    kind = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    return {_file("eds", each["cluster_name"]): _response(kind, [each]) for each in endpoints}


def _response(kind: str, resources: Sequence[Resource]) -> str:
    url = f"type.googleapis.com/{kind}"
    whole = [{"@type": url, **each} for each in resources]
    return json.dumps({"type_url": url, "resources": whole}, indent=1)


def _file(kind: str, name: str) -> str:
    return f"{kind}-{re.sub(r'[^a-zA-Z0-9.-]', '_', name)}.json"


def _listener(listener: Resource, place: Place) -> Resource:
    """Rules 2 and 3."""
    if listener.get("bind_to_port") is False or "pipe" in listener["address"]:
        return listener
    if listener["name"] not in _REDIRECTED:
        own = {**listener["address"]["socket_address"], "address": place.address}
        return {**listener, "address": {"socket_address": own}}
    asking = [
        each for each in listener.get("listener_filters", []) if each["name"] != _ORIGINAL_DST
    ]
    return {
        **listener,
        "address": {"pipe": {"path": str(place.listener(listener["name"]))}},
        "listener_filters": [_PROXY_PROTOCOL, *asking],
    }


def _adapted(value: Any, place: Place) -> Any:
    """Rules 1, 4, 5 and 6, all the way down."""
    match value:
        case dict():
            changed = {key: _field(key, each, place) for key, each in value.items()}
            return _with_files(changed, place)
        case list():
            return [_adapted(each, place) for each in value]
        case str():
            return _mounted(value, place)
        case _:
            return value


def _field(key: str, value: Any, place: Place) -> Any:
    if key in _FILTER_LISTS and isinstance(value, list):
        value = [each for each in value if not _is_istios(each)]
    return _adapted(value, place)


def _is_istios(each: Any) -> bool:
    name = each.get("name", "") if isinstance(each, dict) else ""
    if name.startswith("istio.") and name not in ISTIO_FILTERS:
        raise NotAdapted(f"filter {name!r}: add it to ISTIO_FILTERS, with the reason")
    return name in ISTIO_FILTERS


def _with_files(value: Resource, place: Place) -> Resource:
    sources: dict[str, Callable[[Resource], str | None]] = {
        "config_source": lambda it: _file("rds", it["route_config_name"]),
        "eds_config": lambda it: _file("eds", it["service_name"]),
    }
    for key, file in sources.items():
        if "ads" in value.get(key, {}):
            source = _from_file(place.directory / str(file(value)))
            return {**value, key: source}
    if place.secrets and "sds_config" in value:
        return {**value, "sds_config": _from_file(place.secrets / f"{value['name']}.json")}
    return value


def _from_file(file: Path) -> Resource:
    return {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}


def _mounted(text: str, place: Place) -> str:
    for mounted, directory in place.mounts.items():
        if text == mounted or text.startswith(f"{mounted}/"):
            return str(directory) + text.removeprefix(mounted)
    return text
