"""Options that several commands have, and the settings and the token that they lead to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from sidecar.errors import ConfigurationError

if TYPE_CHECKING:
    from sidecar.config.settings import AdminSettings, Settings
    from sidecar.token.pkcs11 import Pkcs11Token

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="MESHKEY_CONFIG",
    default=Path("/etc/meshkey/meshkey.toml"),
    show_default=True,
    help="The configuration file [MESHKEY_CONFIG].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def settings_of(config: Path, overrides: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """For commands that read the PIN: they keep their memory to themselves from here on.

    Started as root, they are the configured user's from here on, too.
    """
    from sidecar import telemetry
    from sidecar.config.load import load
    from sidecar.hardening.memory import protect_memory
    from sidecar.hardening.start import become_user

    protect_memory()
    settings = load(config, {**os.environ, **overrides})
    become_user(settings.process.user, settings.signer.group if settings.signer else None)
    telemetry.configure_logging(settings.log.format, settings.log.level)
    return settings


@contextmanager
def opened_token(settings: Settings) -> Iterator[Pkcs11Token]:
    """The configured token, closed at the end."""
    from sidecar.app.token import open_token

    token = open_token(settings.token)
    try:
        yield token
    finally:
        token.close()


def admin_socket_of(config: Path) -> Path:
    """Where the process with that configuration takes commands."""
    return _admin_section(config).socket


def status_socket_of(config: Path) -> Path:
    """Where it can be asked without being told anything."""
    admin = _admin_section(config)
    return admin.read_only or admin.socket


def _admin_section(config: Path) -> AdminSettings:
    from sidecar.config.load import load

    admin = load(config, os.environ).admin
    if admin is None:
        raise ConfigurationError(f"{config} has no section [admin]: its process cannot be asked")
    return admin
