"""A token behind a PKCS#11 module, shared by threads and brought back when it was lost."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pkcs11
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from sidecar.core.schemes import SignatureScheme
from sidecar.core.token_selector import TokenSelector
from sidecar.errors import KeyUnsuitable, MeshkeyError, NoSuchKey, TokenError, TokenUnavailable
from sidecar.token.base import Assurance, KeyId, TokenKey
from sidecar.token.gate import Gate
from sidecar.token.keypair import (
    key_id_of,
    make_key_pair,
    public_key_of,
    require_born,
    require_public_key,
)
from sidecar.token.library import Library
from sidecar.token.login import Login
from sidecar.token.profiles import TokenProfile

_T = TypeVar("_T")

# Answers about what was asked, not about the token's health: a restart would not help.
_ANSWERS = (
    pkcs11.MechanismInvalid,
    pkcs11.MechanismParamInvalid,
    pkcs11.TemplateInconsistent,
    pkcs11.TemplateIncomplete,
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.KeyTypeInconsistent,
    pkcs11.DeviceMemory,
)
# SoftHSM2 now and then fails C_Login with CKR_GENERAL_ERROR when processes start together.
_START_TRIES = 5
_START_PAUSE_S = 0.2


@dataclass
class _ThreadState:
    """A session serves one thread at a time, so each thread has its own."""

    era: int
    session: pkcs11.Session
    # One for all threads, held for everything but signing: SoftHSM2 2.6 fails now and then
    # when a thread makes or destroys an object while another one does, or searches.
    objects: threading.Lock
    private_keys: dict[KeyId, pkcs11.PrivateKey] = field(default_factory=dict)


class Pkcs11Token:
    """`Token` over python-pkcs11. One object per module in a process."""

    def __init__(
        self, library: Library, selector: TokenSelector, login: Login, profile: TokenProfile
    ) -> None:
        self._library = library
        self._selector = selector
        self._label = selector.label or str(selector)
        self._login = login
        self._profile = profile
        self._gate = Gate()
        self._threads = threading.local()
        self._objects = threading.Lock()
        # Counts module starts; 0 means that there is no usable login.
        self._era = 0
        self._starts = 0
        self._attempts = 0
        self._failure: TokenError | None = None
        self._closed = False
        self._signatures = 0
        self._counting = threading.Lock()
        self._token: pkcs11.Token | None = None
        # Holds the login of the whole process: closing a session that was opened with a PIN
        # logs every other one out, so this one stays open and all others have no PIN.
        self._anchor: pkcs11.Session | None = None

    @classmethod
    def open(
        cls, module: Path, selector: TokenSelector, login: Login, profile: TokenProfile
    ) -> Pkcs11Token:
        """Loads the module and logs in.

        Raises:
            ConfigurationError: `module` is not a PKCS#11 module, or there is no PIN to give.
            TokenUnavailable: no such token, or it does not answer.
            LoginRefused: the PIN is wrong or locked.
        """
        # Not even loaded before it is clear that the token may be asked.
        login.prepare()
        token = cls(Library(module), selector, login, profile)
        for tries_left in reversed(range(_START_TRIES)):
            try:
                token._recover(lost_era=0)
            except TokenUnavailable:
                if not tries_left:
                    token._library.stop()
                    raise
                time.sleep(_START_PAUSE_S)
            except MeshkeyError:
                token._library.stop()
                raise
            else:
                break
        return token

    @property
    def label(self) -> str:
        return self._label

    @property
    def assurance(self) -> Assurance:
        return self._profile.assurance

    @property
    def schemes(self) -> Sequence[SignatureScheme]:
        return (SignatureScheme.ECDSA_SECP256R1_SHA256,)

    @property
    def signatures(self) -> int:
        return self._signatures

    def generate(self, label: str) -> TokenKey:
        return self._use(lambda state: self._generate(state, label))

    def keys(self) -> list[TokenKey]:
        return self._use(_list)

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        if scheme is not SignatureScheme.ECDSA_SECP256R1_SHA256:
            raise TokenError(f"token {self._label!r} does not sign with {scheme.name}")
        # SoftHSM2 and CTK have no mechanism that hashes: the hash is made here.
        digest = hashlib.sha256(message).digest()
        signature = self._use(lambda state: _sign(state, key_id, digest))
        with self._counting:
            self._signatures += 1
        return signature

    def destroy(self, key_id: KeyId) -> None:
        self._use(lambda state: _destroy(state, key_id))

    def close(self) -> None:
        with self._gate.exclusive():
            self._era, self._anchor = 0, None
            self._closed = True
            self._library.stop()

    def _generate(self, state: _ThreadState, label: str) -> TokenKey:
        with state.objects:
            public, private = make_key_pair(state.session, self._profile, label)
            try:
                require_born(private)
                return TokenKey(key_id_of(private), label, require_public_key(public))
            except KeyUnsuitable:
                private.destroy()
                public.destroy()
                raise

    def _use(self, operation: Callable[[_ThreadState], _T]) -> _T:
        era = self._era
        try:
            return self._try(operation)
        except _Lost:
            self._recover(lost_era=era)
        try:
            return self._try(operation)
        except _Lost as lost:
            raise TokenUnavailable(f"token {self._label!r}: {lost}") from lost

    def _try(self, operation: Callable[[_ThreadState], _T]) -> _T:
        with self._gate.shared():
            try:
                return operation(self._thread_state())
            except _ANSWERS as error:
                raise TokenError(
                    f"token {self._label!r} answered {type(error).__name__}"
                ) from error
            except pkcs11.PKCS11Error as error:
                raise _Lost(type(error).__name__) from error

    def _thread_state(self) -> _ThreadState:
        state: _ThreadState | None = getattr(self._threads, "state", None)
        if state is None or state.era != self._era:
            if not self._era or self._token is None:
                raise _Lost("not logged in")
            state = self._threads.state = _ThreadState(
                self._era, self._token.open(rw=True), self._objects
            )
        return state

    def _recover(self, lost_era: int) -> None:
        seen = self._attempts
        with self._gate.exclusive():
            if self._era and self._era != lost_era:
                return  # another thread brought it back while this one waited
            if self._attempts != seen and self._failure is not None:
                raise self._failure  # ... or just found that it is still gone
            self._attempts += 1
            self._era = 0
            try:
                self._log_in()
                self._failure = None
            except TokenError as failure:
                self._failure = failure
                raise

    def _log_in(self) -> None:
        if self._closed:
            raise TokenUnavailable(f"token {self._label!r} is closed: this process is stopping")
        self._login.prepare()
        self._anchor = self._token = None
        if self._starts:
            self._library.stop()
        self._library.start()
        self._starts += 1
        try:
            self._token = self._library.token(self._selector)
            self._label = self._token.label
            self._anchor = self._login.open(self._token)
        except pkcs11.PKCS11Error as error:
            raise TokenUnavailable(f"token {self._label!r}: {type(error).__name__}") from error
        self._era = self._starts


class _Lost(Exception):
    """The session, the login or the token is gone; a restart of the module may help."""


def _list(state: _ThreadState) -> list[TokenKey]:
    with state.objects:
        publics = {
            key_id_of(key): public_key_of(key) for key in _find(state, ObjectClass.PUBLIC_KEY)
        }
        privates = [(key_id_of(key), key.label) for key in _find(state, ObjectClass.PRIVATE_KEY)]
        _require_presence(state)
    return [
        TokenKey(key_id, label, public_key)
        for key_id, label in privates
        if (public_key := publics.get(key_id))
    ]


def _find(state: _ThreadState, kind: ObjectClass) -> list[pkcs11.PublicKey | pkcs11.PrivateKey]:
    template = {Attribute.CLASS: kind, Attribute.KEY_TYPE: KeyType.EC}
    return list(state.session.get_objects(template))


def _require_presence(state: _ThreadState) -> None:
    # SoftHSM2 finds nothing on a token that is gone, and calls that a success; C_GetTokenInfo
    # is what fails. So nobody may conclude from an empty search that a key is not there.
    state.session.token.slot.get_token()


def _sign(state: _ThreadState, key_id: KeyId, digest: bytes) -> bytes:
    key = state.private_keys.get(key_id)
    if key is None:
        key = state.private_keys[key_id] = _find_private(state, key_id)
    raw = key.sign(digest, mechanism=Mechanism.ECDSA, buffer_size=160)
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def _find_private(state: _ThreadState, key_id: KeyId) -> pkcs11.PrivateKey:
    template = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key_id.value}
    with state.objects:
        for key in state.session.get_objects(template):
            return key
        _require_presence(state)
    raise NoSuchKey(f"no key {key_id}; list the token's keys with: meshkey keys")


def _destroy(state: _ThreadState, key_id: KeyId) -> None:
    state.private_keys.pop(key_id, None)
    with state.objects:
        for found in list(state.session.get_objects({Attribute.ID: key_id.value})):
            found.destroy()
        _require_presence(state)
        left = list(state.session.get_objects({Attribute.ID: key_id.value}))
    if left:
        raise TokenError(f"key {key_id} is still on the token after its destruction")
