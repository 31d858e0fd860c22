"""Vendor differences, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pkcs11 import Attribute

from sidecar.token.base import Assurance


@dataclass(frozen=True)
class TokenProfile:
    """How one kind of token wants to be used."""

    name: str
    assurance: Assurance
    # Beyond what every key of ours has; a value of None leaves the attribute out.
    public_template: Mapping[Attribute, bool | None] = field(default_factory=dict)
    private_template: Mapping[Attribute, bool | None] = field(default_factory=dict)


SOFTHSM2 = TokenProfile(name="softhsm2", assurance=Assurance.SOFTWARE)
