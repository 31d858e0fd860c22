"""The places that a configuration names: where callers come, and where they must not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from sidecar.config.settings import DEFAULT, Settings, TokenSettings
from sidecar.token.profiles import PROFILES, SOFTHSM2, profile_of

# By the setting that names it.
Place: TypeAlias = tuple[str, Path]

# As SoftHSM2 looks for it (softhsm2.conf(5)); the user's own file is for desktops.
_SOFTHSM_VARIABLE = "SOFTHSM2_CONF"
_SOFTHSM_CONFIGURATION = Path("/etc/softhsm/softhsm2.conf")
_SOFTHSM_STORE = re.compile(r"^\s*directories\.tokendir\s*=\s*(\S.*?)\s*$", re.MULTILINE)


def sockets(settings: Settings) -> Iterator[Place]:
    """That others than the sidecar's own user connect to."""
    named = {
        "signer.socket": settings.signer and settings.signer.socket,
        "signer.proxy": settings.signer and settings.signer.proxy,
        **{f"gateway.{name}.socket": each.socket for name, each in settings.gateways.items()},
        "sds.socket": settings.sds and settings.sds.socket,
        "issuer.socket": settings.issuer and settings.issuer.socket,
        "admin.read_only": settings.admin and settings.admin.read_only,
        "metrics.socket": settings.metrics and settings.metrics.socket,
    }
    yield from ((name, path) for name, path in named.items() if path)


def secrets(settings: Settings, environment: Mapping[str, str]) -> Iterator[Place]:
    """That only the sidecar's own user may read, directories and files."""
    token = settings.token
    yield from _present("token.pin_file", token.pin_file)
    if token.pin_sealed:
        yield "token.pin_sealed", token.pin_sealed.with_name(f"{token.pin_sealed.name}.pub")
        yield "token.pin_sealed", token.pin_sealed.with_name(f"{token.pin_sealed.name}.priv")
    yield from _present("token.state", token.state)
    yield from _present("the token's store", token_store(token, environment))
    for name, identity in settings.identities.items():
        section = "identity" if name == DEFAULT else f"gateway.{name}"
        yield from _present(f"{section}.state", identity.state)
    if settings.deny_list:
        yield "deny_list.state", settings.deny_list.state
    if settings.audit:
        yield "audit.directory", settings.audit.directory


def authorities(settings: Settings) -> Iterator[Place]:
    """Files that say who may have what: no secrets, but whoever writes them decides."""
    if settings.bearer:
        yield "bearer.jwks", settings.bearer.jwks
        yield from _present("bearer.revoked", settings.bearer.revoked)
    if settings.deny_list:
        yield "deny_list.key", settings.deny_list.key


def token_store(token: TokenSettings, environment: Mapping[str, str]) -> Path | None:
    """Where SoftHSM2 keeps its tokens; nothing where another module does. Blocks."""
    if (PROFILES.get(token.profile) or profile_of(token.module.name)) is not SOFTHSM2:
        return None
    file = Path(environment.get(_SOFTHSM_VARIABLE) or _SOFTHSM_CONFIGURATION)
    try:
        found = _SOFTHSM_STORE.findall(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        # The module will say so.
        return None
    return Path(found[-1]) if found and Path(found[-1]).is_absolute() else None


def _present(name: str, path: Path | None) -> Iterator[Place]:
    if path:
        yield name, path
