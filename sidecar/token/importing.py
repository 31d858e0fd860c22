"""Brings a private key from outside into a token: wrapped where the token can unwrap."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pkcs11
import structlog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding
from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.constants import DEFAULT

from sidecar.core.private_key import PrivateKey
from sidecar.errors import KeyUnsuitable
from sidecar.token.base import ImportWay, KeyId, Origin
from sidecar.token.failures import REFUSALS
from sidecar.token.halves import key_type_of, private_value, public_value
from sidecar.token.keypair import origin_of, require_kept, templates
from sidecar.token.profiles import TokenProfile
from sidecar.token.public_half import require_public_key
from sidecar.token.search import destroy_halves

log = structlog.get_logger(__name__)

_WRAPPING_BITS = 3072
_WRAPPING_LABEL = "meshkey:import"
# What a token says that does not unwrap such a key. SoftHSM2 2.6 says FUNCTION_FAILED of an
# Ed25519 key; if that meant a lost token, the next call would say so too.
_CANNOT = (*REFUSALS, pkcs11.FunctionFailed, pkcs11.GeneralError)
# SHA-1 is no weakness in OAEP; SoftHSM2 2.6 takes nothing else.
_OAEP = (
    (hashes.SHA256(), (Mechanism.SHA256, MGF.SHA256, None)),
    (hashes.SHA1(), (Mechanism.SHA_1, MGF.SHA1, None)),  # noqa: S303
)
_Wrap = Callable[[bytes, bytes], bytes]
# RFC 5649 has two names: before PKCS#11 3.0 tokens disagreed about what PAD pads with. A wrong
# guess fails the integrity check of RFC 3394. Without padding few keys fit.
_KEY_WRAPS: tuple[tuple[Mechanism, _Wrap], ...] = (
    (Mechanism.AES_KEY_WRAP_KWP, aes_key_wrap_with_padding),
    (Mechanism.AES_KEY_WRAP_PAD, aes_key_wrap_with_padding),
    (Mechanism.AES_KEY_WRAP, aes_key_wrap),
)
_WRAP_BLOCK = 8
_ONLY_UNWRAPS = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.UNWRAP: True,
}
_FORBIDDEN = (Attribute.SIGN, Attribute.DECRYPT, Attribute.DERIVE)
# python-pkcs11 gives every unwrapped key all of these; tokens refuse some for a private key.
_LEFT_OUT = dict.fromkeys(
    (
        Attribute.ENCRYPT,
        Attribute.DECRYPT,
        Attribute.WRAP,
        Attribute.UNWRAP,
        Attribute.SIGN,
        Attribute.VERIFY,
        Attribute.DERIVE,
    ),
    DEFAULT,
)


@dataclass(frozen=True)
class Halves:
    """Both halves on the token, and how the private one got there."""

    public: pkcs11.PublicKey
    private: pkcs11.PrivateKey
    way: ImportWay


class Attempt:
    """One import. All that it makes on the token has one of its two identifiers.

    The value of the key is held by `private_key` (OpenSSL, which wipes it when it is freed)
    and, while `run` works, by byte strings: its DER, the AES key, integers of an RSA key.
    Python frees those and cannot wipe them, so until its memory is used again the value may
    still be in this process: import on a machine, and in a process, that you trust with it.
    """

    def __init__(
        self,
        private_key: PrivateKey,
        label: str,
        profile: TokenProfile,
        unwrapping: Collection[str],
        *,
        session_objects: bool,
    ) -> None:
        """`unwrapping` names the mechanisms that the token unwraps with."""
        self._session_objects = session_objects
        self.key_id = KeyId(secrets.token_bytes(16))
        self._wrapping_id = KeyId(secrets.token_bytes(16))
        self._private_key = private_key
        self._label = label
        self._profile = profile
        self._unwrapping = unwrapping

    def run(self, session: pkcs11.Session) -> Halves:
        """May run again after it was cut off.

        Raises:
            KeyUnsuitable: the key could leave the token, or the token lies about its origin.
            pkcs11.PKCS11Error: what the token says.
        """
        self.clear(session)
        way = ImportWay.WRAPPED
        private = self._unwrapped(session)
        if private is None:
            # What a refused unwrapping left behind.
            destroy_halves(session, self.key_id)
            way, private = ImportWay.CREATED, self._created(session)
        public_key = self._private_key.public_key()
        public = session.create_object(
            {
                **_known(templates(self._profile)[0]),
                **self._names(ObjectClass.PUBLIC_KEY),
                **public_value(public_key),
            }
        )
        require_kept(private)
        _require_imported(private)
        if require_public_key(public) != public_key:
            raise KeyUnsuitable("the token does not show the public half that it was given")
        return Halves(public, private, way)

    def clear(self, session: pkcs11.Session) -> None:
        """Destroys whatever `run` has made."""
        destroy_halves(session, self.key_id)
        destroy_halves(session, self._wrapping_id)

    def _unwrapped(self, session: pkcs11.Session) -> pkcs11.PrivateKey | None:
        if Mechanism.RSA_PKCS_OAEP.name not in self._unwrapping:
            return None
        try:
            return self._through_wrapping_key(session)
        except _CANNOT as error:
            log.debug("wrapping not usable", error=type(error).__name__)
            return None
        finally:
            destroy_halves(session, self._wrapping_id)

    def _through_wrapping_key(self, session: pkcs11.Session) -> pkcs11.PrivateKey | None:
        encoded = self._private_key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        wraps = [
            (mechanism, wrap)
            for mechanism, wrap in _KEY_WRAPS
            if mechanism.name in self._unwrapping
            and (wrap is not aes_key_wrap or not len(encoded) % _WRAP_BLOCK)
        ]
        if not wraps:
            return None
        secret = secrets.token_bytes(32)
        unwrapping = self._secret_key(session, secret)
        for mechanism, wrap in wraps:
            try:
                return unwrapping.unwrap_key(
                    ObjectClass.PRIVATE_KEY,
                    key_type_of(self._private_key.public_key()),
                    wrap(secret, encoded),
                    id=self.key_id.value,
                    label=self._label,
                    mechanism=mechanism,
                    store=True,
                    capabilities=MechanismFlag.SIGN,
                    template={**_LEFT_OUT, **_known(templates(self._profile)[1])},
                )
            except _CANNOT as error:
                log.debug("unwrapping refused", mechanism=mechanism.name, error=repr(error))
                destroy_halves(session, self.key_id)
        return None

    def _secret_key(self, session: pkcs11.Session, secret: bytes) -> pkcs11.SecretKey:
        """The AES key `secret` in the token, by way of an RSA key that was made there."""
        store = not self._session_objects
        forbidden = dict.fromkeys(_FORBIDDEN, False)
        public, private = session.generate_keypair(
            KeyType.RSA,
            _WRAPPING_BITS,
            id=self._wrapping_id.value,
            label=_WRAPPING_LABEL,
            store=store,
            capabilities=MechanismFlag.UNWRAP | MechanismFlag.WRAP,
            # The wrapping itself happens outside.
            public_template={Attribute.WRAP: False},
            private_template={**_ONLY_UNWRAPS, **forbidden},
        )
        wrapping = require_public_key(public)
        assert isinstance(wrapping, rsa.RSAPublicKey)
        refused: pkcs11.PKCS11Error = pkcs11.MechanismParamInvalid()
        for algorithm, parameter in _OAEP:
            oaep = padding.OAEP(padding.MGF1(algorithm), algorithm, None)
            try:
                return private.unwrap_key(
                    ObjectClass.SECRET_KEY,
                    KeyType.AES,
                    wrapping.encrypt(secret, oaep),
                    id=self._wrapping_id.value,
                    label=_WRAPPING_LABEL,
                    mechanism=Mechanism.RSA_PKCS_OAEP,
                    mechanism_param=parameter,
                    store=store,
                    capabilities=MechanismFlag.UNWRAP,
                    template=_ONLY_UNWRAPS,
                )
            except _CANNOT as error:
                refused = error
        raise refused

    def _created(self, session: pkcs11.Session) -> pkcs11.PrivateKey:
        return session.create_object(
            {
                **_known(templates(self._profile)[1]),
                **self._names(ObjectClass.PRIVATE_KEY),
                **private_value(self._private_key),
            }
        )

    def _names(self, kind: ObjectClass) -> dict[Attribute, Any]:
        return {
            Attribute.CLASS: kind,
            Attribute.KEY_TYPE: key_type_of(self._private_key.public_key()),
            Attribute.TOKEN: True,
            Attribute.ID: self.key_id.value,
            Attribute.LABEL: self._label,
        }


def _known(template: dict[Attribute, bool | None]) -> dict[Attribute, bool]:
    return {attribute: value for attribute, value in template.items() if value is not None}


def _require_imported(private: pkcs11.PrivateKey) -> None:
    if origin_of(private) is not Origin.IMPORTED:
        raise KeyUnsuitable("the token says of a key from outside that it was made inside")
