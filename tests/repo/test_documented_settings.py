"""Every configuration that the documentation shows is one that meshkey takes."""

from __future__ import annotations

import grp
import pwd
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.config.load import parse

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_WHOLE: dict[str, Any] = {
    "token": {"label": "mesh", "pin_file": "/pin"},
    "identity": {"spiffe_id": "spiffe://demo.mesh/web", "trust_bundle": "/roots.pem"},
    "signer": {"socket": "/run/signer"},
    "ca": {"socket": "/run/ca"},
}


# Who is spoken of, and need not be on this machine.
_USERS = {"meshkey": 990}
_GROUPS = {"meshkey-callers": 991}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid=_USERS[name]))
    monkeypatch.setattr(grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=_GROUPS[name]))


def _blocks() -> Iterator[Any]:
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        for number, block in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            if "[slots" in block:
                continue  # Kryoptic's own configuration
            yield pytest.param(block, id=f"{page.relative_to(ROOT)}:{number}")


@pytest.mark.parametrize("block", list(_blocks()))
def test_it_is_taken(block: str) -> None:
    shown = tomllib.loads(block)
    document = {**_WHOLE, **shown}
    if "issuer" in shown:
        document = {name: document[name] for name in (*shown, "token")}
    # A part of a section is shown where only that matters.
    identity = {**document.get("identity", {})}
    if identity:
        identity.setdefault("spiffe_id", _WHOLE["identity"]["spiffe_id"])
        if "trust" not in shown:
            identity.setdefault("trust_bundle", _WHOLE["identity"]["trust_bundle"])
        document["identity"] = identity
    document["token"] = {**_WHOLE["token"], **shown.get("token", {})}
    if {"uri", "pin_sealed"} & shown.get("token", {}).keys():
        document["token"] = shown["token"]
    parse(document, {})
