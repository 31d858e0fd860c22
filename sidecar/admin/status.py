"""Builds the answer to Status."""

from __future__ import annotations

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.admin.observed import Observed
from sidecar.deny.followed import FollowedDenyList
from sidecar.identity.identity import Identity


def status_of(seen: Observed) -> pb.StatusResponse:
    """Everything as it is now."""
    return pb.StatusResponse(
        token=pb.TokenStatus(
            label=seen.token.label,
            assurance=seen.token.assurance.value,
            signatures=seen.token.signatures,
            hung=seen.executor.hung,
        ),
        identities=[_identity(identity, seen.token.label) for identity in seen.registry],
        signed=seen.signing.signed,
        refused=seen.signing.refused,
        told_to_retry=seen.signing.told_to_retry,
        sds=pb.SdsStatus(
            streams=seen.sds.streams, acknowledged=seen.sds.acks, refused=seen.sds.nacks
        ),
        deny_list=_deny_list(seen.deny_list) if seen.deny_list else None,
    )


def _deny_list(deny_list: FollowedDenyList) -> pb.DenyListStatus:
    status = pb.DenyListStatus(
        overdue=deny_list.overdue, error=deny_list.complaint, refused=deny_list.refused
    )
    if current := deny_list.current:
        status.sequence = current.sequence
        status.issued_at = int(current.issued_at.timestamp())
        status.next_update = int(current.next_update.timestamp())
        status.entries = len(current.spiffe_ids)
    return status


def _identity(identity: Identity, token: str) -> pb.IdentityStatus:
    status = pb.IdentityStatus(
        name=identity.name,
        spiffe_id=str(identity.spiffe_id),
        token=token,
        health=identity.health.value,
        last_error=identity.last_error,
        subscribers=[
            pb.SubscriberStatus(
                kind=subscription.kind,
                resource=subscription.resource,
                acked_generation=subscription.acked_generation,
                error=subscription.error,
            )
            for subscription in identity.store.subscriptions
        ],
        trust=_trust(identity),
    )
    if tombstone := identity.ending.deprovisioned:
        status.deprovisioned_at = int(tombstone.at.timestamp()) if tombstone.at else -1
    if (snapshot := identity.in_use) and (due := identity.next_renewal):
        status.key_id = snapshot.key_id.value
        status.key_origin = snapshot.key_origin.value
        status.generation = snapshot.generation
        status.authority = snapshot.authority
        status.serial = snapshot.chain.serial
        status.not_before = int(snapshot.chain.not_before.timestamp())
        status.not_after = int(snapshot.chain.not_after.timestamp())
        status.next_renewal = int(due.timestamp())
        if lease_end := identity.lease_end:
            status.lease_end = int(lease_end.timestamp())
    return status


def _trust(identity: Identity) -> list[pb.TrustStatus]:
    bundles = identity.store.current.bundles if identity.store.current else ()
    roots = {bundle.trust_domain: len(bundle.roots) for bundle in bundles}
    errors = identity.anchors.errors
    domains = [*roots, *(domain for domain in errors if domain not in roots)]
    return [
        pb.TrustStatus(
            trust_domain=domain, roots=roots.get(domain, 0), error=errors.get(domain, "")
        )
        for domain in domains
    ]
