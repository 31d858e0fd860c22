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
from sidecar.identity.enrolment import Enrolled
from sidecar.identity.keyring import Keyring
from sidecar.identity.snapshot import KeyGrant, Snapshot
from sidecar.identity.store import SnapshotStore

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
        journal: Journal = NOWHERE,
    ) -> None:
        self.store = store
        self.keyring = keyring
        self.purposes = purposes
        # The generation that brought the newest roots.
        self.roots_generation = 0
        self._journal = journal
        self._name = name
        self._spiffe_id = spiffe_id
        self._recorded_roots: dict[str, list[Fact]] = {}

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
        )
        self.keyring.admit(
            KeyGrant(
                key_id=snapshot.key_id,
                purposes=self.purposes,
                schemes=frozenset(snapshot.schemes),
                not_after=snapshot.chain.not_after,
                leaves=self._leaves(snapshot),
            )
        )
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
        if previous and previous.key_id != snapshot.key_id:
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
            replace(current, generation=self.roots_generation, bundles=tuple(bundles))
        )
        log.info(
            "roots published",
            identity=self._name,
            generation=self.roots_generation,
            roots={bundle.trust_domain: len(bundle.roots) for bundle in bundles},
        )
        self._record_roots(self.roots_generation, bundles)

    def _record_roots(self, generation: int, bundles: Sequence[TrustBundle]) -> None:
        roots: dict[str, list[Fact]] = {
            bundle.trust_domain: [_hash(root) for root in bundle.roots] for bundle in bundles
        }
        if roots != self._recorded_roots:
            self._recorded_roots = roots
            self._journal.record(
                "roots published", identity=self._name, generation=generation, roots_sha256=roots
            )

    def _leaves(self, snapshot: Snapshot) -> tuple[bytes, ...]:
        before = self.keyring.unexpired(snapshot.key_id)
        leaves = (snapshot.chain.certificates[0], *(before.leaves if before else ()))
        return leaves[:_LEAVES]


def _hash(root: x509.Certificate) -> str:
    return root.fingerprint(hashes.SHA256()).hex()
