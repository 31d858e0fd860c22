"""Filter chains that get our socket: what is patched on them, and nothing on any other.

A chain has everything or nothing: `meshkey_peer` closes a connection that is not the module's, and
without it the module's connections have no identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sidecar.istio.mesh.envoy_filter import HTTP_CONNECTION_MANAGER, Context, Operation, patch
from sidecar.istio.mesh.headers import verified_headers
from sidecar.istio.mesh.identity import request_attributes
from sidecar.istio.mesh.module import Json, network_filter, transport_socket

# Istio's own. A peer may offer others: without an overlap a handshake goes on without ALPN.
_ALPN = ("h2", "http/1.1")


@dataclass(frozen=True)
class Chains:
    """A selection, in EnvoyFilter's words. `http`: whether HTTP chains are among them."""

    context: Context
    listener: Json
    http: bool = True

    def match(self, **filter_chain: Json) -> Json:
        """For a patch; with `filter`, of that filter on them."""
        chain = {**self.listener.get("filterChain", {}), **filter_chain}
        return {"listener": {**self.listener, **({"filterChain": chain} if chain else {})}}


def patched(selections: Sequence[Chains], trust_domain: str, scheme: Json) -> Iterator[Json]:
    """For every chain that is selected once or more.

    Args:
        selections: nothing else about a chain is known but that one of them selects it.
        trust_domain: whose workloads may finish a handshake.
        scheme: what is merged into HTTP connection managers. A list in it grows with each
            selection that an HTTP chain is in.
    """
    for index, chains in enumerate(selections):
        yield _socket(chains, trust_domain)
        yield from _peer(chains, again=index > 0)
        if chains.http:
            yield from _http(chains, scheme, again=index > 0)


def _socket(chains: Chains, trust_domain: str) -> Json:
    value = {
        # The module's own limit comes first.
        "transport_socket_connect_timeout": "15s",
        "transport_socket": transport_socket(alpn=_ALPN, peers={"trust_domain": trust_domain}),
    }
    return patch("FILTER_CHAIN", chains.context, chains.match(), Operation.MERGE, value)


def _peer(chains: Chains, *, again: bool) -> Iterator[Json]:
    """First: it holds the other filters until the peer is known."""
    here = network_filter("meshkey_peer")
    if again:
        there = chains.match(filter={"name": here["name"]})
        yield patch("NETWORK_FILTER", chains.context, there, Operation.REMOVE)
    yield patch("NETWORK_FILTER", chains.context, chains.match(), Operation.INSERT_FIRST, here)


def _http(chains: Chains, scheme: Json, *, again: bool) -> Iterator[Json]:
    """Headers, then what is made of them, before any filter that reads either."""
    manager: Json = {"name": HTTP_CONNECTION_MANAGER}
    at = chains.match(filter=manager)
    for here in (request_attributes(), verified_headers()):
        if again:
            there = chains.match(filter={**manager, "subFilter": {"name": here["name"]}})
            yield patch("HTTP_FILTER", chains.context, there, Operation.REMOVE)
        yield patch("HTTP_FILTER", chains.context, at, Operation.INSERT_FIRST, here)
    yield patch("NETWORK_FILTER", chains.context, at, Operation.MERGE, _merged(scheme))


def _merged(scheme: Json) -> Json:
    kind = "network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": HTTP_CONNECTION_MANAGER,
        "typed_config": {
            "@type": f"type.googleapis.com/envoy.extensions.filters.{kind}",
            **scheme,
        },
    }
