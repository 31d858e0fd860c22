"""What the clients of the authorities need on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sidecar.ca.istio_credentials import read_roots, read_token
from sidecar.config.authorities import (
    CaSettings,
    FileCaSettings,
    IstioCaSettings,
    KubernetesCaSettings,
    LocalCaSettings,
)
from sidecar.doctor.finding import Finding, Verdict, tried
from sidecar.errors import ConfigurationError


def examine_authority(settings: CaSettings) -> Iterator[Finding]:
    check = f"ca {settings.name}"
    match settings:
        case IstioCaSettings():
            yield tried(f"{check}: token_file", lambda: _read(read_token, settings.token_file))
            yield tried(f"{check}: root_file", lambda: _read(read_roots, settings.root_file))
        case KubernetesCaSettings():
            yield tried(f"{check}: credentials", lambda: _credentials(settings.kubeconfig))
        case FileCaSettings():
            yield tried(f"{check}: directory", lambda: _writable(settings.directory))
        case LocalCaSettings():
            # It may be started later.
            there = settings.socket.is_socket()
            detail = "" if there else ": nothing serves it yet; start the local CA"
            verdict = Verdict.OK if there else Verdict.WARNING
            yield Finding(f"{check}: socket", verdict, f"{settings.socket}{detail}")


def _read(read: Callable[[Path], object], file: Path) -> str:
    read(file)
    return str(file)


def _credentials(kubeconfig: Path | None) -> str:
    from sidecar.kubernetes.connection import KubernetesConnection

    asyncio.run(KubernetesConnection(kubeconfig).check())
    return str(kubeconfig or "as in a pod")


def _writable(directory: Path) -> str:
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{directory} must be a directory that user {os.geteuid()} may write to"
        )
    return str(directory)
