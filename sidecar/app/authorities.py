"""Makes the clients of the configured authorities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from sidecar.app.clock import steady
from sidecar.ca.base import CertificateAuthority
from sidecar.ca.failover import GuardedAuthority
from sidecar.ca.file import FileAuthority
from sidecar.ca.istio import IstioAuthority
from sidecar.ca.local import LocalAuthority
from sidecar.config.authorities import (
    CaSettings,
    FileCaSettings,
    IstioCaSettings,
    KubernetesCaSettings,
    LocalCaSettings,
)
from sidecar.rpc.sockets import unix_channel


async def authorities_of(
    settings: Sequence[CaSettings], stack: AsyncExitStack
) -> Mapping[str, GuardedAuthority]:
    """By name, in the order of the configuration; `stack` closes them.

    Raises:
        ConfigurationError: one cannot be used as it is configured.
    """
    return {
        each.name: GuardedAuthority(each.name, await _client(each, stack), steady)
        for each in settings
    }


async def _client(settings: CaSettings, stack: AsyncExitStack) -> CertificateAuthority:
    match settings:
        case LocalCaSettings():
            channel = unix_channel(settings.socket)
            stack.push_async_callback(channel.close)
            return LocalAuthority(channel)
        case IstioCaSettings():
            istio = IstioAuthority(
                str(settings.address),
                root_file=settings.root_file,
                token_file=settings.token_file,
                cluster_id=settings.cluster_id,
                deadline=settings.deadline,
                server_name=settings.server_name,
                cert_signer=settings.cert_signer,
                headers=settings.headers,
            )
            stack.push_async_callback(istio.close)
            return istio
        case KubernetesCaSettings():
            from sidecar.ca.kubernetes import KubernetesAuthority
            from sidecar.kubernetes.connection import KubernetesConnection

            connection = KubernetesConnection(settings.kubeconfig)
            await connection.check()
            return KubernetesAuthority(settings.signer_name, settings.deadline, connection)
        case FileCaSettings():
            return FileAuthority(settings.directory, settings.name, settings.deadline)
        case _:
            raise AssertionError(f"no client for a CA of kind {settings.kind}")
