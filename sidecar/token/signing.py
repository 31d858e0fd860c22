"""Signatures: which schemes a token was seen to make, and how it is asked for them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress

import pkcs11
import structlog
from cryptography.exceptions import InvalidSignature

from sidecar.core.public_key import algorithm_of, verify
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.errors import (
    KeyChanged,
    LoginRefused,
    MechanismMissing,
    NoSuchKey,
    TokenError,
    TokenUnavailable,
)
from sidecar.token.base import KeyId, TokenKey
from sidecar.token.calls import LONGEST_SIGNATURE
from sidecar.token.failures import out_of_memory
from sidecar.token.holdings import Holdings
from sidecar.token.mechanisms import Way, ways
from sidecar.token.profiles import TokenProfile
from sidecar.token.report import TokenReport
from sidecar.token.sessions import SeenKey, Sessions, ThreadState

log = structlog.get_logger(__name__)

# How long a session may use a key before one of its signatures is verified again. SoftHSM2
# reads a file that somebody has overwritten under the handle that it gave out before.
_TRUSTED_S = 1.0
# Signed to see whether a scheme works. No handshake, CSR or certificate looks like this.
_TRIAL = b"meshkey: trial of a signature scheme"
# Handles that a session keeps.
_MOST_HANDLES = 64
# Signatures that a latency in the log is the median of.
_FEW = 3


class _WrongSignature(TokenError):
    """Of a trial: by another key, or not of the scheme that was tried."""


class Signing:
    """Signs with the keys of a token's holdings. Safe to use from many threads; blocks."""

    def __init__(
        self, sessions: Sessions, holdings: Holdings, report: TokenReport, profile: TokenProfile
    ) -> None:
        self._sessions = sessions
        self._holdings = holdings
        self._report = report
        self._profile = profile
        self._ways: dict[SignatureScheme, Way] = {}
        self._seen: dict[KeyAlgorithm, tuple[SignatureScheme, ...]] = {}
        self._in_doubt = False

    def schemes(self, key: TokenKey) -> Sequence[SignatureScheme]:
        algorithm = algorithm_of(key.public_key)
        assert algorithm is not None
        if algorithm not in self._seen:
            self._holdings.public_keys.setdefault(key.id, key.public_key)
            seen = tuple(s for s in algorithm.schemes if self._way(key.id, s))
            if not seen:
                self._require_answers(key)
                tried = {w.mechanism.name: None for s in algorithm.schemes for w in ways(s)}
                raise MechanismMissing(
                    f"token {self._sessions.label!r} signs with no scheme of {algorithm.value}: "
                    f"CKM_{', CKM_'.join(tried)} are missing or do not work; "
                    "see what it can do: meshkey token probe"
                )
            if self._in_doubt:
                # Whether a scheme does not work or did not just then: tried again next time.
                self._in_doubt = False
                return seen
            self._seen[algorithm] = seen
            log.info("key algorithm tried", algorithm=algorithm.value, schemes=self._told(key))
        return self._seen[algorithm]

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        way = self._fitting_way(key_id, scheme)
        return self._sessions.use(
            "signing", lambda state: self._sign_now(state, key_id, way, message)
        )

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

    def prove(self, key: TokenKey) -> None:
        """Has `key` sign something, and verifies it. Raises what was wrong."""
        self._try_way(key.id, self._ways[self.schemes(key)[0]])

    def _try_way(self, key_id: KeyId, way: Way) -> None:
        self._sessions.use(
            f"a trial of {way.scheme.name}",
            lambda state: self._sign(state, key_id, way, _TRIAL, trial=True),
        )

    def _told(self, key: TokenKey) -> dict[str, str]:
        """For the log: how each scheme that works is made, and how fast."""
        told = {}
        for scheme, way in self._ways.items():
            if scheme in self.schemes(key):
                median = self.measure(key, scheme, _FEW) * 1000
                told[scheme.name] = f"{way.mechanism.name}, {way.given}, {median:.1f} ms"
        return told

    def _fitting_way(self, key_id: KeyId, scheme: SignatureScheme) -> Way:
        public_key = (
            self._holdings.public_keys.get(key_id) or self._holdings.named(key_id).public_key
        )
        # Here and not by the token: SoftHSM2 2.6 crashes over an RSA mechanism for an EC key.
        algorithm = algorithm_of(public_key)
        fits = algorithm is not None and scheme in algorithm.schemes
        if fits and (way := self._ways.get(scheme) or self._way(key_id, scheme, certified=True)):
            return way
        raise MechanismMissing(
            f"key {key_id} on token {self._sessions.label!r} does not sign with {scheme.name}"
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
                self._holdings.named(key_id)
                log.debug("scheme not usable", scheme=scheme.name, error=str(error))
                self._in_doubt = True
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

    def _sign_now(self, state: ThreadState, key_id: KeyId, way: Way, message: bytes) -> bytes:
        try:
            return self._sign(state, key_id, way, message)
        except pkcs11.DeviceMemory as error:
            raise out_of_memory(self._sessions.label, "signing") from error

    def _sign(
        self, state: ThreadState, key_id: KeyId, way: Way, message: bytes, *, trial: bool = False
    ) -> bytes:
        seen = state.private_keys.get(key_id)
        now = time.monotonic()
        known = seen is not None and now - seen.verified < _TRUSTED_S
        key = seen.private if seen else self._holdings.private_half(state, key_id)
        signature = way.encode(_raw_signature(state, key, way, way.input(message)))
        if known and not trial:
            return signature
        # For each key and session, before anyone sees the first signature and then now and
        # again: what is found under a name need not be what was there.
        try:
            verify(self._holdings.public_keys[key_id], way.scheme, signature, message)
        except InvalidSignature:
            state.private_keys.pop(key_id, None)
            wrong = _WrongSignature if trial else KeyChanged
            raise wrong(
                f"token {self._sessions.label!r} does not sign as key {key_id} "
                f"with {way.scheme.name}"
            ) from None
        if len(state.private_keys) >= _MOST_HANDLES:
            # Of keys that were replaced long ago, most of them.
            state.private_keys.clear()
        state.private_keys[key_id] = SeenKey(key, now)
        return signature


def _raw_signature(state: ThreadState, key: pkcs11.PrivateKey, way: Way, data: bytes) -> bytes:
    if state.calls:
        return state.calls.sign(state.session.handle, key.handle, way.structure, data)
    raw: bytes = key.sign(
        data,
        mechanism=way.mechanism,
        mechanism_param=way.parameter,
        buffer_size=LONGEST_SIGNATURE,
    )
    return raw
