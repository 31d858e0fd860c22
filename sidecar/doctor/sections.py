"""The identities of a configuration, with the names of their sections."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.config.identities import CertifiedSettings
from sidecar.config.settings import Settings


def sections(settings: Settings) -> Iterator[tuple[str, CertifiedSettings]]:
    """Each identity, with its name in the configuration."""
    if settings.identity:
        yield "identity", settings.identity
    for name, gateway in settings.gateways.items():
        yield f"gateway.{name}", gateway
