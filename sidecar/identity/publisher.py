"""Makes the snapshots of one identity and grants their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sidecar.core.journal import NOWHERE, Fact, Journal
from sidecar.core.purpose import SigningPurpose
from sidecar.core.spiffe import SpiffeId
from sidecar.core.trust import TrustBundle
from sidecar.deny.base import NO_DENIALS, Denials
from sidecar.identity.enrolment import Enrolled
from sidecar.identity.keyring import Keyring
from sidecar.identity.revocations import Revocations
from sidecar.identity.snapshot import KeyGrant, Snapshot
from sidecar.identity.store import SnapshotStore
from sidecar.token.base import KeyId, Origin

log = structlog.get_logger(__name__)

# A key that an identity was given outlives its certificates. Handshakes in flight, and callers
# that refused a generation, still show an older one.
_LEAVES = 4


class Publisher:
    """Numbers what is published. Use it from the event loop only."""

    def __init__(
        self,
        name: str,
        spiffe_id: SpiffeId,
        purposes: frozenset[SigningPurpose],
        store: SnapshotStore,
        keyring: Keyring,
        revocations: Revocations,
        journal: Journal = NOWHERE,
        denials: Denials = NO_DENIALS,
    ) -> None:
        self.store = store
        self.denials = denials
        self.keyring = keyring
        self.revocations = revocations
        self.purposes = purposes
        # The generation that brought the newest roots.
        self.roots_generation = 0
        # Where each of its keys is from, and the generation that brought its newest certificate.
        self.published: dict[KeyId, tuple[Origin, int]] = {}
        self._journal = journal
        self._name = name
        self._spiffe_id = spiffe_id
        self._recorded_roots: dict[str, list[Fact]] = {}
        # Whether the deny list names this identity itself.
        self._denied = False

    def publish(self, enrolled: Enrolled, bundles: Sequence[TrustBundle]) -> int:
        """A new certificate; retires the key before it. Returns the generation."""
        previous = self.store.current
        snapshot = Snapshot(
            generation=self.store.generation + 1,
            spiffe_id=self._spiffe_id,
            key_id=enrolled.key.id,
            key_origin=enrolled.key.origin,
            schemes=enrolled.schemes,
            chain=enrolled.chain,
            bundles=tuple(bundles),
            authority=enrolled.authority,
            denied=self.denials.current,
            revoked=self.revocations.announced(),
        )
        self.keyring.admit(
            KeyGrant(
                key_id=snapshot.key_id,
                identity=self._name,
                purposes=self.purposes,
                schemes=frozenset(snapshot.schemes),
                not_after=snapshot.chain.not_after,
                leaves=self._leaves(snapshot),
            )
        )
        self._note(snapshot)
        self.store.publish(snapshot)
        facts: dict[str, Fact] = {
            "identity": self._name,
            "spiffe_id": str(self._spiffe_id),
            "generation": snapshot.generation,
            "key_id": str(snapshot.key_id),
            "key_origin": snapshot.key_origin.value,
            "ca": snapshot.authority,
            "serial": snapshot.chain.serial,
            "not_after": snapshot.chain.not_after.isoformat(),
        }
        log.info("certificate published", **facts)
        leaf = sha256(snapshot.chain.certificates[0]).hexdigest()
        self._journal.record("certificate published", **facts, certificate_sha256=leaf)
        self._record_roots(snapshot.generation, snapshot.bundles)
        if previous and self._is_to_retire(previous.key_id, snapshot):
            self.keyring.retire(previous.key_id, replaced_by=snapshot.generation)
        return snapshot.generation

    def publish_roots(self, bundles: Sequence[TrustBundle]) -> None:
        """Other roots beside the certificate in use, if they are others.

        Not if the own trust domain, which is the first, has no valid root any more: then the
        certificate ends with it, and peers are told nothing new.
        """
        current = self.store.current
        if current is None or current.bundles == tuple(bundles) or not bundles[0].roots:
            return
        self.roots_generation = self.store.generation + 1
        self.store.publish(
            replace(
                current,
                generation=self.roots_generation,
                bundles=tuple(bundles),
                revoked=self.revocations.announced(),
            )
        )
        log.info(
            "roots published",
            identity=self._name,
            generation=self.roots_generation,
            roots={bundle.trust_domain: len(bundle.roots) for bundle in bundles},
        )
        self._record_roots(self.roots_generation, bundles)

    def publish_denied(self) -> None:
        """The deny list beside the certificate in use, if it is another one."""
        self._alarm_if_denied()
        current, denied = self.store.current, self.denials.current
        if current is None or current.denied == denied:
            return
        generation = self.store.generation + 1
        self.store.publish(replace(current, generation=generation, denied=denied))
        log.info("deny list published", identity=self._name, generation=generation)

    def publish_revocations(self) -> None:
        """The keys that are revoked now, beside the certificate in use, whosever it is."""
        if current := self.store.current:
            revoked = self.revocations.announced()
            generation = self.store.generation + 1
            self.store.publish(replace(current, generation=generation, revoked=revoked))

    def record_loss(self, key_id: KeyId, *, changed: bool) -> None:
        """The token has no such key any more, or has another one under its name."""
        event = "key changed" if changed else "key lost"
        self._journal.record(event, identity=self._name, key_id=str(key_id))

    def _alarm_if_denied(self) -> None:
        denied = self.denials.denies(self._spiffe_id)
        if denied and not self._denied:
            log.critical("identity is on the deny list, nothing is signed", identity=self._name)
        elif self._denied and not denied:
            log.warning("identity is on the deny list no more", identity=self._name)
        self._denied = denied

    def _record_roots(self, generation: int, bundles: Sequence[TrustBundle]) -> None:
        roots: dict[str, list[Fact]] = {
            bundle.trust_domain: [_hash(root) for root in bundle.roots] for bundle in bundles
        }
        if roots != self._recorded_roots:
            self._recorded_roots = roots
            self._journal.record(
                "roots published", identity=self._name, generation=generation, roots_sha256=roots
            )

    def _note(self, snapshot: Snapshot) -> None:
        known = (*(grant.key_id for grant in self.keyring.grants), *self.revocations.own())
        kept = {key_id: self.published[key_id] for key_id in known if key_id in self.published}
        self.published = {**kept, snapshot.key_id: (snapshot.key_origin, snapshot.generation)}

    def _is_to_retire(self, key_id: KeyId, snapshot: Snapshot) -> bool:
        # One that was revoked has ended already.
        return key_id != snapshot.key_id and self.keyring.holds(key_id)

    def _leaves(self, snapshot: Snapshot) -> tuple[bytes, ...]:
        before = self.keyring.unexpired(snapshot.key_id)
        leaves = (snapshot.chain.certificates[0], *(before.leaves if before else ()))
        return leaves[:_LEAVES]


def _hash(root: x509.Certificate) -> str:
    return root.fingerprint(hashes.SHA256()).hex()
