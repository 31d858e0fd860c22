"""What there is to see of a running process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.ca.failover import GuardedAuthority
from sidecar.deny.followed import FollowedDenyList
from sidecar.identity.registry import IdentityRegistry
from sidecar.telemetry import AuditCounts, SdsCounts, SigningCounts
from sidecar.token.base import Token
from sidecar.token.executor import TokenExecutor


@dataclass(frozen=True)
class Observed:
    """The parts that status, health and metrics read. Nothing in here is changed by them."""

    token: Token
    executor: TokenExecutor
    registry: IdentityRegistry = field(default_factory=lambda: IdentityRegistry([]))
    authorities: Mapping[str, GuardedAuthority] = field(default_factory=dict)
    signing: SigningCounts = field(default_factory=SigningCounts)
    sds: SdsCounts = field(default_factory=SdsCounts)
    audit: AuditCounts = field(default_factory=AuditCounts)
    # Whether callers may be the sidecar's own user.
    own_user_allowed: bool = False
    # `None` where none is configured.
    deny_list: FollowedDenyList | None = None
