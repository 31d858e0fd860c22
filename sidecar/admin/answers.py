"""Builds the answers to commands."""

from __future__ import annotations

from datetime import datetime

from sidecar._proto.meshkey.admin.v1 import admin_pb2 as pb
from sidecar.identity.ended import Ended
from sidecar.identity.identity import Identity
from sidecar.identity.live_keys import live_keys


def end_response(identity: str, ended: Ended) -> pb.EndResponse:
    """What was done, and what is left to do."""
    return pb.EndResponse(
        identity=identity,
        destroyed=[key_id.value for key_id in ended.cleared.destroyed],
        spared=[key_id.value for key_id in ended.cleared.spared],
        certificates=[
            pb.StillValid(
                key_id=each.key_id.value,
                serial=each.serial,
                issuer=each.issuer,
                not_after=_seconds(each.not_after),
            )
            for each in ended.certificates
        ],
        tombstone=ended.tombstone,
        problems=ended.problems,
    )


def keys_of(identity: Identity) -> list[pb.LiveKey]:
    """Its keys, those that sign first."""
    return [
        pb.LiveKey(
            key_id=key.key_id.value,
            identity=identity.name,
            state=key.state.value,
            origin=key.origin.value if key.origin else "",
            not_after=_seconds(key.not_after),
            generation=key.generation,
        )
        for key in live_keys(identity.publisher)
    ]


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else 0
