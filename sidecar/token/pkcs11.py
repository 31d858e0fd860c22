"""A token behind a PKCS#11 module: keys and signatures, on `Sessions`."""

from __future__ import annotations

import secrets
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pkcs11
import structlog
from cryptography.exceptions import InvalidSignature
from pkcs11 import ObjectClass

from sidecar.core.key_label import cut
from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import PublicKey, algorithm_of, verify
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.core.token_selector import TokenSelector
from sidecar.errors import (
    KeyChanged,
    KeyUnsuitable,
    LoginRefused,
    MechanismMissing,
    MeshkeyError,
    NoSuchKey,
    TokenError,
    TokenUnavailable,
)
from sidecar.token.base import Assurance, ImportedKey, ImportWay, KeyId, TokenKey
from sidecar.token.diagnosis import TEMPLATE_REFUSALS, refused_attributes
from sidecar.token.failures import TokenLost, out_of_memory
from sidecar.token.importing import Attempt
from sidecar.token.keypair import (
    generation_mechanism,
    is_out_of_range,
    key_id_of,
    make_key_pair,
    origin_of,
    require_born,
    templates,
)
from sidecar.token.library import Library
from sidecar.token.login import Login
from sidecar.token.mechanisms import LONGEST_SIGNATURE, Way, ways
from sidecar.token.probe import look_at
from sidecar.token.profiles import TokenProfile
from sidecar.token.public_half import public_key_of, require_public_key
from sidecar.token.report import TokenReport
from sidecar.token.search import destroy_halves, find_half, find_halves, find_kind
from sidecar.token.sessions import Sessions, ThreadState

log = structlog.get_logger(__name__)

# SoftHSM2 now and then fails C_Login with CKR_GENERAL_ERROR when processes start together.
_START_TRIES = 5
_START_PAUSE_S = 0.2
# How long a session may use a key before one of its signatures is verified again. SoftHSM2
# reads a file that somebody has overwritten under the handle that it gave out before.
_TRUSTED_S = 1.0
# Signed to see whether a scheme works. No handshake, CSR or certificate looks like this.
_FEW = 3
_TRIAL = b"meshkey: trial of a signature scheme"


class _WrongSignature(TokenError):
    """Of a trial: by another key, or not of the scheme that was tried."""


