"""One WatchIdentity call: snapshots out, acknowledgements in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar.core.deny_list import DenyList
from sidecar.core.printable import printable
from sidecar.identity.identity import Identity
from sidecar.identity.snapshot import Snapshot, Withdrawal
from sidecar.identity.store import Subscription
from sidecar.rpc.quiet import Quiet

log = structlog.get_logger(__name__)

# Of what a subscriber says about a generation, which is logged and kept for the status.
_MAX_REASON = 500

_Write = Callable[[pb.IdentityUpdate], Awaitable[None]]


async def follow(
    identity: Identity, requests: AsyncIterator[pb.WatchRequest], write: _Write, quiet: Quiet
) -> None:
    """Sends the current snapshot of `identity` and each later one until the caller ends.

    `quiet` keeps all subscribers together from flooding the log.
    """
    with identity.store.subscribe() as subscription:
        sender = asyncio.create_task(_send(subscription, write))
        try:
            async for request in requests:
                error = printable(request.error[:_MAX_REASON])
                subscription.answer(request.acked_generation, error)
                suppressed = quiet.suppressed(identity.name) if error else None
                if suppressed is not None:
                    log.error(
                        "generation refused by subscriber",
                        identity=identity.name,
                        generation=request.acked_generation,
                        error=error,
                        suppressed=suppressed,
                    )
        finally:
            sender.cancel()


async def _send(subscription: Subscription, write: _Write) -> None:
    while True:
        await write(_identity_update(await subscription.next()))


def _identity_update(newest: Snapshot | Withdrawal) -> pb.IdentityUpdate:
    if isinstance(newest, Withdrawal):
        return pb.IdentityUpdate(generation=newest.generation, withdrawn=True)
    return _snapshot_update(newest)


def _snapshot_update(snapshot: Snapshot) -> pb.IdentityUpdate:
    return pb.IdentityUpdate(
        generation=snapshot.generation,
        key_id=snapshot.key_id.value,
        spiffe_id=str(snapshot.spiffe_id),
        certificate_chain=snapshot.chain.certificates,
        trust_bundles=[
            pb.TrustBundle(trust_domain=bundle.trust_domain, roots=bundle.der())
            for bundle in snapshot.bundles
        ],
        schemes=[int(scheme) for scheme in snapshot.schemes],
        not_before=int(snapshot.chain.not_before.timestamp()),
        not_after=int(snapshot.chain.not_after.timestamp()),
        denied_peers=_denied_peers(snapshot.denied) if snapshot.denied else None,
        revoked_key_ids=[key_id.value for key_id in snapshot.revoked],
    )


def _denied_peers(denied: DenyList) -> pb.DeniedPeers:
    return pb.DeniedPeers(sequence=denied.sequence, spiffe_ids=map(str, denied.spiffe_ids))
