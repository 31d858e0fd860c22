"""Who is at the far end of the connections that an accept proxy makes to us."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sidecar.callers.credentials import Peer

# Of what the names begin with that proxies give their ends.
PROXY_NAME = "meshkey-proxy-"


class Forwarded:
    """By the name that the proxy's own end has. Use it from one thread only."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    @contextmanager
    def named(self, peer: Peer) -> Iterator[str]:
        """A name for a connection on behalf of `peer`; it means nothing afterwards."""
        name = f"{PROXY_NAME}{secrets.token_hex(16)}"
        self._peers[name] = peer
        try:
            yield name
        finally:
            del self._peers[name]

    def peer(self, name: str) -> Peer | None:
        """Who is behind that name, if a proxy has given it and its connection is there."""
        return self._peers.get(name)
