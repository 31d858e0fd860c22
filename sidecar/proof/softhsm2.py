"""Learns the private value of a key that was born in a SoftHSM2 token.

SoftHSM2 keeps objects in files, encrypted under the user PIN, so who has both can
decrypt them. The proof does, to know what to look for in a process's memory; the
product itself needs no way to import or export a key for it.

How SoftHSM2 2.6.1 encrypts (src/lib/data_mgr/SecureDataManager.cpp, RFC4880.cpp):

    token.object      salt 8 || IV 16 || AES-256-CBC(pin key, "RJR" || master key 32)
    pin key           SHA-256(salt || PIN), then SHA-256 of that, 1499 + salt[7] times
    a private object  every octet string: IV 16 || AES-256-CBC(master key, value)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.errors import NoSuchKey, TokenError
from sidecar.proof import object_file
from sidecar.proof.object_file import Attributes, NotAnObjectFile

# PKCS#11 3.0, pkcs11t.h
_CKA_CLASS: Final = 0x000
_CKA_PRIVATE: Final = 0x002
_CKA_VALUE: Final = 0x011
_CKA_KEY_TYPE: Final = 0x100
_CKA_ID: Final = 0x102
_CKA_EC_PARAMS: Final = 0x180
_CKA_EC_POINT: Final = 0x181
_CKO_PUBLIC_KEY: Final = 2
_CKO_PRIVATE_KEY: Final = 3
_CKK_EC: Final = 3

# SoftHSM2, src/lib/object_store/OSAttributes.h
_CKA_OS_TOKENLABEL: Final = 0x8000_5349
_CKA_OS_USERPIN: Final = 0x8000_534D

_OWN_FILE: Final = "token.object"  # the token itself: label, PINs
_SALT: Final = 8
_IV: Final = 16
_MASTER_KEY: Final = 32
_MAGIC: Final = b"RJR"
_REHASHES: Final = 1499

# CKA_EC_PARAMS is the DER of the curve's OID (RFC 5480 section 2.1.1.1, SEC 2).
_CURVES: Final[dict[bytes, ec.EllipticCurve]] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
    bytes.fromhex("06052b8104000a"): ec.SECP256K1(),
}


class WrongPin(TokenError):
    """The PIN does not open the token."""


class ValueUnproven(TokenError):
    """What was decrypted cannot be shown to be the private value of the key."""


def private_value(token_dir: Path, pin: str, key_id: bytes) -> bytes:
    """The private value of the EC key `key_id`: big-endian, as long as the curve's order.

    `token_dir` is the directory of one token, the one with `token.object` in it (see
    `token_directory`). The value is returned only when the public point computed from
    it equals the CKA_EC_POINT of the public key with the same id: a proof must not
    look for the wrong thing.

    Blocks on files. Raises `WrongPin`, `NoSuchKey`, `ValueUnproven`, `NotAnObjectFile`
    (also for a token that SoftHSM2 keeps in a database), or `OSError`.
    """
    master_key = _master_key(token_dir, pin)
    keys = [key for key in _ec_keys(token_dir, master_key) if key.octets(_CKA_ID) == key_id]
    private = [key for key in keys if key.object_class == _CKO_PRIVATE_KEY]
    if not private:
        raise NoSuchKey(f"no private EC key {key_id.hex()} in {token_dir}")
    if len(private) > 1:
        raise ValueUnproven(f"{len(private)} private keys {key_id.hex()} in {token_dir}: which?")
    points = [key.octets(_CKA_EC_POINT) for key in keys if key.object_class == _CKO_PUBLIC_KEY]
    return _proven_value(private[0], points)


def token_directory(store: Path, label: str) -> Path:
    """The directory of the token `label` below `store` (`directories.tokendir`).

    Raises `TokenError` unless exactly one token has the label, `NotAnObjectFile`.
    """
    wanted = label.encode()
    found = [
        path.parent
        for path in sorted(store.glob(f"*/{_OWN_FILE}"))
        if _token_label(object_file.read(path)) == wanted
    ]
    if len(found) != 1:
        raise TokenError(
            f'{len(found)} tokens "{label}" in {store}, expected one;'
            " is it the tokendir of a SoftHSM2 with objectstore.backend = file?"
        )
    return found[0]


@dataclass(frozen=True, slots=True)
class _Object:
    path: Path
    attributes: Attributes
    master_key: bytes = field(repr=False)

    @property
    def object_class(self) -> object:
        return self.attributes.get(_CKA_CLASS)

    def octets(self, attribute: int) -> bytes:
        stored = self.attributes.get(attribute, b"")
        if not isinstance(stored, bytes):
            raise NotAnObjectFile(f"attribute {attribute:#x} in {self.path} is no octet string")
        # SoftHSM2 leaves the empty defaults of a private object unencrypted.
        if not stored or not self.attributes.get(_CKA_PRIVATE):
            return stored
        try:
            return _decrypted(self.master_key, stored)
        except ValueError:
            raise NotAnObjectFile(
                f"attribute {attribute:#x} in {self.path} is not encrypted under this token's key"
            ) from None


def _master_key(token_dir: Path, pin: str) -> bytes:
    path = token_dir / _OWN_FILE
    if not path.is_file():
        raise NotAnObjectFile(
            f"no {_OWN_FILE} in {token_dir}: give the directory of one token, written by"
            " SoftHSM2 with objectstore.backend = file"
        )
    blob = object_file.read(path).get(_CKA_OS_USERPIN)
    if not isinstance(blob, bytes) or len(blob) <= _SALT + _IV:
        raise NotAnObjectFile(f"{path} holds no user PIN; initialise the token first")
    try:
        plain = _decrypted(_pin_key(pin, salt=blob[:_SALT]), blob[_SALT:])
    except ValueError:
        plain = b""
    if len(plain) != len(_MAGIC) + _MASTER_KEY or not plain.startswith(_MAGIC):
        raise WrongPin(f"the user PIN does not open the token in {token_dir}")
    return plain.removeprefix(_MAGIC)


def _pin_key(pin: str, salt: bytes) -> bytes:
    key = sha256(salt + pin.encode()).digest()
    for _ in range(_REHASHES + salt[-1]):
        key = sha256(key).digest()
    return key


def _decrypted(key: bytes, blob: bytes) -> bytes:
    """Raises `ValueError` when `blob` is not IV || AES-CBC with PKCS#7 padding under `key`."""
    decryptor = Cipher(algorithms.AES(key), modes.CBC(blob[:_IV])).decryptor()
    padded = decryptor.update(blob[_IV:]) + decryptor.finalize()
    unpadder = PKCS7(algorithms.AES.block_size).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _ec_keys(token_dir: Path, master_key: bytes) -> Iterator[_Object]:
    for path in sorted(token_dir.glob("*.object")):
        try:
            attributes = object_file.read(path)
        except FileNotFoundError:
            continue  # destroyed since the directory was listed
        if path.name != _OWN_FILE and attributes.get(_CKA_KEY_TYPE) == _CKK_EC:
            yield _Object(path, attributes, master_key)


