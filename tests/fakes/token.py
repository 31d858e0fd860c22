"""A token that keeps its keys in this process: for tests of what uses a token."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.core.schemes import SignatureScheme
from sidecar.errors import NoSuchKey, TokenError, TokenUnavailable
from sidecar.token.base import Assurance, KeyId, TokenKey
from tests.fixtures.waiting import BOUND_S


class FakeToken:
    """`Token`; as strict as the real one, and stricter: it refuses to block an event loop."""

    def __init__(self, label: str = "fake") -> None:
        self._label = label
        self._keys: dict[KeyId, tuple[str, ec.EllipticCurvePrivateKey]] = {}
        self._lock = threading.Lock()
        self._held: dict[KeyId, threading.Event] = {}
        self._closed = False
        self._signatures = 0
        # Set it to False and the token is gone until it is True again.
        self.available = True
        # Signatures that wait for `release` now, by key.
        self.waiting: list[KeyId] = []

    @property
    def label(self) -> str:
        return self._label

    @property
    def assurance(self) -> Assurance:
        return Assurance.SOFTWARE

    @property
    def schemes(self) -> Sequence[SignatureScheme]:
        return (SignatureScheme.ECDSA_SECP256R1_SHA256,)

    @property
    def signatures(self) -> int:
        return self._signatures

    @property
    def held_keys(self) -> set[KeyId]:
        """What is on the token, also while it is not available."""
        return set(self._keys)

    def hold(self, key_id: KeyId) -> None:
        """From now on signatures with this key wait for `release`."""
        self._held[key_id] = threading.Event()

    def release(self, key_id: KeyId) -> None:
        self._held.pop(key_id).set()

    def generate(self, label: str) -> TokenKey:
        self._enter()
        key = ec.generate_private_key(ec.SECP256R1())
        key_id = KeyId(secrets.token_bytes(16))
        with self._lock:
            self._keys[key_id] = (label, key)
        return TokenKey(key_id, label, key.public_key())

    def keys(self) -> list[TokenKey]:
        self._enter()
        with self._lock:
            return [
                TokenKey(key_id, label, key.public_key())
                for key_id, (label, key) in self._keys.items()
            ]

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        self._enter()
        if scheme not in self.schemes:
            raise TokenError(f"token {self._label!r} does not sign with {scheme}")
        if key_id not in self._keys:
            raise NoSuchKey(f"no key {key_id}")
        self._wait_for_release(key_id)
        signature = self._keys[key_id][1].sign(message, ec.ECDSA(hashes.SHA256()))
        with self._lock:
            self._signatures += 1
        return signature

    def destroy(self, key_id: KeyId) -> None:
        self._enter()
        with self._lock:
            self._keys.pop(key_id, None)

    def close(self) -> None:
        self._closed = True

    def _enter(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise AssertionError("a token may block: use it through the executor")
        if self._closed or not self.available:
            raise TokenUnavailable(f"token {self._label!r} is not there")

    def _wait_for_release(self, key_id: KeyId) -> None:
        if (released := self._held.get(key_id)) is None:
            return
        with self._lock:
            self.waiting.append(key_id)
        assert released.wait(BOUND_S), "nobody released the key"
        with self._lock:
            self.waiting.remove(key_id)
