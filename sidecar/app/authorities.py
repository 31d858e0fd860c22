"""Makes the clients of the configured authorities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from sidecar.app.clock import steady
from sidecar.ca.base import CertificateAuthority
from sidecar.ca.failover import GuardedAuthority
from sidecar.ca.local import LocalAuthority
from sidecar.config.authorities import CaSettings, LocalCaSettings
from sidecar.rpc.sockets import unix_channel


def authorities_of(
    settings: Sequence[CaSettings], stack: AsyncExitStack
) -> Mapping[str, GuardedAuthority]:
    """By name, in the order of the configuration; `stack` closes them."""
    return {
        each.name: GuardedAuthority(each.name, _client(each, stack), steady) for each in settings
    }


def _client(settings: CaSettings, stack: AsyncExitStack) -> CertificateAuthority:
    match settings:
        case LocalCaSettings():
            channel = unix_channel(settings.socket)
            stack.push_async_callback(channel.close)
            return LocalAuthority(channel)
        case _:
            raise NotImplementedError(settings.kind)
