"""What a caller may have signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from sidecar.core.purpose import SigningPurpose

# By the name of the identity. Who may follow an identity and sign for nothing has no purposes.
Permissions: TypeAlias = Mapping[str, frozenset[SigningPurpose]]
