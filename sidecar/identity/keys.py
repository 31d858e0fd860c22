"""Where an identity's keys come from, and what becomes of them."""

from __future__ import annotations

import threading
from typing import Protocol

from sidecar.core.journal import NOWHERE, Journal
from sidecar.core.key_label import OTHER_USES, TLS, KeyLabel
from sidecar.core.schemes import KeyAlgorithm
from sidecar.core.spiffe import SpiffeId
from sidecar.errors import ConfigurationError, KeyUnsuitable, NoSuchKey, TokenUnavailable
from sidecar.identity.destruction import Destruction
from sidecar.token.base import KeyId, Origin, Token, TokenKey
from sidecar.token.executor import TokenExecutor


class Destroys(Protocol):
    """Whoever ends the life of keys that are not needed any more."""

    async def destroy(self, *key_ids: KeyId) -> None:
        """Never raises for a token that fails."""
        ...


class KeySource(Protocol):
    """Gives a key for each certificate."""

    async def obtain(self, generation: int) -> TokenKey:
        """A key on the token. Once begun it must be awaited: making a key cannot be stopped."""
        ...

    async def discard(self, key: TokenKey) -> None:
        """Takes back a key that got no certificate."""
        ...

    def may_reuse(self, key: TokenKey) -> bool:
        """Whether an earlier start obtained `key` here, so that it may be taken up again."""
        ...


class MadeKeys:
    """Makes a new key for each certificate, whose label says whose it is."""

    def __init__(
        self,
        algorithm: KeyAlgorithm,
        owner: str,
        spiffe_id: SpiffeId,
        token: Token,
        executor: TokenExecutor,
        destruction: Destruction,
        journal: Journal = NOWHERE,
    ) -> None:
        self._algorithm = algorithm
        self._owner = owner
        self._spiffe_id = spiffe_id
        self._token = token
        self._executor = executor
        self._destruction = destruction
        self._journal = journal

    async def obtain(self, generation: int) -> TokenKey:
        """Raises what `Token.generate` raises."""
        label = str(KeyLabel(TLS, self._owner, generation, str(self._spiffe_id)))
        given_up = threading.Event()

        def make() -> TokenKey:
            key = self._token.generate(self._algorithm, label)
            if given_up.is_set():
                self._token.destroy(key.id)  # it came too late, nobody waits for it
            return key

        try:
            key = await self._executor.run(make)
        except TokenUnavailable:
            given_up.set()
            raise
        self._journal.record(
            "key born",
            key_id=str(key.id),
            spiffe_id=str(self._spiffe_id),
            generation=generation,
            algorithm=self._algorithm.value,
            origin=key.origin.value,
        )
        return key

    async def discard(self, key: TokenKey) -> None:
        await self._destruction.destroy(key.id)

    def may_reuse(self, key: TokenKey) -> bool:
        """One born in the token, with our mark."""
        label = KeyLabel.parse(key.label)
        mark = label and (label.purpose, label.owner)
        return key.origin is Origin.BORN and mark == (TLS, self._owner)


class GivenKey:
    """One key that somebody put on the token: for every certificate, and never destroyed."""

    def __init__(
        self, key_id: KeyId, token: Token, executor: TokenExecutor, *, allow_imported: bool
    ) -> None:
        self._key_id = key_id
        self._token = token
        self._executor = executor
        self._allow_imported = allow_imported

    async def obtain(self, generation: int) -> TokenKey:  # noqa: ARG002  # always the same key
        """Looks for it anew each time.

        Raises:
            NoSuchKey: it is not there.
            KeyUnsuitable: it could leave the token.
            ConfigurationError: it was imported, and that is not allowed; or it was made for
                something else.
        """
        key = await self._executor.run(self._find)
        self._require_allowed(key)
        return key

    async def discard(self, key: TokenKey) -> None:
        """It was there before, and stays."""

    def may_reuse(self, key: TokenKey) -> bool:
        """That very key, if it is allowed."""
        try:
            self._require_allowed(key)
        except (KeyUnsuitable, ConfigurationError):
            return False
        return key.id == self._key_id

    def _require_allowed(self, key: TokenKey) -> None:
        label = KeyLabel.parse(key.label)
        if label and label.purpose in OTHER_USES:
            raise ConfigurationError(
                f"key {key.id} (identity.key_id) {OTHER_USES[label.purpose]}, so no identity "
                "uses it"
            )
        if key.origin is Origin.EXPOSED:
            raise KeyUnsuitable(
                f"key {key.id} (identity.key_id) could leave token {self._token.label!r}, so no "
                "identity uses it; leave identity.key_id out, and a key is made in the token"
            )
        if key.origin is Origin.IMPORTED and not self._allow_imported:
            raise ConfigurationError(
                f"key {key.id} (identity.key_id) was imported, so its value was outside token "
                f"{self._token.label!r}; if that is as it must be, set identity.allow_imported"
            )

    def _find(self) -> TokenKey:
        for key in self._token.keys():  # noqa: SIM118  # no dictionary
            if key.id == self._key_id:
                return key
        raise NoSuchKey(
            f"no key {self._key_id} (identity.key_id) on token {self._token.label!r}; "
            "list its keys with: meshkey keys list"
        )


class Spared:
    """Instead of a `Destruction`: for keys that are not the sidecar's to destroy."""

    async def destroy(self, *key_ids: KeyId) -> None:
        """Nothing happens to them."""