def _proven_value(key: _Object, points: list[bytes]) -> bytes:
    curve = _CURVES.get(key.octets(_CKA_EC_PARAMS))
    if curve is None:
        raise ValueUnproven(f"the key in {key.path} is on a curve that is not known here")
    number = int.from_bytes(key.octets(_CKA_VALUE), "big")
    try:
        computed = ec.derive_private_key(number, curve).public_key()
    except ValueError:
        raise ValueUnproven(f"what {key.path} holds is no private value on its curve") from None
    point = computed.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if _octet_string(point) not in points:
        raise ValueUnproven(
            f"the value in {key.path} matches none of the {len(points)} public keys with its id"
        )
    # SoftHSM2 stores a number, without leading zeros.
    return number.to_bytes((curve.key_size + 7) // 8, "big")


def _octet_string(content: bytes) -> bytes:
    """DER (X.690 8.1.3): CKA_EC_POINT wraps the point so. At most 255 octets, P-521 has 133."""
    length = bytes([len(content)]) if len(content) < 0x80 else bytes([0x81, len(content)])
    return b"\x04" + length + content


def _token_label(attributes: Attributes) -> bytes | None:
    label = attributes.get(_CKA_OS_TOKENLABEL)
    # CK_TOKEN_INFO pads labels with blanks to 32 octets.
    return label.rstrip(b" ") if isinstance(label, bytes) else None