class Pkcs11Token:
    """`Token` over python-pkcs11. One object per module in a process."""

    def __init__(self, library: Library, sessions: Sessions, profile: TokenProfile) -> None:
        self._sessions = sessions
        self._label = sessions.label
        self._profile = profile
        # Held for everything but signing: SoftHSM2 2.6 fails now and then when a thread makes
        # or destroys an object while another one does, or searches.
        self._objects = threading.Lock()
        # The era in which an object was destroyed last.
        self._destroyed_in = 0
        self._signatures = 0
        self._counting = threading.Lock()
        self._ways: dict[SignatureScheme, Way] = {}
        self._seen: dict[KeyAlgorithm, tuple[SignatureScheme, ...]] = {}
        # Which public key stands behind an identifier: outlives what happens to the token.
        self._public_keys: dict[KeyId, PublicKey] = {}
        self._report = self._sessions.look(
            lambda session: look_at(library, sessions.token, session, profile)
        )

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
        library = Library(module)
        sessions = Sessions(library, selector, login)
        for tries_left in reversed(range(_START_TRIES)):
            try:
                sessions.start()
                break
            except TokenUnavailable:
                if not tries_left:
                    library.stop()
                    raise
                time.sleep(_START_PAUSE_S)
            except MeshkeyError:
                library.stop()
                raise
        return cls(library, sessions, profile)

    @property
    def label(self) -> str:
        return self._label

    @property
    def assurance(self) -> Assurance:
        return Assurance(self._report.assurance)

    @property
    def concurrency(self) -> int:
        return self._report.concurrency

    @property
    def report(self) -> TokenReport:
        return self._report

    @property
    def signatures(self) -> int:
        return self._signatures

    def generate(self, algorithm: KeyAlgorithm, label: str) -> TokenKey:
        # Chosen here, so that a try that was cut off can be cleared away by its name.
        key_id = KeyId(secrets.token_bytes(16))
        fitting = cut(label, self._profile.longest_label)
        return self._sessions.use(
            f"making a key of {algorithm.value}",
            lambda state: self._generate(state, algorithm, key_id, fitting),
        )

    def import_key(self, private_key: PrivateKey, label: str) -> ImportedKey:
        algorithm = algorithm_of(private_key.public_key())
        assert algorithm is not None
        self._require_use(algorithm)
        fitting = cut(label, self._profile.longest_label)
        unwrapping = {m.name for m in self._report.mechanisms if "UNWRAP" in m.flags}
        attempt = Attempt(
            private_key,
            fitting,
            self._profile,
            unwrapping,
            session_objects=self._report.session_objects,
        )
        try:
            imported = self._sessions.use(
                f"importing a key of {algorithm.value}",
                lambda state: self._import(state, attempt, fitting),
            )
            best = self.schemes(imported.key)[0]
            self._try_way(attempt.key_id, self._ways[best])
        except BaseException:
            self._clear(attempt)
            raise
        plain = imported.way is ImportWay.CREATED
        level = log.warning if plain else log.info
        level("key imported", key_id=str(attempt.key_id), way=imported.way.value)
        return imported

    def keys(self) -> list[TokenKey]:
        keys = self._sessions.use("listing keys", self._list)
        for key in keys:
            self._public_keys.setdefault(key.id, key.public_key)
        return keys

    def schemes(self, key: TokenKey) -> Sequence[SignatureScheme]:
        algorithm = algorithm_of(key.public_key)
        assert algorithm is not None
        if algorithm not in self._seen:
            self._public_keys.setdefault(key.id, key.public_key)
            seen = tuple(s for s in algorithm.schemes if self._way(key.id, s))
            if not seen:
                self._require_answers(key)
                tried = {w.mechanism.name: None for s in algorithm.schemes for w in ways(s)}
                raise MechanismMissing(
                    f"token {self._label!r} signs with no scheme of {algorithm.value}: CKM_"
                    f"{', CKM_'.join(tried)} are missing or do not work; "
                    "see what it can do: meshkey token probe"
                )
            self._seen[algorithm] = seen
            log.info("key algorithm tried", algorithm=algorithm.value, schemes=self._told(key))
        return self._seen[algorithm]

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        way = self._fitting_way(key_id, scheme)
        signature = self._sessions.use(
            "signing", lambda state: self._sign_now(state, key_id, way, message)
        )
        with self._counting:
            self._signatures += 1
        return signature

    def destroy(self, key_id: KeyId) -> None:
        self._sessions.use("destroying a key", lambda state: self._destroy(state, key_id))
        self._public_keys.pop(key_id, None)

    def close(self) -> None:
        self._sessions.close()

    def measure(self, key: TokenKey, scheme: SignatureScheme, times: int) -> float:
        """The median time of a signature, in seconds."""
        taken = []
        for _ in range(times):
            started = time.monotonic()
            self.sign(key.id, scheme, _TRIAL)
            taken.append(time.monotonic() - started)
        return statistics.median(taken)

    def way(self, scheme: SignatureScheme) -> Way | None:
        """How signatures of `scheme` are made, if the token was seen to make one."""
        return self._ways.get(scheme)

    def _told(self, key: TokenKey) -> dict[str, str]:
        """For the log: how each scheme that works is made, and how fast."""
        told = {}
        for scheme, way in self._ways.items():
            if scheme in self.schemes(key):
                median = self.measure(key, scheme, _FEW) * 1000
                told[scheme.name] = f"{way.mechanism.name}, {way.given}, {median:.1f} ms"
        return told

    def _fitting_way(self, key_id: KeyId, scheme: SignatureScheme) -> Way:
        public_key = self._public_keys.get(key_id) or self._key(key_id).public_key
        # Here and not by the token: SoftHSM2 2.6 crashes over an RSA mechanism for an EC key.
        algorithm = algorithm_of(public_key)
        fits = algorithm is not None and scheme in algorithm.schemes
        if fits and (way := self._ways.get(scheme) or self._way(key_id, scheme, certified=True)):
            return way
        raise MechanismMissing(
            f"key {key_id} on token {self._label!r} does not sign with {scheme.name}"
        )

    def _way(
        self, key_id: KeyId, scheme: SignatureScheme, *, certified: bool = False
    ) -> Way | None:
        """The first way whose signature verifies; tried once in the life of this object.

        Nobody asks for a scheme that a `certified` key was not seen to sign with: if there are
        signatures and none verifies, then it is the key that is wrong.
        """
        mismatch: TokenError | None = None
        listed = {m.name for m in self._report.mechanisms}
        for way in ways(scheme):
            if way.mechanism.name not in listed or way.mechanism in self._profile.unusable:
                continue
            try:
                self._try_way(key_id, way)
            except (KeyChanged, LoginRefused, NoSuchKey):
                raise  # nothing about the scheme
            except TokenUnavailable as error:
                # CKR_GENERAL_ERROR says that the token is lost, or that this does not work.
                # Raises where it is lost.
                self._key(key_id)
                log.debug("scheme not usable", scheme=scheme.name, error=str(error))
                continue
            except TokenError as error:
                mismatch = error if isinstance(error, _WrongSignature) else mismatch
                log.debug("scheme not usable", scheme=scheme.name, error=str(error))
                continue
            self._ways[scheme] = way
            return way
        if mismatch and certified:
            raise KeyChanged(str(mismatch))
        return None

    def _require_answers(self, key: TokenKey) -> None:
        """Raises what kept the token from signing with any scheme, if that may pass."""
        algorithm = algorithm_of(key.public_key)
        assert algorithm is not None
        with suppress(KeyChanged, MechanismMissing):
            try:
                self._try_way(key.id, ways(algorithm.schemes[0])[0])
            except TokenUnavailable:
                raise
            except TokenError:
                pass

    def _try_way(self, key_id: KeyId, way: Way) -> None:
        self._sessions.use(
            f"a trial of {way.scheme.name}",
            lambda state: self._sign(state, key_id, way, _TRIAL, trial=True),
        )

    def _key(self, key_id: KeyId) -> TokenKey:
        for key in self.keys():
            if key.id == key_id:
                return key
        raise _no_such_key(key_id)

    def _generate(
        self, state: ThreadState, algorithm: KeyAlgorithm, key_id: KeyId, label: str
    ) -> TokenKey:
        with self._objects:
            self._destroy_halves(state, key_id)
            if self._profile.mixes_up_handles and self._destroyed_in == state.era:
                raise TokenLost("a start is due: an object was destroyed")
            public, private = self._make(state.session, algorithm, key_id, label)
            try:
                require_born(private)
                public_key = require_public_key(public)
            except KeyUnsuitable:
                self._destroyed_in = state.era
                for half in (private, public):
                    # Whatever happens here, the key is refused and not made once more.
                    with suppress(pkcs11.PKCS11Error):
                        half.destroy()
                raise
        self._public_keys[key_id] = public_key
        return TokenKey(key_id, label, public_key, origin_of(private))

    def _require_use(self, algorithm: KeyAlgorithm) -> None:
        there = {m.name for m in self._report.mechanisms}
        if not any(way.mechanism.name in there for s in algorithm.schemes for way in ways(s)):
            raise MechanismMissing(
                f"token {self._label!r} signs with no scheme of {algorithm.value}; "
                "import a key of another kind, or use another token"
            )

    def _import(self, state: ThreadState, attempt: Attempt, label: str) -> ImportedKey:
        with self._objects:
            made = attempt.run(state.session)
            public_key = require_public_key(made.public)
            origin = origin_of(made.private)
        self._public_keys[attempt.key_id] = public_key
        return ImportedKey(TokenKey(attempt.key_id, label, public_key, origin), made.way)

    def _clear(self, attempt: Attempt) -> None:
        def clear(state: ThreadState) -> None:
            state.private_keys.pop(attempt.key_id, None)
            with self._objects:
                attempt.clear(state.session)

        self._public_keys.pop(attempt.key_id, None)
        try:
            self._sessions.use("clearing away a failed import", clear)
        except MeshkeyError as error:
            # What failed before it is what the user must hear of.
            log.error("failed import not cleared", key_id=str(attempt.key_id), error=str(error))

    def _make(
        self, session: pkcs11.Session, algorithm: KeyAlgorithm, key_id: KeyId, label: str
    ) -> tuple[pkcs11.PublicKey, pkcs11.PrivateKey]:
        wished = templates(self._profile)
        try:
            return make_key_pair(session, algorithm, wished, key_id=key_id, label=label)
        except pkcs11.MechanismInvalid as error:
            raise MechanismMissing(self._makes_none(algorithm)) from error
        except TEMPLATE_REFUSALS as error:
            if is_out_of_range(self._report, algorithm):
                raise MechanismMissing(self._makes_none(algorithm)) from error
            refused = refused_attributes(session, algorithm, self._profile)
            if refused is None:
                raise
            blamed, fitting = refused
            raise TokenError(
                f"token {self._label!r} refuses {' and '.join(blamed) or 'the template'} for a key "
                f"of {algorithm.value} ({type(error).__name__}): profile {self._profile.name!r} "
                f"does not fit it, set token.profile to {fitting or 'another one'}"
            ) from error

    def _sign_now(self, state: ThreadState, key_id: KeyId, way: Way, message: bytes) -> bytes:
        try:
            return self._sign(state, key_id, way, message)
        except pkcs11.DeviceMemory as error:
            raise out_of_memory(self._label, "signing") from error

    def _makes_none(self, algorithm: KeyAlgorithm) -> str:
        name = generation_mechanism(algorithm).name
        return (
            f"token {self._label!r} makes no keys of {algorithm.value}: CKM_{name} is missing or "
            "does not reach that far; see what it can do: meshkey token probe"
        )

    def _sign(
        self, state: ThreadState, key_id: KeyId, way: Way, message: bytes, *, trial: bool = False
    ) -> bytes:
        key = state.private_keys.get(key_id)
        now = time.monotonic()
        known = key is not None and now - state.verified[key_id] < _TRUSTED_S
        if key is None:
            key = self._find(state, key_id)
        raw = key.sign(
            way.input(message),
            mechanism=way.mechanism,
            mechanism_param=way.parameter,
            buffer_size=LONGEST_SIGNATURE,
        )
        signature = way.encode(raw)
        if known and not trial:
            return signature
        # For each key and session, before anyone sees the first signature and then now and
        # again: what is found under a name need not be what was there.
        try:
            verify(self._public_keys[key_id], way.scheme, signature, message)
        except InvalidSignature:
            state.private_keys.pop(key_id, None)
            wrong = _WrongSignature if trial else KeyChanged
            raise wrong(
                f"token {self._label!r} does not sign as key {key_id} with {way.scheme.name}"
            ) from None
        state.private_keys[key_id] = key
        state.verified[key_id] = now
        return signature

    def _find(self, state: ThreadState, key_id: KeyId) -> pkcs11.PrivateKey:
        with self._objects:
            private = find_half(state.session, ObjectClass.PRIVATE_KEY, key_id)
            public = find_half(state.session, ObjectClass.PUBLIC_KEY, key_id)
            if private is None:
                self._require_presence(state)
        if private is None:
            raise _no_such_key(key_id)
        found = public_key_of(public) if public else None
        expected = self._public_keys.setdefault(key_id, found) if found else None
        if expected is None:
            expected = self._public_keys.get(key_id)
        if expected is None:
            raise NoSuchKey(f"key {key_id} has no public half that can be read; it is not used")
        if found is not None and found != expected:
            raise KeyChanged(f"token {self._label!r} holds another key under {key_id}")
        return private

    def _list(self, state: ThreadState) -> list[TokenKey]:
        with self._objects:
            found = find_kind(state.session, ObjectClass.PUBLIC_KEY)
            publics = {key_id_of(key): public_key_of(key) for key in found}
            privates = [
                (key_id_of(key), key.label, origin_of(key))
                for key in find_kind(state.session, ObjectClass.PRIVATE_KEY)
            ]
            self._require_presence(state)
        return [
            TokenKey(key_id, label, public_key, origin)
            for key_id, label, origin in privates
            if (public_key := publics.get(key_id))
        ]

    def _destroy_halves(self, state: ThreadState, key_id: KeyId) -> None:
        if destroy_halves(state.session, key_id):
            self._destroyed_in = state.era

    def _destroy(self, state: ThreadState, key_id: KeyId) -> None:
        state.private_keys.pop(key_id, None)
        with self._objects:
            self._destroy_halves(state, key_id)
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
