"""A token that keeps its keys in this process: for tests of what uses a token."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import algorithm_of, hash_of, rsa_padding
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.errors import KeyChanged, MechanismMissing, NoSuchKey, TokenFull, TokenUnavailable
from sidecar.token.base import Assurance, ImportedKey, ImportWay, KeyId, Origin, TokenKey
from sidecar.token.report import TokenReport
from tests.fixtures.waiting import BOUND_S

_MAKE: dict[KeyAlgorithm, Callable[[], PrivateKey]] = {
    KeyAlgorithm.EC_P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyAlgorithm.EC_P384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyAlgorithm.EC_P521: lambda: ec.generate_private_key(ec.SECP521R1()),
    KeyAlgorithm.RSA_2048: lambda: rsa.generate_private_key(65537, 2048),
    KeyAlgorithm.RSA_3072: lambda: rsa.generate_private_key(65537, 3072),
    KeyAlgorithm.RSA_4096: lambda: rsa.generate_private_key(65537, 4096),
    KeyAlgorithm.ED25519: ed25519.Ed25519PrivateKey.generate,
}


class FakeToken:
    """`Token`, `Imports`; stricter than the real one: it refuses to block an event loop."""

    def __init__(self, label: str = "fake") -> None:
        self._label = label
        self._keys: dict[KeyId, tuple[str, PrivateKey]] = {}
        # Where a key has been, if it was not made here.
        self.origins: dict[KeyId, Origin] = {}
        self._lock = threading.Lock()
        self._held: dict[KeyId, threading.Event] = {}
        self._changed: set[KeyId] = set()
        self._closed = False
        self._signatures = 0
        # Set it to False and the token is gone until it is True again.
        self.available = True
        # How often somebody wanted a signature with a key that is another one.
        self.changed_key_asked_for = 0
        # How many keys it has room for.
        self.room = 1_000_000
        # Signatures that wait for `release` now, by key.
        self.waiting: list[KeyId] = []

    @property
    def label(self) -> str:
        return self._label

    @property
    def assurance(self) -> Assurance:
        return Assurance.SOFTWARE

    @property
    def concurrency(self) -> int:
        return 64

    @property
    def report(self) -> TokenReport:
        return TokenReport(
            label=self._label,
            serial="1",
            model="fake",
            manufacturer="tests",
            library="in this process",
            profile="fake",
            assurance=self.assurance.value,
            protected_authentication_path=False,
            session_limit=None,
            concurrency=self.concurrency,
            session_objects=False,
            mechanisms=(),
        )

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

    def lose(self, key_id: KeyId) -> None:
        """As when somebody else destroys the key."""
        del self._keys[key_id]

    def change(self, key_id: KeyId) -> None:
        """As when somebody puts another key in its place."""
        self._changed.add(key_id)

    def generate(self, algorithm: KeyAlgorithm, label: str) -> TokenKey:
        self._enter()
        if len(self._keys) >= self.room:
            raise TokenFull(f"token {self._label!r} is full")
        key = _MAKE[algorithm]()
        key_id = KeyId(secrets.token_bytes(16))
        with self._lock:
            self._keys[key_id] = (label, key)
        return TokenKey(key_id, label, key.public_key(), Origin.BORN)

    def import_key(self, private_key: PrivateKey, label: str) -> ImportedKey:
        self._enter()
        if len(self._keys) >= self.room:
            raise TokenFull(f"token {self._label!r} is full")
        key_id = KeyId(secrets.token_bytes(16))
        with self._lock:
            self._keys[key_id] = (label, private_key)
            self.origins[key_id] = Origin.IMPORTED
        key = TokenKey(key_id, label, private_key.public_key(), Origin.IMPORTED)
        return ImportedKey(key, ImportWay.WRAPPED)

    def keys(self) -> list[TokenKey]:
        self._enter()
        with self._lock:
            return [
                TokenKey(key_id, label, key.public_key(), self.origins.get(key_id, Origin.BORN))
                for key_id, (label, key) in self._keys.items()
            ]

    def labels(self) -> dict[KeyId, str]:
        return {key.id: key.label for key in self.keys()}

    def schemes(self, key: TokenKey) -> Sequence[SignatureScheme]:
        self._enter()
        algorithm = algorithm_of(key.public_key)
        assert algorithm
        return algorithm.schemes

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        self._enter()
        if key_id not in self._keys:
            raise NoSuchKey(f"no key {key_id}")
        if key_id in self._changed:
            self.changed_key_asked_for += 1
            raise KeyChanged(f"token {self._label!r} holds another key under {key_id}")
        key = self._keys[key_id][1]
        algorithm = algorithm_of(key.public_key())
        assert algorithm
        if scheme not in algorithm.schemes:
            raise MechanismMissing(f"token {self._label!r} does not sign with {scheme.name}")
        self._wait_for_release(key_id)
        signature = _signature(key, scheme, message)
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


def _signature(key: PrivateKey, scheme: SignatureScheme, message: bytes) -> bytes:
    algorithm = hash_of(scheme)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    assert algorithm
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, rsa_padding(scheme), algorithm)
    return key.sign(message, ec.ECDSA(algorithm))
