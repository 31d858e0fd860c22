"""A token behind a PKCS#11 module: keys and signatures, on `Sessions`."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pkcs11
import structlog

from sidecar.core.key_label import cut
from sidecar.core.private_key import PrivateKey
from sidecar.core.public_key import algorithm_of
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.core.token_selector import TokenSelector
from sidecar.errors import (
    KeyUnsuitable,
    MechanismMissing,
    MeshkeyError,
    TokenError,
    TokenUnavailable,
)
from sidecar.token.base import Assurance, ImportedKey, ImportWay, KeyId, TokenKey
from sidecar.token.diagnosis import TEMPLATE_REFUSALS, refused_attributes
from sidecar.token.failures import TokenLost
from sidecar.token.holdings import Holdings
from sidecar.token.importing import Attempt
from sidecar.token.keypair import (
    generation_mechanism,
    is_out_of_range,
    make_key_pair,
    origin_of,
    require_born,
    templates,
)
from sidecar.token.library import Library
from sidecar.token.login import Login
from sidecar.token.mechanisms import ways
from sidecar.token.probe import look_at
from sidecar.token.profiles import TokenProfile
from sidecar.token.public_half import require_public_key
from sidecar.token.report import TokenReport
from sidecar.token.sessions import Sessions, ThreadState
from sidecar.token.signing import Signing

log = structlog.get_logger(__name__)

# SoftHSM2 now and then fails C_Login with CKR_GENERAL_ERROR when processes start together.
_START_TRIES = 5
_START_PAUSE_S = 0.2


class Pkcs11Token:
    """`Token` over python-pkcs11. One object per module in a process."""

    def __init__(self, library: Library, sessions: Sessions, profile: TokenProfile) -> None:
        self._sessions = sessions
        self._label = sessions.label
        self._profile = profile
        self._signatures = 0
        self._counting = threading.Lock()
        self._report = self._sessions.look(
            lambda session: look_at(library, sessions.token, session, profile)
        )
        self.holdings = Holdings(sessions)
        self.signing = Signing(sessions, self.holdings, self._report, profile)

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
            self.signing.prove(imported.key)
        except BaseException:
            self._clear(attempt)
            raise
        plain = imported.way is ImportWay.CREATED
        level = log.warning if plain else log.info
        level("key imported", key_id=str(attempt.key_id), way=imported.way.value)
        return imported

    def keys(self) -> list[TokenKey]:
        return self.holdings.keys()

    def labels(self) -> dict[KeyId, str]:
        return self.holdings.labels()

    def schemes(self, key: TokenKey) -> Sequence[SignatureScheme]:
        return self.signing.schemes(key)

    def sign(self, key_id: KeyId, scheme: SignatureScheme, message: bytes) -> bytes:
        signature = self.signing.sign(key_id, scheme, message)
        with self._counting:
            self._signatures += 1
        return signature

    def destroy(self, key_id: KeyId) -> None:
        self.holdings.destroy(key_id)

    def close(self) -> None:
        self._sessions.close()

    def _generate(
        self, state: ThreadState, algorithm: KeyAlgorithm, key_id: KeyId, label: str
    ) -> TokenKey:
        with self.holdings.changing:
            self.holdings.clear(state, key_id)
            if self._profile.mixes_up_handles and self.holdings.destroyed_in == state.era:
                raise TokenLost("a start is due: an object was destroyed")
            public, private = self._make(state.session, algorithm, key_id, label)
            try:
                require_born(private)
                public_key = require_public_key(public)
            except KeyUnsuitable:
                self.holdings.destroyed_in = state.era
                for half in (private, public):
                    # Whatever happens here, the key is refused and not made once more.
                    with suppress(pkcs11.PKCS11Error):
                        half.destroy()
                raise
        self.holdings.public_keys[key_id] = public_key
        return TokenKey(key_id, label, public_key, origin_of(private))

    def _require_use(self, algorithm: KeyAlgorithm) -> None:
        there = {m.name for m in self._report.mechanisms}
        if not any(way.mechanism.name in there for s in algorithm.schemes for way in ways(s)):
            raise MechanismMissing(
                f"token {self._label!r} signs with no scheme of {algorithm.value}; "
                "import a key of another kind, or use another token"
            )

    def _import(self, state: ThreadState, attempt: Attempt, label: str) -> ImportedKey:
        with self.holdings.changing:
            made = attempt.run(state.session)
            public_key = require_public_key(made.public)
            origin = origin_of(made.private)
        self.holdings.public_keys[attempt.key_id] = public_key
        return ImportedKey(TokenKey(attempt.key_id, label, public_key, origin), made.way)

    def _clear(self, attempt: Attempt) -> None:
        def clear(state: ThreadState) -> None:
            state.private_keys.pop(attempt.key_id, None)
            with self.holdings.changing:
                attempt.clear(state.session)

        self.holdings.public_keys.pop(attempt.key_id, None)
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

    def _makes_none(self, algorithm: KeyAlgorithm) -> str:
        name = generation_mechanism(algorithm).name
        return (
            f"token {self._label!r} makes no keys of {algorithm.value}: CKM_{name} is missing or "
            "does not reach that far; see what it can do: meshkey token probe"
        )
