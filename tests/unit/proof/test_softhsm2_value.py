"""Private values out of SoftHSM2's files: what only made-up files can show."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.errors import NoSuchKey, TokenError
from sidecar.proof.object_file import Attributes, NotAnObjectFile
from sidecar.proof.softhsm2 import ValueUnproven, WrongPin, private_value, token_directory

PIN = "made up"
KEY_ID = b"\x0a\x1f"
EC_PARAMS = {
    "secp256r1": bytes.fromhex("06082a8648ce3d030107"),
    "secp384r1": bytes.fromhex("06052b81040022"),
    "secp521r1": bytes.fromhex("06052b81040023"),
    "brainpoolP256r1": bytes.fromhex("06092b2403030208010107"),
}
PRIVATE, PUBLIC = 3, 2


@dataclass
class MadeUpToken:
    """Writes what SoftHSM2 2.6.1 writes, and lets a test write what it would not."""

    directory: Path
    label: str = "mesh"
    master_key: bytes = field(default_factory=lambda: os.urandom(32))

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        salt = os.urandom(8)
        pin_key = sha256(salt + PIN.encode()).digest()
        for _ in range(1499 + salt[7]):
            pin_key = sha256(pin_key).digest()
        blob = salt + encrypted(pin_key, b"RJR" + self.master_key)
        label = self.label.encode().ljust(32)
        self._write("token", {0x80005349: label, 0x8000534D: blob})

    def add_private(self, value: int, params: bytes, name: str = "private") -> None:
        secret = {
            0x011: value.to_bytes((value.bit_length() + 7) // 8),  # no leading zeros: as SoftHSM2
            0x102: KEY_ID,
            0x180: params,
        }
        sealed = {kind: encrypted(self.master_key, plain) for kind, plain in secret.items()}
        self._write(name, {0x000: PRIVATE, 0x002: True, 0x100: 3, 0x110: b"", **sealed})

    def add_public(self, value: int, curve: ec.EllipticCurve) -> None:
        public = ec.derive_private_key(value, curve).public_key()
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        length = bytes([len(point)]) if len(point) < 128 else bytes([0x81, len(point)])
        wrapped = b"\x04" + length + point
        own = {0x000: PUBLIC, 0x002: False, 0x100: 3}
        self._write("public", {**own, 0x102: KEY_ID, 0x181: wrapped})

    def _write(self, name: str, attributes: Attributes) -> None:
        content = (1).to_bytes(8) + b"".join(map(attribute, attributes, attributes.values()))
        (self.directory / f"{name}.object").write_bytes(content)


def attribute(kind: int, value: bool | int | bytes) -> bytes:
    match value:
        case bool():
            encoded = (1).to_bytes(8) + (b"\xff" if value else b"\x00")
        case int():
            encoded = (2).to_bytes(8) + value.to_bytes(8)
        case bytes():
            encoded = (3).to_bytes(8) + len(value).to_bytes(8) + value
    return kind.to_bytes(8) + encoded


def encrypted(key: bytes, plain: bytes) -> bytes:
    initial = os.urandom(16)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(initial)).encryptor()
    return initial + encryptor.update(padder.update(plain) + padder.finalize())


@pytest.fixture
def token(tmp_path: Path) -> MadeUpToken:
    return MadeUpToken(tmp_path / "store" / "serial")


@pytest.mark.parametrize(
    ("curve", "size"), [(ec.SECP256R1(), 32), (ec.SECP384R1(), 48), (ec.SECP521R1(), 66)]
)
def test_a_value_stored_without_its_zeros_gets_the_length_of_the_order(
    token: MadeUpToken, curve: ec.EllipticCurve, size: int
) -> None:
    value = 0xC0FFEE << 8 * (size - 6)
    token.add_private(value, EC_PARAMS[curve.name])
    token.add_public(value, curve)
    assert private_value(token.directory, PIN, KEY_ID) == value.to_bytes(size)


def test_a_value_that_is_not_that_of_the_public_key_is_refused(token: MadeUpToken) -> None:
    token.add_private(1234567, EC_PARAMS["secp256r1"])
    token.add_public(1234568, ec.SECP256R1())
    with pytest.raises(ValueUnproven, match="matches none of the 1 public keys"):
        private_value(token.directory, PIN, KEY_ID)


def test_a_value_without_a_public_key_is_refused(token: MadeUpToken) -> None:
    token.add_private(1234567, EC_PARAMS["secp256r1"])
    with pytest.raises(ValueUnproven, match="matches none of the 0 public keys"):
        private_value(token.directory, PIN, KEY_ID)


@pytest.mark.parametrize("value", [0, 2**256 - 1])
def test_a_number_outside_the_curve_is_refused(token: MadeUpToken, value: int) -> None:
    token.add_private(value, EC_PARAMS["secp256r1"])
    with pytest.raises(ValueUnproven, match="no private value"):
        private_value(token.directory, PIN, KEY_ID)


def test_an_unknown_curve_is_refused(token: MadeUpToken) -> None:
    token.add_private(1234567, EC_PARAMS["brainpoolP256r1"])
    with pytest.raises(ValueUnproven, match="curve"):
        private_value(token.directory, PIN, KEY_ID)


def test_two_private_keys_with_one_id_are_refused(token: MadeUpToken) -> None:
    token.add_private(1234567, EC_PARAMS["secp256r1"], name="one")
    token.add_private(7654321, EC_PARAMS["secp256r1"], name="two")
    with pytest.raises(ValueUnproven, match="2 private keys 0a1f"):
        private_value(token.directory, PIN, KEY_ID)


def test_an_object_of_another_token_is_refused(token: MadeUpToken, tmp_path: Path) -> None:
    other = MadeUpToken(tmp_path / "other")
    other.add_private(1234567, EC_PARAMS["secp256r1"])
    (other.directory / "private.object").rename(token.directory / "private.object")
    with pytest.raises(NotAnObjectFile, match="not encrypted under this token's key"):
        private_value(token.directory, PIN, KEY_ID)


def test_a_wrong_pin_is_refused_without_being_repeated(token: MadeUpToken) -> None:
    with pytest.raises(WrongPin) as refusal:
        private_value(token.directory, "secret guess", KEY_ID)
    assert "secret guess" not in str(refusal.value)


def test_an_unknown_key_is_named(token: MadeUpToken) -> None:
    with pytest.raises(NoSuchKey, match="no private EC key beef"):
        private_value(token.directory, PIN, bytes.fromhex("beef"))


def test_an_object_that_softhsm2_is_just_creating_is_passed_over(token: MadeUpToken) -> None:
    (token.directory / "new.object").touch()
    token.add_private(1234567, EC_PARAMS["secp256r1"])
    token.add_public(1234567, ec.SECP256R1())
    assert private_value(token.directory, PIN, KEY_ID) == (1234567).to_bytes(32)


def test_a_directory_that_is_no_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnObjectFile, match=r"objectstore\.backend = file"):
        private_value(tmp_path, PIN, KEY_ID)


def test_a_token_is_found_by_its_label(token: MadeUpToken, tmp_path: Path) -> None:
    MadeUpToken(tmp_path / "store" / "another", label="ca")
    assert token_directory(tmp_path / "store", "mesh") == token.directory


@pytest.mark.parametrize("label", ["absent", "mes"])
def test_a_label_that_no_token_has_is_refused(
    token: MadeUpToken, tmp_path: Path, label: str
) -> None:
    with pytest.raises(TokenError, match=f'0 tokens "{label}"'):
        token_directory(tmp_path / "store", label)
