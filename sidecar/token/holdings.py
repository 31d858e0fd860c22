"""The keys that a token holds, and which public key stands behind which identifier."""

from __future__ import annotations

import threading

import pkcs11
from pkcs11 import ObjectClass

from sidecar.core.public_key import PublicKey
from sidecar.errors import KeyChanged, NoSuchKey, TokenError
from sidecar.token.base import KeyId, TokenKey
from sidecar.token.failures import TokenLost
from sidecar.token.keypair import key_id_of, label_of, origin_of
from sidecar.token.public_half import public_key_of
from sidecar.token.search import destroy_halves, find_half, find_halves, find_kind
from sidecar.token.sessions import Sessions, ThreadState


class Holdings:
    """Finds, lists and destroys keys. Safe to use from many threads; blocks."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        # Held for everything but signing: SoftHSM2 2.6 fails now and then when a thread makes
        # or destroys an object while another one does, or searches.
        self.changing = threading.Lock()
        # The era in which an object was destroyed last.
        self.destroyed_in = 0
        # The era in which a key was last seen to be gone.
        self._missed: dict[KeyId, int] = {}
        # By identifier: outlives what happens to the token.
        self.public_keys: dict[KeyId, PublicKey] = {}

    def keys(self) -> list[TokenKey]:
        keys = self._sessions.use("listing keys", self._list)
        for key in keys:
            self.public_keys.setdefault(key.id, key.public_key)
        return keys

    def labels(self) -> dict[KeyId, str]:
        return self._sessions.use("listing labels", self._labels)

    def named(self, key_id: KeyId) -> TokenKey:
        """Raises `NoSuchKey` if it is not there."""
        for key in self.keys():
            if key.id == key_id:
                return key
        raise _no_such_key(key_id)

    def destroy(self, key_id: KeyId) -> None:
        self._sessions.use("destroying a key", lambda state: self._destroy(state, key_id))
        self.public_keys.pop(key_id, None)
        self._missed.pop(key_id, None)

    def clear(self, state: ThreadState, key_id: KeyId) -> None:
        """Destroys what there is of a key; hold `changing`."""
        try:
            destroyed = destroy_halves(state.session, key_id)
        except pkcs11.PKCS11Error:
            self.destroyed_in = state.era  # one half may be gone
            raise
        if destroyed:
            self.destroyed_in = state.era

    def private_half(self, state: ThreadState, key_id: KeyId) -> pkcs11.PrivateKey:
        """The private half, if its public half is the one that it had.

        Raises:
            NoSuchKey: there is none.
            KeyChanged: the public half is another one.
        """
        with self.changing:
            private = find_half(state.session, ObjectClass.PRIVATE_KEY, key_id)
            public = find_half(state.session, ObjectClass.PUBLIC_KEY, key_id)
            if private is None:
                self._require_presence(state)
        if private is None:
            self._require_second_look(state, key_id)
            raise _no_such_key(key_id)
        found = public_key_of(public) if public else None
        expected = self.public_keys.setdefault(key_id, found) if found else None
        if expected is None:
            expected = self.public_keys.get(key_id)
        if expected is None:
            raise NoSuchKey(f"key {key_id} has no public half that can be read; it is not used")
        if found is not None and found != expected:
            raise KeyChanged(f"token {self._sessions.label!r} holds another key under {key_id}")
        return private

    def _require_second_look(self, state: ThreadState, key_id: KeyId) -> None:
        # A token that comes back during a search shows nothing and then is there. So a key that
        # is known is gone only if a module that was started anew does not find it either.
        known = key_id in self.public_keys and self._missed.get(key_id) != state.era
        if known and not state.sure:
            raise TokenLost(f"key {key_id} is missing")
        self._missed[key_id] = state.era

    def _labels(self, state: ThreadState) -> dict[KeyId, str]:
        with self.changing:
            found = find_kind(state.session, ObjectClass.PRIVATE_KEY)
            labels = {key_id_of(key): label_of(key) for key in found}
            self._require_presence(state)
        return labels

    def _list(self, state: ThreadState) -> list[TokenKey]:
        with self.changing:
            found = find_kind(state.session, ObjectClass.PUBLIC_KEY)
            publics = {key_id_of(key): public_key_of(key) for key in found}
            privates = [
                (key_id_of(key), label_of(key), origin_of(key))
                for key in find_kind(state.session, ObjectClass.PRIVATE_KEY)
            ]
            self._require_presence(state)
        return [
            TokenKey(key_id, label, public_key, origin)
            for key_id, label, origin in privates
            if (public_key := publics.get(key_id))
        ]

    def _destroy(self, state: ThreadState, key_id: KeyId) -> None:
        state.private_keys.pop(key_id, None)
        with self.changing:
            self.clear(state, key_id)
            self._require_presence(state)
            left = find_halves(state.session, key_id)
        if left:
            raise TokenError(f"key {key_id} is still on the token after its destruction")

    def _require_presence(self, state: ThreadState) -> None:
        # SoftHSM2 finds nothing on a token that is gone, and calls that a success;
        # C_GetTokenInfo is what fails. So nobody may conclude from an empty search that a key
        # is not there.
        state.session.token.slot.get_token()
        self._sessions.require_login(state)


def _no_such_key(key_id: KeyId) -> NoSuchKey:
    return NoSuchKey(f"no key {key_id}; list the token's keys with: meshkey keys list")
