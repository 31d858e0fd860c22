"""[deny_list]: peers that are refused whoever certifies them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidecar.config.field import setting
from sidecar.config.values import one_of, path
from sidecar.core.deny_list import WhenStale


@dataclass(frozen=True)
class DenyListSettings:
    """The whole section."""

    file: Path = setting(
        path, "what `meshkey deny-list sign` printed, also in a ConfigMap; read again on a change"
    )
    key: Path = setting(path, "PEM file with the public keys that may sign it; read again, too")
    state: Path = setting(
        path, "directory, mode 0700, that keeps the newest list: an older one is never taken"
    )
    stale: WhenStale = setting(
        lambda v: WhenStale(one_of(*WhenStale)(v)),
        "past its next update, or without a list: `keep` goes on, with an alarm; "
        "`refuse` signs nothing",
        default=WhenStale.KEEP,
    )
