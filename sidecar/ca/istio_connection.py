"""The TLS connection to Istio's certificate service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from sidecar.ca.istio_credentials import read_roots

# A chain is some kilobytes.
MAX_ANSWER = 1024 * 1024

_METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER),
    # Nothing but the settings says how to reach the CA: no proxy from the environment.
    ("grpc.enable_http_proxy", 0),
    # gRPC's own are a second and two minutes: further attempts would find it still waiting.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

# Bytes in and out: whether an answer can be decoded is no business of the channel.
Method = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


class IstioConnection:
    """One channel at a time, renewed when the CA's root file changes."""

    def __init__(self, address: str, root_file: Path, server_name: str | None) -> None:
        # Without a scheme "unix:..." and others would mean something else than host and port.
        self._target = f"dns:///{address}"
        self._root_file = root_file
        self._name = [("grpc.ssl_target_name_override", server_name)] if server_name else []
        self._current: _Channel | None = None

    @asynccontextmanager
    async def method(self) -> AsyncIterator[Method]:
        """The method that creates certificates, over TLS with the roots as they are now.

        The channel stays open while the context lasts, even if it is retired meanwhile.

        Raises:
            AuthorityUnavailable: the root file cannot be used.
        """
        channel, stale = self._latest(read_roots(self._root_file))
        channel.users += 1
        try:
            if stale:
                await stale.retire()
            yield channel.method
        finally:
            channel.users -= 1
            await channel.close_if_unused()

    async def retire(self) -> None:
        """The next use gets a new channel; the old one closes after its last use."""
        channel, self._current = self._current, None
        if channel:
            await channel.retire()

    def _latest(self, roots: bytes) -> tuple[_Channel, _Channel | None]:
        """The channel to use, and the one that it replaces if there is one."""
        stale = self._current
        if stale and stale.roots == roots:
            return stale, None
        self._current = self._opened(roots)
        return self._current, stale

    def _opened(self, roots: bytes) -> _Channel:
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
        channel = grpc.aio.secure_channel(
            self._target, credentials, options=[*_OPTIONS, *self._name]
        )
        return _Channel(channel, channel.unary_unary(_METHOD), roots)


@dataclass(eq=False)
class _Channel:
    channel: grpc.aio.Channel
    method: Method
    roots: bytes
    users: int = 0
    retired: bool = False

    async def retire(self) -> None:
        self.retired = True
        await self.close_if_unused()

    async def close_if_unused(self) -> None:
        # Closing cancels the calls on it, and theirs may be those of another identity.
        if self.retired and not self.users:
            await self.channel.close()
