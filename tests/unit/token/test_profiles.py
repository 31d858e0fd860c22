"""Vendor differences: what each profile comes down to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pkcs11 import Attribute, Mechanism

from sidecar.config.settings import PROFILE_NAMES
from sidecar.token.base import Assurance
from sidecar.token.keypair import templates
from sidecar.token.profiles import GENERIC, PROFILES, assurance_of, profile_of

PUBLIC = {Attribute.VERIFY: True, Attribute.ENCRYPT: False, Attribute.WRAP: False}
PRIVATE = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True,
    Attribute.DECRYPT: False,
    Attribute.DERIVE: False,
    Attribute.UNWRAP: False,
}
SOFTWARE, HARDWARE = Assurance.SOFTWARE, Assurance.HARDWARE


@dataclass(frozen=True)
class Row:
    """What is expected of a profile; most of it is what all have."""

    modules: tuple[str, ...]
    # Of a token that claims to be in hardware and has a model that nobody knows.
    assurance: Assurance
    concurrency: int | None = None
    longest_label: int = 255
    session_objects: bool = True
    public: tuple[tuple[Attribute, bool | None], ...] = ()
    unusable: frozenset[Mechanism] = frozenset()
    pin_hint: str = ""


TABLE = {
    "softhsm2": Row(("libsofthsm2.so",), SOFTWARE),
    "tpm2": Row(
        ("libtpm2_pkcs11.so", "libtpm2_pkcs11.so.1"),
        HARDWARE,
        concurrency=4,
        session_objects=False,
        public=((Attribute.VERIFY, False), (Attribute.ENCRYPT, True)),
        unusable=frozenset({Mechanism.RSA_PKCS}),
    ),
    "p11-kit": Row(("p11-kit-client.so",), SOFTWARE, concurrency=4),
    "sgx-ctk": Row(("libp11sgx.so",), HARDWARE, concurrency=1),
    "kryoptic": Row(("libkryoptic_pkcs11.so",), SOFTWARE),
    "yubihsm2": Row(
        ("yubihsm_pkcs11.so",),
        HARDWARE,
        concurrency=2,
        longest_label=40,
        session_objects=False,
        pin_hint="four hexadecimal digits of the authentication key's id, then its password",
    ),
    "aws-cloudhsm": Row(
        ("libcloudhsm_pkcs11.so",),
        HARDWARE,
        longest_label=127,
        pin_hint="<user>:<password> of a crypto user",
    ),
    "generic": Row((), HARDWARE),
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_what_the_table_says(name: str) -> None:
    profile, row = PROFILES[name], TABLE[name]
    seen = Row(
        profile.modules,
        assurance_of(profile, "a new one", hardware_flag=True),
        profile.concurrency,
        profile.longest_label,
        profile.session_objects,
        tuple(profile.public_template.items()),
        profile.unusable,
        profile.pin_hint,
    )
    assert seen == row
    assert templates(profile) == ({**PUBLIC, **dict(row.public)}, PRIVATE)


@pytest.mark.parametrize("name", TABLE)
def test_a_module_is_recognised_by_its_file_name(name: str) -> None:
    for module in TABLE[name].modules:
        assert profile_of(module) is PROFILES[name]


def test_an_unknown_module_gets_the_generic_profile() -> None:
    assert profile_of("libvendor.so") is GENERIC
    assert profile_of("") is GENERIC


def test_no_file_name_means_two_profiles() -> None:
    names = [module for profile in PROFILES.values() for module in profile.modules]
    assert len(names) == len(set(names))


def test_the_settings_know_the_profiles_and_the_table_does_too() -> None:
    assert set(PROFILES) == set(PROFILE_NAMES) == set(TABLE)


@pytest.mark.parametrize("name", PROFILES)
def test_no_profile_lets_a_key_leave(name: str) -> None:
    _, private = templates(PROFILES[name])
    assert private[Attribute.SENSITIVE] is True
    assert private[Attribute.EXTRACTABLE] is False
    assert private[Attribute.PRIVATE] is True


@pytest.mark.parametrize(
    ("name", "model", "flag", "expected"),
    [
        ("tpm2", "SW   TPM", True, SOFTWARE),
        ("tpm2", "SW TPM", True, SOFTWARE),
        ("tpm2", "xCG fTPM", True, SOFTWARE),
        ("tpm2", "SLB9670", True, HARDWARE),
        ("tpm2", "SLB9670", False, SOFTWARE),
        ("generic", "SW   TPM", True, SOFTWARE),
        ("generic", "SoftHSM v2", True, SOFTWARE),
        ("generic", "Luna K7", True, HARDWARE),
        ("generic", "Luna K7", False, SOFTWARE),
        ("generic", "", False, SOFTWARE),
        # Whoever serves the socket says what it likes: only what is known counts.
        ("p11-kit", "SoftHSM v2", False, SOFTWARE),
        ("p11-kit", "Luna K7", True, SOFTWARE),
        ("p11-kit", "YubiHSM", False, HARDWARE),
        # An enclave's module may still carry the name of what it was made from.
        ("sgx-ctk", "SoftHSM v2", True, HARDWARE),
        ("softhsm2", "YubiHSM", True, SOFTWARE),
    ],
)
def test_what_a_token_is_worth_follows_from_its_profile_and_model(
    name: str, model: str, flag: bool, expected: Assurance
) -> None:
    assert assurance_of(PROFILES[name], model, hardware_flag=flag) is expected
