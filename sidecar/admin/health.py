"""What keeps a process from doing its work now."""

from __future__ import annotations

from sidecar.admin.observed import Observed
from sidecar.core.deny_list import WhenStale
from sidecar.core.rotation import Health
from sidecar.identity.identity import Identity

# An alarm is not yet a failure: a pod that is restarted for it loses what still works. Nor is an
# identity that was deprovisioned: it is as it was told to be, and no restart changes that.
_UNWELL = (Health.WAITING, Health.LAPSED, Health.EXPIRED)


def problems_of(seen: Observed) -> list[str]:
    """One line each, for people; none if new handshakes can be signed."""
    problems = [_problem(identity) for identity in seen.registry if identity.health in _UNWELL]
    if seen.executor.hung:
        problems.append(
            f"token {seen.token.label!r}: its module has not returned from {seen.executor.hung} "
            "calls in time"
        )
    return [*problems, *_denied(seen)]


def _denied(seen: Observed) -> list[str]:
    """What is not signed because of the deny list."""
    deny_list = seen.deny_list
    if deny_list is None:
        return []
    denied = [
        f"identity {identity.name!r}: on the deny list, nothing is signed for it"
        for identity in seen.registry
        if deny_list.denies(identity.spiffe_id)
    ]
    if deny_list.when_stale is WhenStale.REFUSE and (overdue := deny_list.overdue):
        denied.append(f"{overdue}, and nothing is signed without a newer one")
    return denied


def _problem(identity: Identity) -> str:
    error = f": {identity.last_error}" if identity.last_error else ""
    return f"identity {identity.name!r}: {_state(identity)}{error}"


def _state(identity: Identity) -> str:
    if identity.health is Health.WAITING:
        revoked = identity.store.current is not None
        return "its key was revoked, and there is no other yet" if revoked else "no certificate yet"
    if identity.health is Health.EXPIRED:
        return "expired"
    lease = identity.keyring.leases.newest
    return f"its lease is over: {lease.silence}" if lease else "its key has no lease"
