"""Assembles one identity."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from sidecar.app.anchors import anchors_of
from sidecar.app.clock import boot, boot_id, moment, reading, wall
from sidecar.app.parts import Parts
from sidecar.ca.failover import Failover, GuardedAuthority
from sidecar.config.identities import GatewaySettings, IdentitySettings
from sidecar.config.settings import DEFAULT
from sidecar.core.key_label import owner_of
from sidecar.core.lease import LeaseTerms
from sidecar.core.purpose import purposes_of
from sidecar.core.rotation import RotationPolicy
from sidecar.identity.destruction import Destruction
from sidecar.identity.disk import Disk
from sidecar.identity.ending import Ending
from sidecar.identity.enrolment import Enrolment, Wish
from sidecar.identity.identity import Identity, Schedule
from sidecar.identity.keyring import Keyring
from sidecar.identity.keys import Destroys, GivenKey, KeySource, MadeKeys, Spared
from sidecar.identity.lease_memory import LeaseMemory
from sidecar.identity.leases import Leases
from sidecar.identity.memory import Memory, NoMemory, SavedMemory
from sidecar.identity.orphans import Orphans
from sidecar.identity.publisher import Publisher
from sidecar.identity.remains import Remains
from sidecar.identity.revocations import Revocations, Unrevoked
from sidecar.identity.revoking import Revoking
from sidecar.identity.saved import SavedCertificates
from sidecar.identity.saved_leases import SavedLeases
from sidecar.identity.store import SnapshotStore
from sidecar.identity.tombstones import FileTombstones, NoTombstones, Tombstone, Tombstones
from sidecar.token.base import KeyId

_Settings = IdentitySettings | GatewaySettings


class Assembly:
    """One identity and who clears away what its earlier starts left."""

    def __init__(
        self,
        name: str,
        settings: _Settings,
        parts: Parts,
        authorities: Mapping[str, GuardedAuthority],
    ) -> None:
        assert parts.settings.signer
        self.name = name
        self._settings = settings
        self._parts = parts
        self._owner = _owner(name, settings, parts.settings.signer.socket)
        self._destruction = Destruction(parts.token, parts.executor, parts.audit)
        self._given = KeyId(settings.key_id) if settings.key_id else None
        self._authorities = [authorities[each] for each in settings.ca or authorities]

    async def identity(self) -> Identity:
        """The identity, which does nothing yet; not even live, if it was deprovisioned.

        Raises:
            MeshkeyError: the key that it is given is not there, or not allowed.
        """
        settings, parts = self._settings, self._parts
        tombstones = FileTombstones(settings.state) if settings.state else NoTombstones()
        tombstone = await asyncio.to_thread(tombstones.deprovisioned, self.name)
        revoked = await asyncio.to_thread(tombstones.revoked)
        source, destroys = await self._keys(tombstone)
        store = SnapshotStore()
        terms = LeaseTerms(settings.lease, settings.lease_grace or timedelta(0))
        leases = Leases(terms, reading, boot)
        revocations = Revocations(self.name, revoked, wall)
        publisher = Publisher(
            self.name,
            settings.spiffe_id,
            purposes_of(settings.sides, tls12=settings.tls12),
            store,
            Keyring(destroys, store, wall, leases),
            revocations,
            parts.audit,
            parts.denials,
        )
        wish = Wish(settings.sides, settings.lifetime, settings.longest)
        keys = Unrevoked(source, revocations)
        memory = self._memory(wish, keys, leases)
        ending = self._ending(publisher, memory, tombstones)
        if tombstone:
            ending.resume(tombstone)
        return Identity(
            name=self.name,
            spiffe_id=settings.spiffe_id,
            schedule=Schedule(
                RotationPolicy(settings.renew_at, settings.renew_jitter), settings.root_settle
            ),
            anchors=await anchors_of(settings, parts.settings.trust),
            enrolment=Enrolment(
                settings.spiffe_id,
                wish,
                keys,
                parts.token,
                parts.executor,
                Failover(self._authorities),
                parts.audit,
            ),
            publisher=publisher,
            memory=memory,
            ending=ending,
            revoking=Revoking(self.name, publisher, tombstones, self._remains(), wall, parts.audit),
            clock=moment,
        )

    def orphans(self, identity: Identity) -> Orphans:
        """Keys of earlier starts."""
        return Orphans(
            self._owner,
            self._settings.orphan_grace,
            self._parts.token,
            self._parts.executor,
            self._destruction,
            # A key that it was given is no orphan, whatever its mark.
            lambda key_id: key_id == self._given or identity.keyring.holds(key_id),
            identity.renewing,
        )

    def _ending(self, publisher: Publisher, memory: Memory, tombstones: Tombstones) -> Ending:
        return Ending(
            self.name, publisher, memory, tombstones, self._remains(), wall, self._parts.audit
        )

    def _remains(self) -> Remains:
        parts = self._parts
        return Remains(self._owner, self._given, parts.token, parts.executor, self._destruction)

    def _memory(self, wish: Wish, keys: KeySource, leases: Leases) -> Memory:
        settings, parts = self._settings, self._parts
        if settings.state is None:
            return NoMemory()
        disk = Disk()
        return SavedMemory(
            self.name,
            settings.spiffe_id,
            wish,
            keys,
            SavedCertificates(settings.state),
            LeaseMemory(self.name, leases, SavedLeases(settings.state), boot_id(), disk),
            disk,
            parts.token,
            parts.executor,
            parts.audit,
        )

    async def _keys(self, tombstone: Tombstone | None) -> tuple[KeySource, Destroys]:
        settings, parts = self._settings, self._parts
        if self._given is None:
            made = MadeKeys(
                settings.key_algorithm,
                self._owner,
                settings.spiffe_id,
                parts.token,
                parts.executor,
                self._destruction,
                parts.audit,
            )
            return made, self._destruction
        given = GivenKey(
            self._given,
            parts.token,
            parts.executor,
            allow_imported=settings.allow_imported,
        )
        # A key that is not there or not allowed is an error of the start, not of each renewal.
        # But who was deprovisioned may have lost its key since, as it is told to.
        if tombstone is None:
            await given.obtain(1)
        return given, Spared()


def _owner(name: str, settings: _Settings, signer_socket: Path) -> str:
    instance = settings.instance or f"{socket.gethostname()} {signer_socket}"
    gateway = "" if name == DEFAULT else f" {name}"
    return owner_of(f"{instance}{gateway}", str(settings.spiffe_id))
