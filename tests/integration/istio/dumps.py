"""What the real istiod sends to a proxy, without Kubernetes around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fixtures.istiod import Proxy, given

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Dump:
    """Listeners and clusters by name, as Envoy's JSON with the names of the .proto files."""

    listeners: Mapping[str, Json]
    clusters: Mapping[str, Json]

    def chains(self, listener: str) -> Sequence[Json]:
        """Of one listener."""
        return list(self.listeners[listener]["filter_chains"])


def sent(objects: Sequence[Json], proxy: Proxy, trust_domain: str = "cluster.local") -> Dump:
    """To the proxy, in a mesh of these objects: Kubernetes' own and Istio's."""
    istio = [each for each in objects if "istio.io" in each["apiVersion"]]
    others = [each for each in objects if "istio.io" not in each["apiVersion"]]
    answer = given({"": proxy}, others, istio, {"trustDomain": trust_domain})[""]
    return Dump(
        {each["name"]: each for each in answer.listeners},
        {each["name"]: each for each in answer.clusters},
    )


def changed(before: Mapping[str, Json], after: Mapping[str, Json]) -> set[str]:
    """Names of what is not byte for byte the same, or not there on one side."""
    names = before.keys() | after.keys()
    return {name for name in names if before.get(name) != after.get(name)}


def filters(chain: Json) -> Sequence[str]:
    """Names of a chain's network filters."""
    return [each["name"] for each in chain["filters"]]


def http_filters(chain: Json) -> Iterator[Json]:
    """Of the chain's HTTP connection manager, if it has one."""
    for each in chain["filters"]:
        yield from each["typed_config"].get("http_filters", ())
