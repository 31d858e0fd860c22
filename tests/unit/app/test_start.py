"""Callers that a reload brings are kept apart like those of the start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.app.start import KeptApart
from sidecar.callers.admin_door import AdminDoor
from sidecar.callers.credentials import Credentials
from sidecar.config.load import parse
from sidecar.config.settings import Settings
from sidecar.errors import CallerRefused, ConfigurationError

_ENVOY, _OTHER, _OURS = 3_999_999_991, 3_999_999_992, os.geteuid()


def _settings(place: Path, *callers: int, **signer: Any) -> Settings:
    rules = [
        {"name": f"u{uid}", "uid": uid, "identities": ["default"], "purposes": ["tls13-server"]}
        for uid in callers
    ]
    return parse(
        {
            "token": {"label": "mesh", "pin_file": str(place / "pin"), "profile": "generic"},
            "identity": {"spiffe_id": "spiffe://test.mesh/web", "trust_bundle": "/roots.pem"},
            "ca": {"socket": "/run/ca"},
            "caller": rules,
            "signer": {"socket": str(place / "signer"), **signer},
        },
        {},
    )


def test_who_becomes_a_caller_gives_no_commands_from_then_on(short_dir: Path) -> None:
    # As a user that is not alone: one that a reload makes a caller.
    door = AdminDoor(_OTHER, [_ENVOY], allow_own_user=False)
    door(Credentials(_OTHER, 1, 1))
    apply = KeptApart(door).prepare(_settings(short_dir, _ENVOY, _OTHER))
    door(Credentials(_OTHER, 1, 1))
    apply()
    with pytest.raises(CallerRefused):
        door(Credentials(_OTHER, 1, 1))


def test_the_sidecars_own_user_becomes_no_caller_by_a_reload(short_dir: Path) -> None:
    door = AdminDoor(_OURS, [_ENVOY], allow_own_user=False)
    with pytest.raises(ConfigurationError, match="is the sidecar's own user"):
        KeptApart(door).prepare(_settings(short_dir, _OURS))
    door(Credentials(_OURS, 1, 1))
    KeptApart(door).prepare(_settings(short_dir, _OURS, allow_own_user=True))


def test_secrets_that_a_new_caller_reaches_refuse_the_reload(short_dir: Path) -> None:
    short_dir.chmod(0o755)
    (short_dir / "pin").touch(mode=0o404)
    kept = KeptApart(AdminDoor(_OURS, [], allow_own_user=False))
    kept.prepare(_settings(short_dir))
    with pytest.raises(ConfigurationError, match="can reach"):
        kept.prepare(_settings(short_dir, _ENVOY))
